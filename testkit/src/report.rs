//! Figures of promises, for the table that `script/faults` prints.

use std::io::Write;

/// Writes what a test has found to standard error, and to the file `RELAYDESK_REPORT` names: one line `promise | what ran | figure`.
///
/// # Panics
/// When that file cannot be written.
pub fn report(promise: &str, ran: &str, figure: impl AsRef<str>) {
    let line = format!("{promise} | {ran} | {}", figure.as_ref());
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("RELAYDESK_REPORT") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("the report");
        writeln!(file, "| {line} |").expect("the report");
    }
}

/// Whether the long variants are wanted (`RELAYDESK_FAULTS=full`, which `script/faults` sets).
pub fn in_full() -> bool {
    std::env::var_os("RELAYDESK_FAULTS").is_some_and(|faults| faults == "full")
}
