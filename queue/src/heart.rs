//! The heartbeat: keeps the lease of everything this process has claimed, and learns which jobs are to be cancelled.

use crate::admit;
use crate::config::LaneConfig;
use crate::held::{Claim, Held, Stop};
use crate::limit::Declared;
use crate::listener::Waker;
use crate::plumbing::{Plumbing, jittered};
use crate::retention::Retentions;
use crate::transport::link::Broker;
use sqlx::{Connection, PgConnection, Row};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

/// Who this process is at the moment. A new one whenever it was declared lost, so that old claims stay lost.
#[derive(Debug)]
pub(crate) struct Incarnation(RwLock<Uuid>);

impl Incarnation {
    pub fn new() -> Self {
        Incarnation(RwLock::new(Uuid::now_v7()))
    }

    pub fn current(&self) -> Uuid {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self) -> Uuid {
        let fresh = Uuid::now_v7();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        fresh
    }
}

pub(crate) struct Heart {
    pub name: String,
    pub lanes: Vec<LaneConfig>,
    /// The limits of the kinds it knows.
    pub limits: Arc<[Declared]>,
    /// And how long the history of each is kept.
    pub retentions: Retentions,
    /// As this process sees it: kept in the worker's row, for whoever lists the lanes.
    pub broker: Option<Arc<Broker>>,
    pub lease: Duration,
    pub beat: Duration,
    /// A connection of its own: a busy pool must not cost leases.
    pub plumbing: Plumbing,
    pub incarnation: Arc<Incarnation>,
    pub held: Arc<Held>,
    /// Beat now: a cancellation was asked for.
    pub wake: Arc<Notify>,
    /// Whether the database answers: false when no beat was answered for half of the lease (at least 5 s).
    pub pulse: watch::Sender<bool>,
    /// Told when the process may claim (again).
    pub registered: Vec<Arc<Waker>>,
    pub stop: CancellationToken,
}

enum Beat {
    Alive { cancel: Vec<Claim> },
    Lost,
}

