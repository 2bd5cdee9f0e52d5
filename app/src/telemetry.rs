//! Logs on standard error: structured, with the trace id in the span of each request and job.

use crate::config::Config;
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

pub fn start(config: &Config) {
    let filter = EnvFilter::new(&config.log);
    let registry = tracing_subscriber::registry().with(filter);
    if config.log_json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    } else {
        let layer =
            fmt::layer().compact().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        registry.with(layer).init();
    }
}
