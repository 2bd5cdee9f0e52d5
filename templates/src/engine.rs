//! Rendering.

use crate::{Context, catalogue, mail};
use handlebars::Handlebars;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("template {name} has no part {part}")]
    NoPart { name: &'static str, part: String },
    #[error("template {name}: {source}")]
    Render {
        name: String,
        source: Box<handlebars::RenderError>,
    },
}

/// The three parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailWords {
    /// One line.
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// All templates, read once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    /// Escapes for HTML.
    html: Arc<Handlebars<'static>>,
    plain: Arc<Handlebars<'static>>,
}

impl Default for Templates {
    fn default() -> Self {
        Templates::new()
    }
}

impl Templates {
    /// # Panics
    /// When a template of this crate has a syntax error; a test constructs it.
    pub fn new() -> Self {
        let (mut html, mut plain) = (engine(), engine());
        plain.register_escape_fn(handlebars::no_escape);
        for (name, source) in sources() {
            let engine = if is_html(name) { &mut html } else { &mut plain };
            if let Err(error) = engine.register_template_string(name, source) {
                panic!("template {name}: {error}");
            }
        }
        Templates {
            html: Arc::new(html),
            plain: Arc::new(plain),
        }
    }

    /// Renders one part: `render_part(&context, "text")`.
    pub fn render_part<C: Context>(&self, context: &C, part: &str) -> Result<String, Error> {
        let name = format!("{}.{part}", C::NAME);
        if !C::PARTS.iter().any(|(known, _)| *known == name) {
            return Err(Error::NoPart {
                name: C::NAME,
                part: part.to_owned(),
            });
        }
        let engine = if is_html(&name) { &self.html } else { &self.plain };
        engine.render(&name, context).map_err(|source| Error::Render {
            name,
            source: Box::new(source),
        })
    }

    /// Renders a template that has exactly one part.
    pub fn render<C: Context>(&self, context: &C) -> Result<String, Error> {
        match C::PARTS {
            [(full, _)] => self.render_part(context, full.strip_prefix(C::NAME).map_or("", |p| &p[1..])),
            _ => Err(Error::NoPart {
                name: C::NAME,
                part: "of its own".to_owned(),
            }),
        }
    }

    /// Renders the parts `subject`, `text` and `html`.
    pub fn render_mail<C: Context>(&self, context: &C) -> Result<MailWords, Error> {
        Ok(MailWords {
            subject: one_line(&self.render_part(context, "subject")?),
            text: self.render_part(context, "text")?,
            html: self.render_part(context, "html")?,
        })
    }
}

fn engine() -> Handlebars<'static> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    engine.set_prevent_indent(true);
    engine
}

fn is_html(name: &str) -> bool {
    name.ends_with(".html")
}

fn sources() -> Vec<(&'static str, &'static str)> {
    macro_rules! collect {
        ($($context:ty),+ $(,)?) => {{
            let mut all = Vec::new();
            $(all.extend_from_slice(<$context as Context>::PARTS);)+
            all
        }};
    }
    catalogue!(collect)
}

/// A subject has no line breaks, whatever was put into it.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Write;

    fn rendered<C: Context>(templates: &Templates, out: &mut String) {
        let samples = C::samples();
        assert!(!samples.is_empty(), "{} has no samples", C::NAME);
        for (i, sample) in samples.iter().enumerate() {
            for (full, _) in C::PARTS {
                let part = full.strip_prefix(C::NAME).unwrap().strip_prefix('.').unwrap();
                let text = templates.render_part(sample, part).unwrap();
                writeln!(out, "=== {full} sample {}\n{text}", i + 1).unwrap();
            }
        }
    }

    #[test]
    fn every_sample_of_every_template_renders() {
        let templates = Templates::new();
        let mut out = String::new();
        macro_rules! all {
            ($($context:ty),+ $(,)?) => { $(rendered::<$context>(&templates, &mut out);)+ };
        }
        catalogue!(all);
        insta::assert_snapshot!("samples", out);
    }

    #[test]
    fn every_file_belongs_to_a_template() {
        let known: BTreeSet<String> = sources()
            .into_iter()
            .map(|(name, _)| format!("{name}.hbs"))
            .collect();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = BTreeSet::new();
        for folder in std::fs::read_dir(root)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.is_dir())
        {
            for file in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
                if file.extension().is_some_and(|e| e == "hbs") {
                    on_disk.insert(file.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        assert_eq!(known, on_disk);
    }

    #[test]
    fn html_parts_escape_and_subjects_are_one_line() {
        let templates = Templates::new();
        let context = mail::PublicReply {
            number: "INC0000001".into(),
            title: "a\r\nBcc: x@y.z".into(),
            author: "<script>".into(),
            body: "1 < 2".into(),
        };
        let mail = templates.render_mail(&context).unwrap();
        assert!(!mail.subject.contains(['\r', '\n']));
        assert!(!mail.html.contains("<script>"));
        assert!(mail.text.contains("1 < 2"));
    }
}
