//! What the workers know together about the peer of a channel: see `domain::gate`.

use crate::{Result, Tx};
use domain::ChannelId;
use domain::gate::Gate;

/// As it is, without holding it; `None`: there was never any trouble.
pub async fn find(tx: &mut Tx, channel: ChannelId) -> Result<Option<Gate>> {
    Ok(sqlx::query_as!(
        Gate,
        "select not_before, line_end, paced_until, failures, failing_since from channel_gates where channel_id = $1",
        channel.0,
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// Held until the end of the transaction; made when it is not there.
pub async fn hold(tx: &mut Tx, channel: ChannelId) -> Result<Gate> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into channel_gates (organization_id, channel_id) values ($1, $2)
         on conflict on constraint channel_gates_pkey do nothing",
        organization.0,
        channel.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(sqlx::query_as!(
        Gate,
        "select not_before, line_end, paced_until, failures, failing_since from channel_gates
          where channel_id = $1 for update",
        channel.0,
    )
    .fetch_one(&mut **tx)
    .await?)
}

pub async fn update(tx: &mut Tx, channel: ChannelId, gate: &Gate) -> Result<()> {
    sqlx::query!(
        "update channel_gates
            set not_before = $2, line_end = $3, paced_until = $4, failures = $5, failing_since = $6
          where channel_id = $1",
        channel.0,
        gate.not_before,
        gate.line_end,
        gate.paced_until,
        gate.failures,
        gate.failing_since,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The channel leads somewhere else now: what is known of it is no longer true.
pub async fn forget(tx: &mut Tx, channel: ChannelId) -> Result<()> {
    sqlx::query!("delete from channel_gates where channel_id = $1", channel.0).execute(&mut **tx).await?;
    Ok(())
}
