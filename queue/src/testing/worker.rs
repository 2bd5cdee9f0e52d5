//! A worker that is moved by hand.

use super::Memory;
use crate::claim::{self, Envelope, Wanted, no_floor};
use crate::completer::{self, Completion, End, Settled};
use crate::config::EngineConfig;
use crate::held::Stop;
use crate::limit::Limits;
use crate::runner::Runner;
use crate::turns::{NOBODY, Turns};
use crate::{Clock, Job, JobId, JobResult, Registry};
use crate::{admit, heart, sweep};
use serde_json::Value;
use sqlx::{Acquire, PgConnection, PgPool};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Claims jobs and runs them when it is told to, with the engine's own rules and statements, in this task. What a running
/// [`Engine`](crate::Engine) on the same database takes first is not its.
///
/// Its methods panic when the database does not answer: a harness that fails is a test that fails.
///
/// ```no_run
/// # use queue::testing::{Ended, Worker};
/// # async fn test<S: Send + Sync + 'static, J: queue::Job>(pool: &sqlx::PgPool, registry: queue::Registry<S>, shared: S) {
/// let mut worker = Worker::on(pool, registry, shared);
/// let performed = worker.perform::<J>().await.expect("a job of this kind");
/// assert!(matches!(performed.end, Ended::Done { .. }), "{performed:?}");
/// worker.drain().await; // and all that it has enqueued
/// # }
/// ```
pub struct Worker<S> {
    place: Place,
    runner: Runner<S>,
    limits: Limits,
    clock: Clock,
    id: Uuid,
    registered: bool,
    turns: HashMap<String, Turns>,
}

#[derive(Clone)]
enum Place {
    Postgres(PgPool),
    Memory(Memory),
}

/// A claimed job that nothing has been done with yet. When it is dropped it stays claimed, as by a process that hangs.
#[derive(Debug)]
pub struct Claimed {
    pub id: JobId,
    /// The fencing token.
    pub run: i64,
    pub kind: String,
    pub attempt: i16,
    envelope: Envelope,
}

/// A run and its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Performed {
    pub id: JobId,
    pub run: i64,
    pub kind: String,
    pub attempt: i16,
    pub end: Ended,
}

/// How a run ended, after the kind's rules were applied to what the handler answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Done {
        result: Option<Value>,
    },
    Cancelled {
        why: String,
    },
    Snoozed {
        delay: Duration,
    },
    /// It failed and will be tried again.
    Retry {
        after: Duration,
        error: String,
    },
    /// A dead letter.
    Dead {
        error: String,
    },
    /// The handler completed it in a transaction that it did not commit: tried again, or a dead letter.
    RolledBack,
    /// Its worker had lost it; nothing was written.
    Refused,
}

