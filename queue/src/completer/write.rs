//! The statements of the completer.

use super::{Completion, End, Failure, SHORTER};
use crate::admit;
use crate::batch::{Joined, Member};
use crate::enqueue::{EnqueueError, enqueue_joined};
use crate::held::Claim;
use crate::metrics;
use crate::new_job::NewJob;
use crate::plumbing::is_locked;
use crate::release::{Release, release_all};
use crate::retention::Retention;
use crate::running::{DONE, DONE_KEPT, FINISH, FINISH_LIMITED, FINISH_MEMBERS};
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

/// From so many runs on that ended alike, they have a statement of their own.
const ALIKE: usize = 4;

/// Runs whose end is written, or was refused: nothing is left to do for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled(Arc<Mutex<Vec<Claim>>>);

impl Settled {
    pub fn add<'a>(&self, runs: impl IntoIterator<Item = &'a Completion>) {
        let runs = runs.into_iter().map(Completion::claim);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(runs);
    }

    /// Those that are still to be written.
    pub fn rest_of(&self, batch: &[Completion]) -> Vec<Completion> {
        let settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settled: HashSet<&Claim> = settled.iter().collect();
        batch.iter().filter(|completion| !settled.contains(&completion.claim())).cloned().collect()
    }
}

/// Runs whose lease was lost, told when it is over, also by a failure.
#[derive(Default)]
struct Missed(usize);

impl Missed {
    fn add(&mut self, runs: usize) {
        self.0 += runs;
    }
}

impl Drop for Missed {
    fn drop(&mut self) {
        if self.0 > 0 {
            metrics::FENCED.inc_by(self.0 as u64);
            warn!(missed = self.0, "results of runs whose lease was lost were refused");
        }
    }
}

/// Calls those who wait for what these runs have used.
pub(crate) async fn call(
    connection: &mut PgConnection,
    batch: &[Completion],
    shift_ms: i64,
) -> Result<bool, sqlx::Error> {
    let slots: BTreeSet<&str> =
        batch.iter().flat_map(|completion| completion.slots.iter().map(String::as_str)).collect();
    admit::call(connection, &slots.into_iter().collect::<Vec<_>>(), shift_ms).await
}

/// One statement for everything that is over and alike, one for what else is over, one for everything that goes on; one more for what is over and
/// of a batch, because it may wait for a moment where others leave the same batch. A transaction for each that has something next. Each holds or falls by itself: written
/// twice after a lost answer, the second time finds the runs gone. `settled` has those whose statement was answered, also when a later one
/// fails: they are not to be written again.
///
/// Those of batches, and those with something next, may meet the open transaction of a handler: with `hurry` they wait so long for it, and all
/// together some times as long. Answers those that are still to be written.
pub(crate) async fn write(
    connection: &mut PgConnection,
    batch: &[Completion],
    hurry: Option<Duration>,
    settled: &Settled,
) -> Result<Vec<Completion>, sqlx::Error> {
    let mut late = Vec::new();
    let until = Instant::now() + hurry.unwrap_or_default() * 10;
    let is_over = || hurry.is_some() && Instant::now() > until;
    let (mut finish, mut members) = (Vec::new(), Vec::new());
    let mut release = Vec::new();
    let mut plain: BTreeMap<(i64, Retention), Vec<&Completion>> = BTreeMap::new();
    let mut then = Vec::new();
    for completion in batch {
        let over = if completion.is_member { &mut members } else { &mut finish };
        match &completion.end {
            End::Done { result: None } if completion.slots.is_empty() && !completion.is_member => {
                plain.entry((completion.run, completion.retention)).or_default().push(completion);
            }
            End::Done { result } => over.push((completion, "done", result.as_deref(), None)),
            End::Cancelled { why } => over.push((completion, "cancelled", None, Some(why.as_str()))),
            End::Then { next, last_attempt } => then.push((completion, next, *last_attempt)),
            _ => release.push(Release::of(completion)),
        }
    }
    let mut missed = Missed::default();
    for ((run, retention), done) in plain {
        if done.len() < ALIKE {
            finish.extend(done.into_iter().map(|completion| (completion, "done", None, None)));
            continue;
        }
        let mut ids: Vec<Uuid> = done.iter().map(|completion| completion.id).collect();
        ids.sort_unstable();
        let statement = match retention {
            Retention::None => sqlx::query(DONE).bind(&ids).bind(run),
            kept => sqlx::query(DONE_KEPT).bind(&ids).bind(run).bind(kept.number()),
        };
        let written = statement.execute(&mut *connection).await?;
        missed.add(ids.len().saturating_sub(written.rows_affected() as usize));
        settled.add(done);
    }
    let limited = finish.iter().any(|f| !f.0.slots.is_empty());
    let statement = if limited { FINISH_LIMITED } else { FINISH };
    if !finish.is_empty() {
        missed.add(finish.len() - self::finish(connection, statement, &finish).await?);
        settled.add(finish.iter().map(|over| over.0));
    }
    if !members.is_empty() {
        match finish_members(connection, &members, hurry).await {
            Err(error) if is_locked(&error) => {
                for member in members {
                    if is_over() {
                        late.push(member.0.clone());
                        continue;
                    }
                    match finish_members(connection, &[member], hurry.map(|hurry| hurry.min(SHORTER))).await {
                        Err(error) if is_locked(&error) => late.push(member.0.clone()),
                        finished => {
                            missed.add(1 - finished?);
                            settled.add([member.0]);
                        }
                    }
                }
            }
            finished => {
                missed.add(members.len() - finished?);
                settled.add(members.iter().map(|over| over.0));
            }
        }
    }
    for (completion, next, last_attempt) in then {
        if is_over() {
            late.push(completion.clone());
            continue;
        }
        match finish_then(connection, completion, next, last_attempt, hurry).await {
            Err(error) if is_locked(&error) => late.push(completion.clone()),
            finished => {
                missed.add(usize::from(!finished?));
                settled.add([completion]);
            }
        }
    }
    if !release.is_empty() {
        let expected = release.iter().filter(|r| !r.already_done).count();
        let released = release_all(connection, &release).await?;
        missed.add(expected.saturating_sub(released));
        settled.add(release.iter().map(|release| release.completion));
    }
    // Those that were not tried come first.
    late.reverse();
    Ok(late)
}