impl Heart {
    pub async fn run(self) {
        let mut registered = false;
        // Of the last beat that was answered; measured from before it was sent.
        let mut alive_since = Instant::now();
        let mut failures = 0u32;
        loop {
            let sent = Instant::now();
            let answer = self.ask(registered, alive_since).await;
            let is_answered = answer.is_ok() || sent < alive_since + self.silence();
            self.pulse.send_if_modified(|pulse| std::mem::replace(pulse, is_answered) != is_answered);
            let wait = match answer {
                Ok(Beat::Alive { cancel }) => {
                    if !registered {
                        registered = true;
                        info!(worker = %self.incarnation.current(), lanes = ?self.lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(), "worker registered");
                        self.registered.iter().for_each(|lane| lane.wake(true));
                    }
                    if failures > 0 {
                        self.registered.iter().for_each(|lane| lane.wake(true));
                    }
                    failures = 0;
                    alive_since = sent;
                    self.held.cancel(&cancel);
                    jittered(self.beat)
                }
                Ok(Beat::Lost) => {
                    warn!(worker = %self.incarnation.current(), "declared lost: running jobs are stopped, their results refused");
                    self.held.stop_all(Stop::Lost);
                    self.incarnation.renew();
                    registered = false;
                    Duration::ZERO
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(%error, "heartbeat failed; trying again");
                    }
                    (self.beat / 5).min(Duration::from_secs(1))
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.wake.notified(), if registered => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One beat. When the lease runs out before the answer comes (a connection may be silent for long before it is known to
    /// be dead), others may run our jobs: what runs here is told to stop.
    async fn ask(&self, registered: bool, alive_since: Instant) -> Result<Beat, sqlx::Error> {
        if !registered {
            return self.register().await;
        }
        let beat = self.beat();
        tokio::pin!(beat);
        let (silent, end) = (alive_since + self.silence(), alive_since + self.lease - self.lease / 8);
        let (mut is_told, mut is_stopped) = (false, false);
        loop {
            tokio::select! {
                answer = &mut beat => return answer,
                () = tokio::time::sleep_until(silent.into()), if !is_told => {
                    is_told = true;
                    self.pulse.send_if_modified(|pulse| std::mem::replace(pulse, false));
                }
                () = tokio::time::sleep_until(end.into()), if !is_stopped => {
                    is_stopped = true;
                    warn!("no heartbeat was answered for nearly the whole lease: running jobs are stopped");
                    self.held.stop_all(Stop::Lost);
                }
            }
        }
    }

    /// After so long without an answer the database is taken for silent.
    fn silence(&self) -> Duration {
        (self.lease / 2).max(Duration::from_secs(5))
    }

    async fn register(&self) -> Result<Beat, sqlx::Error> {
        let (id, name) = (self.incarnation.current(), self.name.clone());
        let (lanes, limits, retentions) = (self.lanes.clone(), self.limits.clone(), self.retentions.clone());
        let broker = self.sight();
        self.plumbing
            .run(move |connection| {
                Box::pin(async move {
                    declare(connection, &limits).await?;
                    retentions.declare(connection).await?;
                    sqlx::query(
                        "with lanes as ( \
                           insert into queue.lanes as l (name, at_once, transport) \
                           select * from unnest($3::text[], $4::int4[], $5::text[]) \
                           on conflict (name) do update \
                           set transport = excluded.transport, at_once = coalesce(excluded.at_once, l.at_once), \
                               changed_at = clock_timestamp() \
                           where l.transport <> excluded.transport or l.at_once is distinct from coalesce(excluded.at_once, l.at_once)) \
                         insert into queue.workers (id, name, lanes, broker) values ($1, $2, $3, $6) \
                         on conflict (id) do update set beat_at = clock_timestamp()",
                    )
                    .bind(id)
                    .bind(name)
                    .bind(lanes.iter().map(|lane| lane.name.clone()).collect::<Vec<_>>())
                    .bind(lanes.iter().map(|lane| lane.at_once.map(|jobs| jobs as i32)).collect::<Vec<_>>())
                    .bind(lanes.iter().map(|lane| lane.transport.as_str()).collect::<Vec<_>>())
                    .bind(broker)
                    .execute(connection)
                    .await?;
                    Ok(Beat::Alive { cancel: Vec::new() })
                })
            })
            .await
    }

    fn sight(&self) -> Option<&'static str> {
        self.broker.as_ref().map(|broker| broker.sight().as_str())
    }

    async fn beat(&self) -> Result<Beat, sqlx::Error> {
        let (id, broker) = (self.incarnation.current(), self.sight());
        let running: Vec<i32> =
            self.lanes.iter().map(|lane| self.held.running_in(&lane.name) as i32).collect();
        self.plumbing
            .run(move |connection| {
                Box::pin(async move {
                    let beaten = sqlx::query(
                        "update queue.workers set beat_at = clock_timestamp(), broker = $2, running = $3 where id = $1",
                    )
                    .bind(id)
                    .bind(broker)
                    .bind(running)
                    .execute(&mut *connection)
                    .await?;
                    if beaten.rows_affected() == 0 {
                        return Ok(Beat::Lost);
                    }
                    let rows =
                        sqlx::query("select id, run from queue.jobs where cancel_requested and worker = $1")
                            .bind(id)
                            .fetch_all(&mut *connection)
                            .await?;
                    let cancel = rows
                        .iter()
                        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                        .collect::<Result<_, sqlx::Error>>()?;
                    Ok(Beat::Alive { cancel })
                })
            })
            .await
    }

    /// The end of the incarnation; its claims have been completed or given back before.
    pub async fn sign_off(plumbing: &Plumbing, worker: Uuid) {
        let done =
            plumbing.run(move |connection| Box::pin(async move { sign_off(connection, worker).await })).await;
        if let Err(error) = done {
            warn!(%error, "worker could not sign off; its lease will end");
        }
    }
}

/// Makes the limits those of the program, before it claims anything. What an operator has set instead stays.
pub(crate) async fn declare(connection: &mut PgConnection, limits: &[Declared]) -> Result<(), sqlx::Error> {
    if limits.is_empty() {
        return Ok(());
    }
    let changed: Vec<String> = sqlx::query_scalar(
        "insert into queue.limits as l (name, at_once, per_second, burst) \
         select * from unnest($1::text[], $2::int4[], $3::float8[], $4::int4[]) \
         on conflict (name) do update \
         set at_once = excluded.at_once, per_second = excluded.per_second, burst = excluded.burst, changed_at = clock_timestamp() \
         where (l.at_once, l.per_second, l.burst) is distinct from (excluded.at_once, excluded.per_second, excluded.burst) \
         returning l.name",
    )
    .bind(limits.iter().map(|limit| limit.name.clone()).collect::<Vec<_>>())
    .bind(limits.iter().map(|limit| limit.at_once).collect::<Vec<_>>())
    .bind(limits.iter().map(|limit| limit.per_second).collect::<Vec<_>>())
    .bind(limits.iter().map(|limit| limit.burst).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    if changed.is_empty() {
        return Ok(());
    }
    admit::fit_buckets(connection, &changed.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Removes a worker that holds nothing any more. Should a claim be left, the row stays, and the rescuer finds the job by it.
///
/// First the lock, then the look: a claim in flight holds the row, and a statement that waits for it would look with the
/// eyes of before.
pub(crate) async fn sign_off(connection: &mut PgConnection, worker: Uuid) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("select from queue.workers where id = $1 for update").bind(worker).execute(&mut *tx).await?;
    sqlx::query(
        "delete from queue.workers where id = $1 and not exists \
         (select from queue.jobs where state = 'ready' and worker = $1)",
    )
    .bind(worker)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
