//! What every place for jobs has to do: the in-memory one, Postgres, Postgres with RabbitMQ. `properties` is written once and runs
//! on each with its workers; `model` compares Postgres with the in-memory one step by step, over random histories.
//!
//! `RELAYDESK_CONFORMANCE=500` asks for so many random cases instead of a few.

mod backends;
mod model;
mod play;
mod properties;

/// Random cases of each property.
pub fn cases(few: u32) -> u32 {
    let wanted = std::env::var_os("RELAYDESK_CONFORMANCE").and_then(|cases| cases.into_string().ok());
    wanted.and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

/// A runner that stores nothing and says the same each time it fails.
pub fn runner(few: u32) -> proptest::test_runner::TestRunner {
    let config = proptest::test_runner::Config {
        cases: cases(few),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Default::default()
    };
    proptest::test_runner::TestRunner::new(config)
}
