//! `relaydesk mail ingest`: mail from a pipe or a file, kept before the exit code says so.

use crate::cli::MailCommand;
use crate::say;
use anyhow::{Context, anyhow};
use domain::EmailAddress;
use std::fs::File;
use std::io::Read;
use store::Db;
use store::inbox::Kept;

/// It will be too large the next time as well.
#[derive(Debug, thiserror::Error)]
#[error("the message is larger than {0} bytes (RELAYDESK_MAX_MESSAGE_BYTES): it was not kept")]
pub struct TooLarge(usize);

/// `limit`: bytes of the largest message that is taken.
pub async fn run(command: &MailCommand, db: &Db, limit: usize) -> anyhow::Result<()> {
    let MailCommand::Ingest { mailbox, file } = command;
    let address = EmailAddress::parse(mailbox).map_err(|error| anyhow!("--mailbox: {error}"))?;
    let (source, name): (Box<dyn Read>, _) = match file {
        Some(path) => {
            let name = path.display().to_string();
            (Box::new(File::open(path).with_context(|| format!("cannot read {name}"))?), name)
        }
        None => (Box::new(std::io::stdin()), "standard input".to_owned()),
    };
    let mut raw = Vec::new();
    // One byte more than allowed is enough to know.
    source.take(limit as u64 + 1).read_to_end(&mut raw).with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(!raw.is_empty(), "the message is empty");
    if raw.len() > limit {
        return Err(TooLarge(limit).into());
    }
    let kept = actions::inbox::ingest(db, &address, &raw, "command").await.map_err(|error| match error {
        actions::Error::NotFound => anyhow!("there is no mailbox {address}"),
        other => anyhow!(other).context("the message could not be kept"),
    })?;
    match kept {
        Kept::New(id) => say!("kept as {id}"),
        Kept::Duplicate(id) => say!("already kept as {id}"),
    }
    Ok(())
}
