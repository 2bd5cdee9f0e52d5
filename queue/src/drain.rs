//! Runs what is pending, now and in this task: for tests of whole stories, and for administration without workers.

use crate::Clock;
use crate::admit;
use crate::claim::{self, Envelope, Wanted, no_floor};
use crate::completer::{self, Completion, End, Settled};
use crate::heart;
use crate::limit::Limits;
use crate::registry::Registry;
use crate::runner::Runner;
use crate::sweep;
use sqlx::{Connection, PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;

/// Claimed from a lane at once, and run together: fewer than a pool has connections.
const BATCH: usize = 10;

/// What [`Drain::run`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    pub runs: u64,
    pub done: u64,
    pub cancelled: u64,
    /// Snoozed, or to be tried again later.
    pub later: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("{kind} {id} is a dead letter after attempt {attempt}: {error}")]
    Dead { kind: String, id: Uuid, attempt: i16, error: String },
    #[error("no end after {0} runs; do jobs enqueue themselves?")]
    Endless(u64),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Drains a database with the engine's own statements and the same rules as its workers.
pub struct Drain<S> {
    runner: Runner<S>,
    limits: Limits,
    clock: Clock,
    retries: bool,
    limit: u64,
}

impl<S: Send + Sync + 'static> Drain<S> {
    pub fn new(registry: Registry<S>, shared: S) -> Self {
        Drain {
            limits: registry.limits(),
            runner: Runner::without_engine(registry, shared),
            clock: Clock::new(),
            retries: false,
            limit: 100_000,
        }
    }

    /// Judges due times by this clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Tries failed jobs again at once instead of leaving them for later.
    #[must_use]
    pub fn with_retries(mut self) -> Self {
        self.retries = true;
        self
    }

    /// Runs jobs, also those that they enqueue, until none of a known kind is ready. The first dead letter is an error.
    pub async fn run(&self, pool: &PgPool) -> Result<Drained, DrainError> {
        let mut connection = pool.acquire().await?;
        let worker = Uuid::now_v7();
        // So that a leader nearby does not take these claims for lost, the lease of this worker lies far ahead.
        sqlx::query("insert into queue.workers (id, name, lanes, beat_at) values ($1, 'drain', '{}', now() + interval '1 hour')")
            .bind(worker)
            .execute(&mut *connection)
            .await?;
        heart::declare(&mut connection, &self.limits.declared()).await?;
        let drained = self.all(&mut connection, worker).await;
        heart::sign_off(&mut connection, worker).await?;
        drained
    }

    async fn all(&self, connection: &mut PgConnection, worker: Uuid) -> Result<Drained, DrainError> {
        let mut drained = Drained::default();
        loop {
            if self.retries {
                sqlx::query("update queue.jobs set due_at = clock_timestamp() where state = 'scheduled' and attempt > 0")
                    .execute(&mut *connection)
                    .await?;
            }
            while sweep::promote(connection, self.clock.shift_ms()).await? == Some(Duration::ZERO) {}
            admit::call_all(connection, self.clock.shift_ms()).await?;
            let (claimed, batch) = self.claim(connection, worker).await?;
            if claimed == 0 {
                return Ok(drained);
            }
            let ends =
                futures::future::join_all(batch.iter().map(|envelope| self.runner.run(envelope))).await;
            let ends: Vec<Completion> = ends.into_iter().flatten().collect();
            completer::write(connection, &ends, None, &Settled::default()).await?;
            for (envelope, completion) in batch.iter().zip(&ends) {
                count(&mut drained, envelope, completion)?;
            }
            if drained.runs > self.limit {
                return Err(DrainError::Endless(drained.runs));
            }
        }
    }

    async fn claim(
        &self,
        connection: &mut PgConnection,
        worker: Uuid,
    ) -> Result<(usize, Vec<Envelope>), DrainError> {
        let kinds = self.runner.registry.kinds();
        let mut tx = connection.begin().await?;
        let lanes: Vec<String> = sqlx::query_scalar(
            "select distinct lane from queue.jobs where state = 'ready' and worker is null",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut batch = Vec::new();
        for lane in lanes {
            batch.extend(
                claim::claim(&mut tx, &lane, worker, &kinds, &Wanted::InOrder(BATCH), no_floor()).await?,
            );
        }
        tx.commit().await?;
        let claimed = batch.len();
        let shift = self.clock.shift_ms();
        Ok((claimed, admit::admit(connection, &self.limits, batch, shift).await?))
    }
}

fn count(drained: &mut Drained, envelope: &Envelope, completion: &Completion) -> Result<(), DrainError> {
    drained.runs += 1;
    match &completion.end {
        End::Done { .. } | End::Then { .. } | End::DoneInside { .. } => drained.done += 1,
        End::Cancelled { .. } => drained.cancelled += 1,
        End::Snooze { .. } | End::GivenBack { .. } | End::Retry { .. } | End::Interrupted => {
            drained.later += 1
        }
        End::Dead { error, .. } => {
            return Err(DrainError::Dead {
                kind: envelope.kind.clone(),
                id: envelope.id,
                attempt: envelope.attempt,
                error: error.clone(),
            });
        }
    }
    Ok(())
}
