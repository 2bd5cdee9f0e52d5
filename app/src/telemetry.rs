//! Logs on standard error: structured, with the trace id in the span of each request and job.

use crate::config::Config;
use std::io::IsTerminal;
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
        let layer =
            fmt::layer().compact().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        registry.with(layer).init();
    }
}

/// Whatever `RELAYDESK_LOG` asks for.
fn may_be_written(about: &Metadata<'_>) -> bool {
    let library = about.target().split("::").next().unwrap_or_default();
    *about.level() <= Level::INFO || !TALKATIVE.contains(&library)
}
