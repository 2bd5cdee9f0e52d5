//! What one process does for all: promotes due jobs, fires schedules, rescues jobs of lost workers, prunes, counts.
//! Leadership is a row with an end time. Two leaders at once would do no harm: every duty locks the rows it moves.

use crate::config::EngineConfig;
use crate::horizon::{self, Watch};
use crate::plumbing::{Patience, Plumbing, jittered};
use crate::prune::{self, Round};
use crate::schedules::{self, Schedule};
use crate::{admin, admit, gauges, metrics, news, sweep};
use futures::future::BoxFuture;
use sqlx::PgConnection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

/// The longest a due job waits to be promoted when nothing told when it is due.
const PROMOTE: Duration = Duration::from_millis(500);
const SCHEDULES: Duration = Duration::from_millis(500);
/// Less than tokens are handed out ahead.
const CALL: Duration = Duration::from_millis(1000);
const GAUGES: Duration = Duration::from_secs(5);
const HORIZON: Duration = Duration::from_secs(15);
pub(crate) const PRUNE: Duration = Duration::from_secs(3600);

pub(crate) struct Leader {
    pub id: Uuid,
    pub config: Arc<EngineConfig>,
    pub plumbing: Plumbing,
    pub built_in: Arc<Vec<Schedule>>,
    pub leading: Arc<AtomicBool>,
    pub stop: CancellationToken,
}

impl Leader {
    /// Seeks leadership for ever; the duties look at `leading`.
    pub async fn run(self) {
        let mut patience = Patience::default();
        let mut until = Instant::now();
        loop {
            let asked = Instant::now();
            let (id, lease) = (self.id, self.config.leader_lease.as_secs_f64());
            let held = self
                .plumbing
                .run(move |connection| Box::pin(async move { hold(connection, id, lease).await }))
                .await;
            match held {
                Ok(true) => {
                    patience.reset();
                    until = asked + self.config.leader_lease;
                    if !self.leading.swap(true, Ordering::AcqRel) {
                        info!("leading: schedules, rescue and pruning");
                        self.begin().await;
                    }
                }
                Ok(false) => {
                    patience.reset();
                    self.resign();
                }
                Err(error) => {
                    if until <= Instant::now() {
                        self.resign();
                    }
                    if !patience.failed("holding the leader's row", &error, &self.stop).await {
                        break;
                    }
                    continue;
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(jittered(self.config.leader_lease / 4)) => {}
            }
        }
        if self.leading.load(Ordering::Acquire) {
            self.resign();
            let id = self.id;
            let _ = self
                .plumbing
                .run(move |connection| Box::pin(async move { let_go(connection, id).await }))
                .await;
        }
    }

    fn resign(&self) {
        if self.leading.swap(false, Ordering::AcqRel) {
            info!("no longer leading");
            gauges::hide();
        }
    }

    async fn begin(&self) {
        let built_in = self.built_in.clone();
        let kept = self
            .plumbing
            .run(move |connection| {
                Box::pin(async move { schedules::keep_built_in(connection, &built_in).await })
            })
            .await;
        if let Err(error) = kept {
            warn!(%error, "built-in schedules could not be kept");
            self.leading.store(false, Ordering::Release); // seek again, keep again
        }
    }
}

async fn hold(connection: &mut PgConnection, id: Uuid, lease: f64) -> Result<bool, sqlx::Error> {
    let held = sqlx::query(
        "insert into queue.leaders as l (name, holder, held_until) \
         values ('leader', $1, clock_timestamp() + make_interval(secs => $2)) \
         on conflict (name) do update set holder = $1, held_until = excluded.held_until \
         where l.holder = $1 or l.held_until < clock_timestamp()",
    )
    .bind(id)
    .bind(lease)
    .execute(connection)
    .await?;
    Ok(held.rows_affected() == 1)
}

async fn let_go(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from queue.leaders where holder = $1").bind(id).execute(connection).await?;
    Ok(())
}

type Work = Arc<
    dyn for<'c> Fn(&'c mut PgConnection, Arc<EngineConfig>) -> BoxFuture<'c, Result<Duration, sqlx::Error>>
        + Send
        + Sync,
>;

/// A duty: work that says how long to wait until it is to be done again.
pub(crate) struct Duty {
    name: &'static str,
    work: Work,
    /// Begins, and begins again after a failure, only when the others had time to say that they live: an outage of the
    /// database silences all of them.
    after_the_others: bool,
}

