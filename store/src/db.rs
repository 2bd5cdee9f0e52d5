//! The pool, the clock and the tenant-scoped transaction.

use crate::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use domain::OrganizationId;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Row, Transaction};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Time comes from the database's clock, so that all processes agree. A test can shift it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Moves the clock of this process forward (or back) by `by`, on top of earlier shifts.
    pub fn shift(&self, by: TimeDelta) {
        self.shift_ms.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    /// The shift itself, in milliseconds, for the job engine: due jobs are judged by the same clock.
    pub fn shift_handle(&self) -> Arc<AtomicI64> {
        self.shift_ms.clone()
    }

    fn adjust(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::milliseconds(self.shift_ms.load(Ordering::Relaxed))
    }
}

/// The database as the application role sees it.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    clock: Clock,
}

impl Db {
    /// A pool that connects when it is first used, so that a start does not depend on the database being there.
    pub fn new(options: PgConnectOptions, max_connections: u32) -> Self {
        let options = options.options([
            // A transaction that lost its owner must not hold locks or the xmin horizon.
            ("idle_in_transaction_session_timeout", "10000"),
            ("statement_timeout", "30000"),
            ("lock_timeout", "10000"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(5))
            // A connection keeps buffers as large as the largest message it ever carried.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.shrink_buffers();
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Db::from_pool(pool)
    }

    pub fn from_pool(pool: PgPool) -> Self {
        Db { pool, clock: Clock::default() }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A transaction that sees the rows of `organization` and no others.
    pub async fn begin(&self, organization: OrganizationId) -> Result<Tx> {
        self.open(Scope { organization: Some(organization), ..Scope::default() }).await
    }

    /// A transaction that sees, besides nothing else, the rows that match a secret or address the caller presented
    /// (`presented_key()` in the policies): how a token finds its organization.
    pub async fn begin_presenting(&self, key: &str) -> Result<Tx> {
        self.open(Scope { key: Some(key.to_owned()), ..Scope::default() }).await
    }

    /// A transaction that walks over all organizations: only for leaders' sweeps, start-up and administration.
    pub async fn begin_system(&self) -> Result<Tx> {
        self.open(Scope { system: true, ..Scope::default() }).await
    }

    async fn open(&self, scope: Scope) -> Result<Tx> {
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        // In a task of its own: sqlx 0.9.0 hands an open transaction back to the pool when `begin` is cancelled
        // half-way, and axum cancels a handler when its client hangs up.
        let task = tokio::spawn(async move {
            let mut inner = pool.begin().await?;
            let now = scope.apply(&mut inner).await?;
            Ok(Tx { inner, scope, now: clock.adjust(now) })
        });
        task.await
            .unwrap_or_else(|error| Err(Error::Corrupt(format!("opening a transaction failed: {error}"))))
    }
}

#[derive(Clone, Debug, Default)]
struct Scope {
    organization: Option<OrganizationId>,
    key: Option<String>,
    system: bool,
}

impl Scope {
    async fn apply(&self, connection: &mut PgConnection) -> Result<DateTime<Utc>> {
        let row = sqlx::query(
            "select set_config('app.organization_id', $1, true), set_config('app.presented_key', $2, true), \
                    set_config('app.system', $3, true), now() as now",
        )
        .bind(self.organization.map(|o| o.to_string()).unwrap_or_default())
        .bind(self.key.clone().unwrap_or_default())
        .bind(if self.system { "on" } else { "" })
        .fetch_one(connection)
        .await?;
        Ok(row.try_get("now")?)
    }
}

/// A transaction with a tenant. Dereferences to the connection, so `queue::enqueue(&mut tx, …)` joins it.
/// Dropped without `commit` it rolls back.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    scope: Scope,
    now: DateTime<Utc>,
}

impl Tx {
    /// The time at which this transaction began, by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// # Panics
    /// In a transaction that was not opened with [`Db::begin`] or scoped with [`Tx::enter`].
    pub fn organization(&self) -> OrganizationId {
        self.scope.organization.expect("a tenant-scoped transaction")
    }

    /// Goes on in the organization that a presented key led to.
    pub async fn enter(&mut self, organization: OrganizationId) -> Result<()> {
        self.scope = Scope { organization: Some(organization), ..Scope::default() };
        let scope = self.scope.clone();
        scope.apply(&mut self.inner).await?;
        Ok(())
    }

    pub(crate) fn scope_organization(&self) -> Option<OrganizationId> {
        self.scope.organization
    }

    pub async fn commit(mut self) -> Result<()> {
        crate::idempotency::mark(&mut self).await?;
        Ok(self.inner.commit().await?)
    }

    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