async fn finish_members(
    connection: &mut PgConnection,
    members: &[Over<'_>],
    hurry: Option<Duration>,
) -> Result<usize, sqlx::Error> {
    let mut tx = connection.begin().await?;
    wait_shortly(&mut tx, hurry).await?;
    let finished = finish(&mut tx, FINISH_MEMBERS, members).await?;
    tx.commit().await?;
    Ok(finished)
}

async fn wait_shortly(tx: &mut PgConnection, hurry: Option<Duration>) -> Result<(), sqlx::Error> {
    if let Some(hurry) = hurry {
        sqlx::query("select set_config('lock_timeout', $1, true)")
            .bind(hurry.as_millis().to_string())
            .execute(tx)
            .await?;
    }
    Ok(())
}

type Over<'a> = (&'a Completion, &'static str, Option<&'a str>, Option<&'a str>);

async fn finish(
    connection: &mut PgConnection,
    statement: &'static str,
    over: &[Over<'_>],
) -> Result<usize, sqlx::Error> {
    let mut over = over.to_vec(); // in one order everywhere: others may end jobs of the same batch, or abandon it
    over.sort_unstable_by_key(|over| over.0.id);
    let finished: Vec<Uuid> = sqlx::query_scalar(statement)
        .bind(over.iter().map(|over| over.0.id).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.0.run).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.1).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.2).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.3).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.0.retention.number()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(finished.len())
}

/// Ends a run as done and enqueues what comes next, or neither. False: the run was gone.
async fn finish_then(
    connection: &mut PgConnection,
    completion: &Completion,
    next: &[NewJob],
    last_attempt: bool,
    hurry: Option<Duration>,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin().await?;
    wait_shortly(&mut tx, hurry).await?;
    let held = sqlx::query(
        "select from queue.jobs where id = $1 and run = $2 and worker is not null for no key update",
    )
    .bind(completion.id)
    .bind(completion.run)
    .execute(&mut *tx)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(false);
    }
    let member = Member { id: completion.id, run: completion.run };
    let into = completion.is_member.then_some(Joined { batch: None, member: Some(member) });
    match enqueue_joined(&mut tx, next, into).await {
        Ok(_) => {}
        Err(EnqueueError::Database(error)) => return Err(error),
        Err(refused) => {
            tx.rollback().await?;
            let (failure, error) =
                (Failure::Failed, format!("what comes next cannot be enqueued: {refused}"));
            let end = match refused {
                // Nobody waits for its batch any more.
                EnqueueError::BatchClosed => End::Cancelled { why: error },
                _ if last_attempt => End::Dead { failure, error },
                _ => End::Retry { delay: Duration::from_secs(10), failure, error },
            };
            if let End::Cancelled { why } = &end {
                let cancelled = [(completion, "cancelled", None, Some(why.as_str()))];
                return Ok(finish(connection, FINISH_MEMBERS, &cancelled).await? == 1);
            }
            let failed = Completion { end, ..completion.clone() };
            return Ok(release_all(connection, &[Release::of(&failed)]).await? == 1);
        }
    }
    let statement = if completion.is_member { FINISH_MEMBERS } else { FINISH_LIMITED };
    finish(&mut tx, statement, &[(completion, "done", None, None)]).await?;
    tx.commit().await?;
    Ok(true)
}
