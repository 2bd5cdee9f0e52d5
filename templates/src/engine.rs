//! Rendering.

use crate::escape::{self, Cut, Escape};
use crate::{Context, catalogue};
use handlebars::Handlebars;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("template {name} has no part {part}")]
    NoPart { name: &'static str, part: String },
    #[error("template {name}: {source}")]
    Render { name: String, source: Box<handlebars::RenderError> },
    #[error("template {name} is not JSON: {source}")]
    Json { name: String, source: serde_json::Error },
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
    /// Block Kit and Adaptive Cards: JSON whose strings nobody can leave.
    slack: Arc<Handlebars<'static>>,
    teams: Arc<Handlebars<'static>>,
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
        let [mut html, mut plain, mut slack, mut teams] = std::array::from_fn(|_| engine());
        plain.register_escape_fn(handlebars::no_escape);
        slack.register_escape_fn(|text| escape::all(text, escape::slack));
        teams.register_escape_fn(|text| escape::all(text, escape::json));
        for (engine, escape) in [(&mut slack, escape::slack as Escape), (&mut teams, escape::json)] {
            engine.register_helper("cut", Box::new(Cut(escape)));
        }
        for (name, source) in sources() {
            let engine = match ending(name) {
                "html" => &mut html,
                "slack" => &mut slack,
                "teams" => &mut teams,
                _ => &mut plain,
            };
            if let Err(error) = engine.register_template_string(name, source) {
                panic!("template {name}: {error}");
            }
        }
        let [html, plain, slack, teams] = [html, plain, slack, teams].map(Arc::new);
        Templates { html, plain, slack, teams }
    }

    /// Renders one part: `render_part(&context, "text")`.
    pub fn render_part<C: Context>(&self, context: &C, part: &str) -> Result<String, Error> {
        let name = format!("{}.{part}", C::NAME);
        if !C::PARTS.iter().any(|(known, _)| *known == name) {
            return Err(Error::NoPart { name: C::NAME, part: part.to_owned() });
        }
        let engine = match ending(&name) {
            "html" => &self.html,
            "slack" => &self.slack,
            "teams" => &self.teams,
            _ => &self.plain,
        };
        engine.render(&name, context).map_err(|source| Error::Render { name, source: Box::new(source) })
    }

    /// Renders one part that is JSON.
    pub fn render_json<C: Context>(&self, context: &C, part: &str) -> Result<serde_json::Value, Error> {
        let text = self.render_part(context, part)?;
        serde_json::from_str(&text)
            .map_err(|source| Error::Json { name: format!("{}.{part}", C::NAME), source })
    }

    /// Renders a template that has exactly one part.
    pub fn render<C: Context>(&self, context: &C) -> Result<String, Error> {
        match C::PARTS {
            [(full, _)] => self.render_part(context, full.strip_prefix(C::NAME).map_or("", |p| &p[1..])),
            _ => Err(Error::NoPart { name: C::NAME, part: "of its own".to_owned() }),
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

/// The part's name after its last dot decides how it is escaped.
fn ending(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
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
    use crate::mail;
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
        let known: BTreeSet<String> = sources().into_iter().map(|(name, _)| format!("{name}.hbs")).collect();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = BTreeSet::new();
        for folder in std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
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
