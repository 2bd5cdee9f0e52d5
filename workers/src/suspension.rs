//! What arrives for an organization that is suspended is kept and waits until it goes on.

use domain::InboxId;
use queue::Outcome;
use std::time::Duration;
use store::Tx;

/// After this it is looked again whether the organization goes on.
const PATIENCE: Duration = Duration::from_secs(300);

/// The end of a run that has nothing to do for now, if the organization is suspended; the row says what it waits for. Commits.
pub async fn waits(mut tx: Tx, inbox: InboxId) -> anyhow::Result<Result<Tx, Outcome>> {
    let Some(reason) = store::organizations::suspended_for(&mut tx).await? else {
        return Ok(Ok(tx));
    };
    store::inbox::note(&mut tx, inbox, &format!("waits: the organization is suspended ({reason})")).await?;
    tx.commit().await?;
    Ok(Err(Outcome::Snooze(PATIENCE)))
}
