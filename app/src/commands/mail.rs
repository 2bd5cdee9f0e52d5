//! `relaydesk mail ingest`: mail from a pipe or a file, kept before the exit code says so.

use crate::cli::MailCommand;
use crate::say;
use anyhow::{Context, anyhow};
use domain::EmailAddress;
use std::io::Read;
use store::Db;
use store::inbox::Kept;

pub async fn run(command: &MailCommand, db: &Db) -> anyhow::Result<()> {
    let MailCommand::Ingest { mailbox, file } = command;
    let address = EmailAddress::parse(mailbox).map_err(|error| anyhow!("--mailbox: {error}"))?;
    let raw = match file {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => {
            let mut raw = Vec::new();
            std::io::stdin().lock().read_to_end(&mut raw).context("cannot read standard input")?;
            raw
        }
    };
    anyhow::ensure!(!raw.is_empty(), "the message is empty");
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
