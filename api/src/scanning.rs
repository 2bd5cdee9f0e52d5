//! The one door through which bytes that came from outside leave to a person: attachments and raw mails and payloads.
//!
//! Where the operator has a scanner (`RELAYDESK_CLAMD`) they leave when it has found nothing in them, and not otherwise: also not when it
//! cannot be asked. A test of the house sees to it that no route opens files past this door.

use crate::{ApiResult, AppState, Caller, Problem};
use actions::file_scans;
use connectors::clamd::{Error, Scanner, Verdict};
use domain::TicketId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::SeekFrom;
use store::attachments::Attachment;
use store::file_scans::FileScan;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt};

/// Seconds after which a caller may ask again when the scanner could not be.
const AGAIN: u32 = 30;

/// The file, if it may be handed out.
pub(crate) async fn attachment(state: &AppState, caller: &Caller, file: &Attachment) -> ApiResult<File> {
    let mut blob = state.blobs.open(caller.organization(), &file.sha256).await?;
    if let Some(scanner) = &state.scanner {
        let place = (Some(file.ticket), json!({"ticket": file.ticket, "attachment": file.id}));
        if judge(state, scanner, caller, &file.sha256, place, &mut blob).await? {
            blob.seek(SeekFrom::Start(0)).await.map_err(store::Error::from)?;
        }
    }
    Ok(blob)
}

/// What came in and was kept as it was, if it may be handed out.
pub(crate) async fn kept(
    state: &AppState,
    caller: &Caller,
    inbox: store::inbox::Inbox,
) -> ApiResult<Vec<u8>> {
    if let Some(scanner) = &state.scanner {
        let sha256 = hex::encode(Sha256::digest(&inbox.raw));
        let place = (inbox.entry.ticket, json!({"ticket": inbox.entry.ticket, "inbox": inbox.entry.id}));
        judge(state, scanner, caller, &sha256, place, &mut &inbox.raw[..]).await?;
    }
    Ok(inbox.raw)
}

/// Refuses unless there is a good verdict that still holds, or a good one now. Answers whether the bytes were read for that.
async fn judge(
    state: &AppState,
    scanner: &Scanner,
    caller: &Caller,
    sha256: &str,
    place: (Option<TicketId>, Value),
    bytes: &mut (impl AsyncRead + Unpin),
) -> ApiResult<bool> {
    let mut tx = caller.begin(state).await?;
    let standing = file_scans::standing(&mut tx, sha256).await?;
    let asked_at = tx.now();
    // Nobody holds a connection while the scanner thinks.
    drop(tx);
    if let Some(scan) = standing {
        return allowed(&scan).map(|()| false);
    }
    let found = match scanner.scan(bytes).await {
        Ok(Verdict::Clean) => None,
        Ok(Verdict::Found(name)) => Some(name),
        Err(Error::File(error)) => return Err(Problem::internal(&error)),
        Err(error) => {
            tracing::warn!(%error, sha256, "a file could not be scanned, and was not handed out");
            let why = match error {
                Error::TooLarge => "it is larger than the operator's scanner takes",
                _ => "the scanner cannot be asked whether it is harmless",
            };
            return Err(Problem::unavailable(format!("{why}: it is not handed out; try again later"), AGAIN));
        }
    };
    let mut tx = caller.begin(state).await?;
    let scan = file_scans::judged(&mut tx, &caller.actor(), sha256, found, asked_at, place).await?;
    tx.commit().await?;
    allowed(&scan).map(|()| true)
}

fn allowed(scan: &FileScan) -> ApiResult<()> {
    scan.found.as_ref().map_or(Ok(()), |found| Err(Problem::infected_file(found)))
}
