//! Jobs in the transaction of the change that wants them.

use queue::{EnqueueError, JobId, NewJob};
use store::Tx;

/// As [`queue::enqueue`], except that workers are told after the commit where the database has a bell (`Db::ringing`): then
/// commits need not wait for one another.
pub async fn enqueue(tx: &mut Tx, jobs: &[NewJob]) -> Result<Vec<JobId>, EnqueueError> {
    if !tx.has_bell() {
        return queue::enqueue(tx, jobs).await;
    }
    let added = queue::add(tx, jobs).await?;
    tx.ring(added.rings);
    Ok(added.ids)
}