pub(crate) fn duties() -> Vec<Duty> {
    let horizon = Arc::new(Mutex::new(Watch::default()));
    let round = Arc::new(Mutex::new(Round::default()));
    vec![
        Duty {
            name: "promoting due jobs",
            after_the_others: false,
            work: Arc::new(|c, config| Box::pin(promote(c, config))),
        },
        Duty {
            name: "firing schedules",
            after_the_others: false,
            work: Arc::new(|c, config| Box::pin(fire(c, config))),
        },
        Duty {
            name: "rescuing jobs",
            after_the_others: true,
            work: Arc::new(|c, config| Box::pin(rescue(c, config))),
        },
        Duty {
            name: "calling jobs that wait for limits",
            after_the_others: false,
            work: Arc::new(|c, config| Box::pin(call(c, config))),
        },
        Duty { name: "counting jobs", after_the_others: false, work: Arc::new(|c, _| Box::pin(count(c))) },
        Duty {
            name: "looking who holds back vacuum",
            after_the_others: false,
            work: Arc::new(move |c, config| Box::pin(watch(c, config, horizon.clone()))),
        },
        Duty {
            name: "pruning",
            after_the_others: false,
            work: Arc::new(move |c, config| Box::pin(prune(c, config, round.clone()))),
        },
    ]
}

impl Duty {
    pub async fn run(
        self,
        plumbing: Plumbing,
        config: Arc<EngineConfig>,
        leading: Arc<AtomicBool>,
        stop: CancellationToken,
    ) {
        let mut patience = Patience::default();
        let mut wait = Duration::ZERO;
        let mut rested = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if !leading.load(Ordering::Acquire) {
                (wait, rested) = (Duration::from_millis(100), false);
                continue;
            }
            if self.after_the_others && !std::mem::replace(&mut rested, true) {
                wait = config.lease / 2;
                continue;
            }
            let (work, config) = (self.work.clone(), config.clone());
            match plumbing.run(move |connection| work(connection, config)).await {
                Ok(next) => {
                    patience.reset();
                    wait = next;
                }
                Err(error) => {
                    if !patience.failed(self.name, &error, &stop).await {
                        return;
                    }
                    (wait, rested) = (Duration::ZERO, false);
                }
            }
        }
    }
}

fn shift(config: &EngineConfig) -> i64 {
    config.clock.shift_ms()
}

async fn promote(connection: &mut PgConnection, config: Arc<EngineConfig>) -> Result<Duration, sqlx::Error> {
    let next = sweep::promote(connection, shift(&config)).await?;
    Ok(next.map_or(PROMOTE, |next| next.min(PROMOTE)))
}

async fn fire(connection: &mut PgConnection, config: Arc<EngineConfig>) -> Result<Duration, sqlx::Error> {
    let now = schedules::fire_due(connection, shift(&config)).await?;
    metrics::LAST_TICK.set(now.timestamp());
    Ok(SCHEDULES)
}

async fn rescue(connection: &mut PgConnection, config: Arc<EngineConfig>) -> Result<Duration, sqlx::Error> {
    sweep::rescue(connection, config.lease, config.crash_limit).await?;
    sweep::cancel_waiting(connection).await?;
    admin::pause_drained(connection).await?;
    news::settle(connection).await?;
    admit::reconcile(connection).await?;
    Ok(jittered(config.sweep))
}

async fn call(connection: &mut PgConnection, config: Arc<EngineConfig>) -> Result<Duration, sqlx::Error> {
    let started = Instant::now();
    let more = admit::call_all(connection, shift(&config)).await?;
    Ok(if more { Duration::ZERO } else { CALL.max(started.elapsed() * 5) })
}

async fn count(connection: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let started = Instant::now();
    gauges::show(connection).await?;
    // On a busy server more rarely.
    Ok(GAUGES.max(started.elapsed() * 50))
}

async fn watch(
    connection: &mut PgConnection,
    config: Arc<EngineConfig>,
    watch: Arc<Mutex<Watch>>,
) -> Result<Duration, sqlx::Error> {
    let holders = horizon::holders(connection).await?;
    watch.lock().unwrap_or_else(PoisonError::into_inner).look(&holders, config.xmin_alarm);
    Ok(HORIZON.min(config.xmin_alarm / 4))
}

async fn prune(
    connection: &mut PgConnection,
    config: Arc<EngineConfig>,
    round: Arc<Mutex<Round>>,
) -> Result<Duration, sqlx::Error> {
    let Some(step) = round.lock().unwrap_or_else(PoisonError::into_inner).begin() else {
        return Ok(prune::rest());
    };
    let more = prune::piece(connection, step, config.keep).await?;
    Ok(round.lock().unwrap_or_else(PoisonError::into_inner).done(more))
}
