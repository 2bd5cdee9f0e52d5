//! What was kept long enough goes. Done by the system itself, and told in the organization's events.

use crate::{Result, events};
use chrono::TimeDelta;
use domain::Actor;
use serde_json::json;
use store::Tx;
pub use store::pruning::Prunable;

/// Rows of one transaction.
pub const PIECE: i64 = 500;

/// Takes away what has been over for `keep`, one piece of it; answers how many rows. [`PIECE`] of them: there may be more.
pub async fn prune(tx: &mut Tx, actor: &Actor, what: Prunable, keep: TimeDelta) -> Result<u64> {
    let before = tx.now() - keep;
    let rows = store::pruning::prune(tx, what, before, PIECE).await?;
    if rows > 0 {
        let payload = json!({"what": what.as_str(), "rows": rows, "over_before": before});
        events::record(tx, actor, "data.pruned", None, payload).await?;
    }
    Ok(rows)
}
