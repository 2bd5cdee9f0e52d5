//! The engine's own connections, apart from the handlers': a pool that handlers have emptied must not cost leases.

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// An engine statement takes milliseconds; after so long the connection is taken for dead (half-open TCP).
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Plumbing {
    pool: PgPool,
}

impl Plumbing {
    /// As [`Plumbing::new`], but a commit is not waited for: for marks that may get lost in a crash of the database.
    pub fn relaxed(options: &PgConnectOptions, connections: u32) -> Self {
        Plumbing::new(&options.clone().options([("synchronous_commit", "off")]), connections)
    }

    pub fn new(options: &PgConnectOptions, connections: u32) -> Self {
        let options = options.clone().options([
            // The tables grow from nothing to millions of rows within minutes. A plan made for an empty table must not
            // scan a full one, so only index plans are allowed.
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
            // And with one plan left, there is nothing to plan anew for each batch.
            ("plan_cache_mode", "force_generic_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            // Whoever gives one back asks whether it lives; should it die later, the work is tried again.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Plumbing { pool }
    }

    /// Runs one piece of work on a connection. A connection that does not answer in time is thrown away.
    pub async fn run<T, F>(&self, work: F) -> Result<T, sqlx::Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        self.keep(&mut None, work).await
    }

    /// As [`Plumbing::run`], on the connection that was kept the last time: taking one from the pool and giving it back costs a
    /// round trip. An error lets it go.
    pub async fn keep<T, F>(
        &self,
        kept: &mut Option<PoolConnection<Postgres>>,
        work: F,
    ) -> Result<T, sqlx::Error>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        match tokio::time::timeout(LIMIT, work(&mut connection)).await {
            Ok(Ok(answer)) => {
                *kept = Some(connection);
                Ok(answer)
            }
            Ok(error) => error,
            Err(_) => {
                // Neither given back nor closed politely: both would wait for a peer that is gone.
                drop(connection.detach());
                Err(sqlx::Error::Io(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    "no answer from the database",
                )))
            }
        }
    }

    pub async fn close(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.pool.close()).await;
    }
}

/// SQLSTATE classes 22 (data exception) and 23 (constraint), and 54 (a limit): writing it again will not help.
pub(crate) fn is_about_the_data(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// Somebody has what it needs for longer than it may wait (`lock_timeout`).
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// Waits between attempts: doubling from 50 ms to 2 s, so that work resumes within seconds after the database does.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    pub fn reset(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "database is back");
        }
        self.failures = 0;
    }

    /// Says what failed (once loudly, then quietly) and waits; false when `stop` was asked for meanwhile.
    pub async fn failed(&mut self, what: &str, error: &sqlx::Error, stop: &CancellationToken) -> bool {
        self.failures += 1;
        if self.failures == 1 {
            warn!(%error, "{what} failed; trying again");
        } else {
            tracing::debug!(%error, failures = self.failures, "{what} failed; trying again");
        }
        let wait = Duration::from_millis(50 << self.failures.min(6)).min(Duration::from_secs(2));
        let jittered = wait.mul_f64(0.75 + 0.5 * rand::random::<f64>());
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(jittered) => true,
        }
    }
}

/// `base` ± 25 %, so that processes started together do not ask together.
pub(crate) fn jittered(base: Duration) -> Duration {
    base.mul_f64(0.75 + 0.5 * rand::random::<f64>())
}
