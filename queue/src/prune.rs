//! What the leader clears away, one step after the other. Each step is a piece of work that ends within the limit of an engine
//! statement; one that found more than a piece is done again at once, and one that fails does not hold up the others for long.

use crate::leader::PRUNE;
use crate::plumbing::{is_locked, jittered};
use crate::retention::Keep;
use crate::{admit, batch, news, sweep, unique};
use futures::future::BoxFuture;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, Row};
use std::time::Duration;
use tracing::{info, warn};

/// Partitions are made so many days ahead: a leader that is missing for less leaves nothing to the rest.
const AHEAD: i32 = 7;
/// How often, and after which pause, the lock for dropping a partition is asked for before the next hour's turn.
const TRIES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);
/// Dead letters that are put away in one transaction.
const DEAD: i64 = 500;
/// A step that failed so often is left to the next hour.
const FAILURES: u32 = 3;

/// Does one piece; true when there may be more.
type Step = for<'c> fn(&'c mut PgConnection, Keep) -> BoxFuture<'c, Result<bool, sqlx::Error>>;

const STEPS: &[Step] = &[
    |c, _| Box::pin(make_partition(c)),
    |c, keep| Box::pin(drop_partitions(c, keep)),
    |c, _| Box::pin(async move { sweep::adopt(c).await.map(|()| false) }),
    |c, _| Box::pin(async move { admit::forget_idle(c).await.map(|_| false) }),
    |c, _| Box::pin(unique::forget(c)),
    |c, _| Box::pin(news::forget(c)),
    |c, _| Box::pin(async move { batch::reconcile(c).await.map(|_| false) }),
    |c, keep| Box::pin(async move { batch::forget(c, interval(keep.longest())).await }),
    |c, keep| Box::pin(put_away_dead(c, keep.dead)),
];

/// Where the pruner stands.
#[derive(Debug, Default)]
pub(crate) struct Round {
    step: usize,
    /// Of this step, the present try included: one that takes too long is thrown away and tells nobody.
    tries: u32,
}

impl Round {
    /// The next piece; the work answers [`Round::done`]. `None`: the last of the round was given up.
    pub fn begin(&mut self) -> Option<usize> {
        self.tries += 1;
        if self.tries > FAILURES {
            warn!(step = self.step, "a step of pruning failed repeatedly and is left to the next hour");
            self.step = (self.step + 1) % STEPS.len();
            self.tries = u32::from(self.step > 0);
            if self.step == 0 {
                return None;
            }
        }
        Some(self.step)
    }

    /// How long until the next piece.
    pub fn done(&mut self, more: bool) -> Duration {
        self.tries = 0;
        if more {
            return Duration::ZERO;
        }
        self.step = (self.step + 1) % STEPS.len();
        if self.step == 0 { rest() } else { Duration::ZERO }
    }
}

/// From one round to the next.
pub(crate) fn rest() -> Duration {
    jittered(PRUNE)
}

pub(crate) async fn piece(
    connection: &mut PgConnection,
    step: usize,
    keep: Keep,
) -> Result<bool, sqlx::Error> {
    STEPS[step](connection, keep).await
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// One at a time: while it is attached, the rest is looked through, and whoever ends a job into it waits.
async fn make_partition(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let made: Option<String> =
        sqlx::query_scalar("select queue.make_partition($1)").bind(AHEAD).fetch_one(connection).await?;
    Ok(made.is_some())
}

/// One after the other, each by itself: whoever ends a job waits while one is being dropped. When somebody reads the history for long, that is
/// for another time.
async fn drop_partitions(connection: &mut PgConnection, keep: Keep) -> Result<bool, sqlx::Error> {
    for (shelf, keep) in keep.shelves() {
        let mut tries = 0;
        loop {
            let dropped: Result<Option<String>, sqlx::Error> =
                sqlx::query_scalar("select queue.drop_partition($1, $2)")
                    .bind(shelf)
                    .bind(interval(keep))
                    .fetch_one(&mut *connection)
                    .await;
            match dropped {
                Ok(None) => break,
                Ok(Some(partition)) => {
                    info!(partition, "history was dropped: its time was over");
                    return Ok(true);
                }
                Err(error) if is_locked(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if is_locked(&error) => {
                    warn!(
                        shelf,
                        "old history is not dropped: somebody reads it for long; tried again within the hour"
                    );
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

/// Dead letters that nobody wanted; the history tells of them.
async fn put_away_dead(connection: &mut PgConnection, dead: Duration) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query(
        "select count(*) from queue.put_away(array( \
           select id from queue.jobs where state = 'dead' and due_at < (select clock_timestamp() - $1) limit $2 for update skip locked), \
           array['dead'], 'discarded', null)",
    )
    .bind(interval(dead))
    .bind(DEAD)
    .fetch_one(connection)
    .await?;
    let gone: i64 = gone.try_get(0)?;
    if gone > 0 {
        warn!(jobs = gone, "dead letters were put away: their time was over");
    }
    Ok(gone == DEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps that were begun until the round rested, of which `bad` always fails.
    fn round(bad: usize) -> Vec<usize> {
        let (mut round, mut begun) = (Round::default(), Vec::new());
        while let Some(step) = round.begin() {
            begun.push(step);
            if step != bad && round.done(false) > Duration::ZERO {
                break;
            }
        }
        begun
    }

    #[test]
    fn a_step_that_always_fails_is_left_to_the_next_round() {
        let each =
            |bad: usize| (0..STEPS.len()).flat_map(move |step| vec![step; if step == bad { 3 } else { 1 }]);
        for bad in [2, STEPS.len() - 1, STEPS.len()] {
            assert_eq!(round(bad), each(bad).collect::<Vec<_>>());
        }
    }
}
