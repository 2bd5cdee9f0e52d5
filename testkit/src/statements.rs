//! Counts the statements that are sent to the database, by what `sqlx` logs of them.

use std::cell::Cell;
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    static SENT: Cell<usize> = const { Cell::new(0) };
}

/// How many statements this thread has sent since [`count_statements`]: a test on one thread (`#[tokio::test]` as it comes) sees its own.
/// Transactions that were rolled back are not counted: one that only read is rolled back when there is time for it, maybe while the next
/// request runs.
pub fn statements_sent() -> usize {
    SENT.get()
}

/// Begins to count, for the whole process: with the default of one thread, a place that logs for the first time on another one could be
/// taken for unheard for ever.
///
/// # Panics
/// When the process has another subscriber for its log.
pub fn count_statements() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Statements).expect("no other subscriber"));
}

struct Statements;

fn is_statement(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "sqlx::query"
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_statement(metadata)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut rollback = Rollback(false);
        event.record(&mut rollback);
        if is_statement(event.metadata()) && !rollback.0 {
            SENT.set(SENT.get() + 1);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Rollback(bool);

impl Visit for Rollback {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "summary" && format!("{value:?}").contains("rollback") {
            self.0 = true;
        }
    }
}
