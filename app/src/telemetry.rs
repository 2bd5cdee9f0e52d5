//! Logs on standard error: structured, with the trace id in the span of each request and job.

use crate::config::Config;
use std::io::{self, IsTerminal, Write};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Libraries that write whole mails down when they are asked for details; mails have links with which one gets in.
const TALKATIVE: [&str; 2] = ["handlebars", "lettre"];

pub fn start(config: &Config) {
    let filter = EnvFilter::new(&config.log);
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_written));
    if config.log_json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    } else {
        let colours = io::stderr().is_terminal();
        let writer = move || OneLine { inner: io::stderr(), colours };
        registry.with(fmt::layer().compact().with_ansi(colours).with_writer(writer)).init();
    }
}

/// Takes one event at a time, and writes it as one line: what others sent cannot begin a line of its own (ASVS 5.0, 16.4.1).
struct OneLine<W> {
    inner: W,
    /// Then some escape sequences are ours.
    colours: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.inner.write_all(one_line(&String::from_utf8_lossy(event), self.colours).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn one_line(event: &str, colours: bool) -> String {
    let text = event.strip_suffix('\n').unwrap_or(event);
    let mut line = String::with_capacity(event.len() + 1);
    for (at, c) in text.char_indices() {
        // Also what breaks lines elsewhere, or turns the direction of the text.
        let is_odd = c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_odd && !(colours && is_style(&text[at..])) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Whatever `RELAYDESK_LOG` asks for.
fn may_be_written(about: &Metadata<'_>) -> bool {
    let library = about.target().split("::").next().unwrap_or_default();
    *about.level() <= Level::INFO || !TALKATIVE.contains(&library)
}

/// Whether an escape sequence begins here that the formatter writes itself: bold, dim, italic, a colour, or the end of them.
fn is_style(text: &str) -> bool {
    let code = text.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('m')).map(|(code, _)| code);
    matches!(code, Some("0" | "1" | "2" | "3" | "31" | "32" | "33" | "34" | "35" | "36"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        for colours in [false, true] {
            let kept = Kept::default();
            let writer = {
                let kept = kept.clone();
                move || OneLine { inner: kept.clone(), colours }
            };
            let layer = fmt::layer().compact().with_ansi(colours).with_writer(writer);
            let evil =
                "x\r\n2026-01-01T00:00:00Z  INFO logged in user=admin\u{85}\u{2028}\u{202e}\u{1b}[2J\u{0}";
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let span = tracing::info_span!("request", path = evil);
                let _inside = span.enter();
                tracing::warn!(error = %evil, raw = ?evil, field = evil, "{evil}");
                tracing::info!("über 1 Zeile");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{text:?}");
            assert!(text.contains("über 1 Zeile"), "{text:?}");
            assert!(!text.contains(['\r', '\u{85}', '\u{2028}', '\u{202e}', '\u{0}']), "{text:?}");
            assert!(!text.contains("\u{1b}[2J") && text.contains("\\r\\n2026"), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), colours, "{text:?}");
        }
    }
}