impl<S: Send + Sync + 'static> Worker<S> {
    /// On a database.
    pub fn on(pool: &PgPool, registry: Registry<S>, shared: S) -> Worker<S> {
        Worker::at(Place::Postgres(pool.clone()), registry, shared)
    }

    pub fn in_memory(memory: &Memory, registry: Registry<S>, shared: S) -> Worker<S> {
        Worker::at(Place::Memory(memory.clone()), registry, shared)
    }

    fn at(place: Place, registry: Registry<S>, shared: S) -> Worker<S> {
        Worker {
            place,
            limits: registry.limits(),
            runner: Runner::without_engine(registry, shared),
            clock: Clock::new(),
            id: Uuid::now_v7(),
            registered: false,
            turns: HashMap::new(),
        }
    }

    /// Judges due times by this clock; [`Memory`] has its own.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The next job of a kind, if one is ready.
    pub async fn perform<J: Job>(&mut self) -> Option<Performed> {
        self.prepare().await;
        for lane in self.lanes().await {
            if let Some(claimed) = self.claim_of(&lane, &[J::KIND], 1).await.pop() {
                return Some(self.run(claimed).await);
            }
        }
        None
    }

    /// All that is ready, and what that enqueues, until nothing is; in the order in which they ended. What is put off stays put off.
    ///
    /// # Panics
    /// After 100,000 runs: jobs that enqueue themselves have no end.
    pub async fn drain(&mut self) -> Vec<Performed> {
        let mut performed = Vec::new();
        loop {
            self.prepare().await;
            let before = performed.len();
            let kinds = self.runner.registry.kinds();
            for lane in self.lanes().await {
                for claimed in self.claim_of(&lane, &kinds, 1).await {
                    performed.push(self.run(claimed).await);
                }
            }
            if performed.len() == before {
                return performed;
            }
            assert!(performed.len() < 100_000, "no end; do jobs enqueue themselves?");
        }
    }

    /// Takes up to so many jobs of a lane, whoever's turn it is. Each is to be [run](Worker::run), or [ended](Worker::end).
    pub async fn claim(&mut self, lane: &str, room: usize) -> Vec<Claimed> {
        self.prepare().await;
        let kinds = self.runner.registry.kinds();
        self.claim_of(lane, &kinds, room).await
    }

    /// Runs its handler.
    pub async fn run(&mut self, claimed: Claimed) -> Performed {
        self.hear(&claimed).await;
        let completion = self.runner.run(&claimed.envelope).await.expect("a kind that was asked for");
        self.write(claimed, completion).await
    }

    /// Ends it as if its handler had answered this.
    pub async fn end(&mut self, claimed: Claimed, answer: JobResult) -> Performed {
        self.hear(&claimed).await;
        let completion = self.runner.answered(&claimed.envelope, answer).expect("a kind that was asked for");
        self.write(claimed, completion).await
    }

    /// Dies, and is found out at once: what it holds is taken back as from a process that was killed. Afterwards it is another
    /// worker; what it claimed before will be refused.
    pub async fn die(&mut self) {
        let crash_limit = EngineConfig::default().crash_limit;
        match &self.place {
            Place::Memory(memory) => memory.rules().lose(self.id, crash_limit),
            Place::Postgres(pool) => {
                let died = async {
                    let mut connection = pool.acquire().await?;
                    sqlx::query("update queue.workers set beat_at = '-infinity' where id = $1")
                        .bind(self.id)
                        .execute(&mut *connection)
                        .await?;
                    sweep::rescue(&mut connection, Duration::from_secs(60), crash_limit).await?;
                    sweep::cancel_waiting(&mut connection).await
                };
                died.await.expect("the database");
            }
        }
        self.id = Uuid::now_v7();
        self.registered = false;
        self.turns.clear();
    }

    /// Makes ready what is due.
    async fn prepare(&mut self) {
        match &self.place {
            Place::Memory(memory) => memory.rules().promote(),
            Place::Postgres(pool) => {
                let shift = self.clock.shift_ms();
                let prepared = async {
                    let mut connection = pool.acquire().await?;
                    if !self.registered {
                        // A leader nearby must not take its claims for lost.
                        sqlx::query(
                            "insert into queue.workers (id, name, lanes, beat_at) \
                             values ($1, 'by hand', '{}', clock_timestamp() + interval '1 day')",
                        )
                        .bind(self.id)
                        .execute(&mut *connection)
                        .await?;
                        heart::declare(&mut connection, &self.limits.declared()).await?;
                    }
                    while sweep::promote(&mut connection, shift).await? == Some(Duration::ZERO) {}
                    admit::call_all(&mut connection, shift).await
                };
                prepared.await.expect("the database");
                self.registered = true;
            }
        }
    }

    async fn lanes(&self) -> Vec<String> {
        match &self.place {
            Place::Memory(memory) => memory.rules().lanes(),
            Place::Postgres(pool) => {
                let lanes = "select distinct lane from queue.jobs where state = 'ready' and worker is null order by 1";
                sqlx::query_scalar(lanes).fetch_all(pool).await.expect("the database")
            }
        }
    }

    async fn claim_of(&mut self, lane: &str, kinds: &[&str], room: usize) -> Vec<Claimed> {
        let mut turns = self.turns.remove(lane).unwrap_or_default();
        let mut claimed = Vec::new();
        while claimed.len() < room {
            let left = room - claimed.len();
            let heads = match &self.place {
                Place::Memory(memory) => memory.rules().heads(lane, kinds, turns.from()),
                Place::Postgres(pool) => {
                    let mut connection = pool.acquire().await.expect("the database");
                    claim::heads(&mut connection, lane, kinds, turns.from(), no_floor())
                        .await
                        .expect("the database")
                }
            };
            turns.found(&heads, Instant::now(), Duration::ZERO);
            let wanted =
                if turns.several() { Wanted::ByTurns(turns.share(left)) } else { Wanted::InOrder(left) };
            let (any, taken) = match &self.place {
                Place::Memory(memory) => {
                    let taken = memory.rules().claim(lane, self.id, kinds, &wanted);
                    (!taken.is_empty(), taken)
                }
                Place::Postgres(pool) => {
                    let mut connection = pool.acquire().await.expect("the database");
                    self.take(&mut connection, lane, kinds, &wanted).await.expect("the database")
                }
            };
            if !any {
                break;
            }
            turns.served(taken.iter().map(|envelope| envelope.organization.unwrap_or(NOBODY)));
            claimed.extend(taken.into_iter().map(Claimed::of));
        }
        self.turns.insert(lane.to_owned(), turns);
        claimed
    }

    /// Whether there was any, and those that limits let run.
    async fn take(
        &self,
        connection: &mut PgConnection,
        lane: &str,
        kinds: &[&str],
        wanted: &Wanted,
    ) -> Result<(bool, Vec<Envelope>), sqlx::Error> {
        let mut tx = connection.begin().await?;
        let taken = claim::claim(&mut tx, lane, self.id, kinds, wanted, no_floor()).await?;
        let any = !taken.is_empty();
        let taken = admit::admit(&mut tx, &self.limits, taken, self.clock.shift_ms()).await?;
        tx.commit().await?;
        Ok((any, taken))
    }

    /// What the heartbeat tells a run: that somebody wants it to stop.
    async fn hear(&self, claimed: &Claimed) {
        let envelope = &claimed.envelope;
        let cancelled = match &self.place {
            Place::Memory(memory) => memory.rules().is_cancelled(envelope.id, envelope.run),
            Place::Postgres(pool) => sqlx::query_scalar(
                "select exists (select from queue.jobs where id = $1 and run = $2 and cancel_requested)",
            )
            .bind(envelope.id)
            .bind(envelope.run)
            .fetch_one(pool)
            .await
            .expect("the database"),
        };
        if cancelled {
            envelope.sign.stop(Stop::Cancelled);
        }
    }

    async fn write(&self, claimed: Claimed, completion: Completion) -> Performed {
        let inside = matches!(completion.end, End::DoneInside { .. });
        let end = Ended::of(&completion.end);
        let batch = [completion];
        let was_held = match &self.place {
            Place::Memory(memory) => memory.rules().write(&batch) == 1,
            Place::Postgres(pool) => {
                let written = async {
                    let mut connection = pool.acquire().await?;
                    let held = sqlx::query_scalar(
                        "select exists (select from queue.jobs where id = $1 and run = $2 and worker is not null)",
                    )
                    .bind(batch[0].id)
                    .bind(batch[0].run)
                    .fetch_one(&mut *connection)
                    .await?;
                    completer::write(&mut connection, &batch, None, &Settled::default()).await?;
                    completer::call(&mut connection, &batch, self.clock.shift_ms()).await?;
                    Ok::<_, sqlx::Error>(held)
                };
                written.await.expect("the database")
            }
        };
        let end = match (inside, was_held, &self.place) {
            // Its row would be gone, had the handler committed.
            (true, true, Place::Postgres(_)) => Ended::RolledBack,
            (false, false, _) => Ended::Refused,
            _ => end,
        };
        Performed { id: claimed.id, run: claimed.run, kind: claimed.kind, attempt: claimed.attempt, end }
    }
}

impl Claimed {
    fn of(envelope: Envelope) -> Claimed {
        Claimed {
            id: JobId(envelope.id),
            run: envelope.run,
            kind: envelope.kind.clone(),
            attempt: envelope.attempt,
            envelope,
        }
    }
}

impl Ended {
    fn of(end: &End) -> Ended {
        match end {
            End::Done { result } => {
                Ended::Done { result: result.as_ref().and_then(|text| serde_json::from_str(text).ok()) }
            }
            End::Then { .. } | End::DoneInside { .. } => Ended::Done { result: None },
            End::Cancelled { why } => Ended::Cancelled { why: why.clone() },
            End::Snooze { delay } | End::GivenBack { delay, .. } => Ended::Snoozed { delay: *delay },
            End::Retry { delay, error, .. } => Ended::Retry { after: *delay, error: error.clone() },
            End::Dead { error, .. } => Ended::Dead { error: error.clone() },
            End::Interrupted => Ended::Snoozed { delay: Duration::ZERO },
        }
    }
}
