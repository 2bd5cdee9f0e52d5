//! What the engine promises under faults, with real processes and real servers. Each test has a short variant, and a long one
//! for `script/faults` (`testkit::in_full`); both report their figures, which docs/promises.md keeps.

mod crash;
mod field;
mod history_full;
mod kill;
mod long_transaction;
mod network;
mod noisy;
mod poison;
mod worker;
