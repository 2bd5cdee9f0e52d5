//! Verdicts of a scanner about bytes that came from outside.

use crate::{Result, audit, events};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Actor, TicketId};
use serde_json::{Value, json};
use store::Tx;
use store::file_scans::FileScan;

/// How long a verdict holds: signatures get newer, and what they found by mistake is taken back.
pub const HOLDS: TimeDelta = TimeDelta::hours(24);

/// The verdict about these bytes, if there is one that still holds.
pub async fn standing(tx: &mut Tx, sha256: &str) -> Result<Option<FileScan>> {
    let known = store::file_scans::of(tx, &[sha256.to_owned()]).await?.pop();
    Ok(known.filter(|scan| scan.scanned_at + HOLDS > tx.now()))
}

/// Keeps what the scanner said of what it was given at `asked_at`, and answers what stands then: that of a scan which began later, if there is
/// one. What it found is told: to who follows the ticket's events, and to the audit log. `where_it_is` holds ids of what the bytes belong to, and no
/// names: those of a file may be confidential.
pub async fn judged(
    tx: &mut Tx,
    actor: &Actor,
    sha256: &str,
    found: Option<String>,
    asked_at: DateTime<Utc>,
    (ticket, where_it_is): (Option<TicketId>, Value),
) -> Result<FileScan> {
    let scan = FileScan { sha256: sha256.to_owned(), found, scanned_at: asked_at };
    let is_news = store::file_scans::put(tx, &scan).await?;
    if let Some(found) = scan.found.as_ref().filter(|_| is_news) {
        let mut told = json!({"sha256": sha256, "found": found});
        if let (Value::Object(told), Value::Object(ids)) = (&mut told, where_it_is) {
            told.extend(ids);
        }
        audit::security(tx, actor, "file.infected", None, told.clone()).await?;
        events::record(tx, actor, "file.infected", ticket, told).await?;
    }
    Ok(store::file_scans::of(tx, std::slice::from_ref(&scan.sha256)).await?.pop().unwrap_or(scan))
}
