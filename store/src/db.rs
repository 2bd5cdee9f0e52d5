//! The pool, the clock and the tenant-scoped transaction.

use crate::{Error, Result, context};
use chrono::{DateTime, TimeDelta, Utc};
use domain::OrganizationId;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Postgres, Row};
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Time comes from the database's clock, so that all processes agree. A test can shift it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift_ms: Arc<AtomicI64>,
    /// By how much the database's clock is ahead of this machine's, as of the last quick answer.
    ahead_ms: Arc<AtomicI64>,
}

/// An answer that took longer says little about when it was given.
const QUICK: Duration = Duration::from_millis(50);

impl Clock {
    /// Moves the clock of this process forward (or back) by `by`, on top of earlier shifts.
    pub fn shift(&self, by: TimeDelta) {
        self.shift_ms.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    /// The shift itself, in milliseconds, for the job engine: due jobs are judged by the same clock.
    pub fn shift_handle(&self) -> Arc<AtomicI64> {
        self.shift_ms.clone()
    }

    /// What the database's clock says, as far as can be known without asking it: for what comes in while it is away. Within some
    /// milliseconds of [`Tx::now`] once the database has answered, else this machine's clock.
    pub fn estimate(&self) -> DateTime<Utc> {
        self.adjust(local() + TimeDelta::milliseconds(self.ahead_ms.load(Ordering::Relaxed)))
    }

    fn saw(&self, database: DateTime<Utc>, took: Duration) {
        if took < QUICK {
            let ahead = database - (local() - TimeDelta::from_std(took / 2).unwrap_or_default());
            self.ahead_ms.store(ahead.num_milliseconds(), Ordering::Relaxed);
        }
    }

    fn adjust(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::milliseconds(self.shift_ms.load(Ordering::Relaxed))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only to carry the database's clock over a time in which it cannot be asked"
)]
fn local() -> DateTime<Utc> {
    Utc::now()
}

/// For a connection, and for its first answer; then the database is away.
const PATIENCE: Duration = Duration::from_secs(5);

type Ring = dyn Fn(&BTreeSet<String>) + Send + Sync;

/// What is told, after a transaction has ended, the names that it left with [`Tx::ring`].
#[derive(Clone)]
struct Bell(Arc<Ring>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// What bounds the application's sessions, so that a transaction that lost its owner does not hold locks or the xmin horizon: in
/// milliseconds.
const BOUNDS: [(&str, &str); 3] = [
    ("idle_in_transaction_session_timeout", "10000"),
    ("statement_timeout", "30000"),
    ("lock_timeout", "10000"),
];

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A session of the server, for as long as it lasts.
    Direct,
    /// Some session of the server for each transaction, handed out by a pooler (PgBouncer in transaction mode).
    Pooled,
}

/// The database as the application role sees it.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    route: Route,
    clock: Clock,
    bell: Option<Bell>,
}

impl Db {
    /// A pool that connects when it is first used, so that a start does not depend on the database being there.
    pub fn new(options: PgConnectOptions, max_connections: u32) -> Self {
        Db::connecting(options.options(BOUNDS), max_connections, Route::Direct)
    }

    /// The same by way of a pooler that hands out its sessions by the transaction: nothing that would outlive a transaction is asked of
    /// them (settings, prepared statements, notifications, locks of a session).
    pub fn pooled(options: PgConnectOptions, max_connections: u32) -> Self {
        let options = options.extra_float_digits(None).statement_cache_capacity(0);
        Db::connecting(options, max_connections, Route::Pooled)
    }

    fn connecting(options: PgConnectOptions, max_connections: u32, route: Route) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(PATIENCE)
            // One that was in use a moment ago is taken unseen: `open` finds out whether it lives, and takes another if not.
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > Duration::from_secs(1) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            // A connection keeps buffers as large as the largest message it ever carried.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.shrink_buffers();
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Db { pool, route, clock: Clock::default(), bell: None }
    }

    /// Tells `bell` after each transaction the names that it left with [`Tx::ring`].
    #[must_use]
    pub fn ringing(mut self, bell: impl Fn(&BTreeSet<String>) + Send + Sync + 'static) -> Self {
        self.bell = Some(Bell(Arc::new(bell)));
        self
    }

    /// Where its connections lead, and how many there are. What is asked of the database is asked in a transaction.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn route(&self) -> Route {
        self.route
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

    async fn open(&self, mut scope: Scope) -> Result<Tx> {
        // Here, because it belongs to the caller's task.
        scope.acting = context::told();
        let (pool, clock, bell) = (self.pool.clone(), self.clock.clone(), self.bell.clone());
        let route = self.route;
        // In a task of its own: axum cancels a handler when its client hangs up, and a connection must not go back to the
        // pool with a transaction begun and nobody to end it.
        let task = tokio::spawn(async move {
            let started = Instant::now();
            loop {
                let mut connection = pool.acquire().await?;
                let asked = Instant::now();
                let Ok(begun) = tokio::time::timeout(PATIENCE, scope.begin(&mut connection, route)).await
                else {
                    connection.close_on_drop();
                    return Err(sqlx::Error::PoolTimedOut.into());
                };
                match begun {
                    Ok(now) => {
                        clock.saw(now, asked.elapsed());
                        let inner = Inner { connection: Some(connection), is_over: false };
                        let rings = Rings { bell, names: BTreeSet::new() };
                        return Ok(Tx { inner, rings, scope, now: clock.adjust(now) });
                    }
                    // The server has gone since it was last used; when it is away, `acquire` says so.
                    Err(error) if is_lost(&error) && started.elapsed() < PATIENCE => {
                        tracing::debug!(%error, "a connection that had died was let go");
                        connection.close_on_drop();
                    }
                    Err(error) => {
                        drop(Inner { connection: Some(connection), is_over: false });
                        return Err(error.into());
                    }
                }
            }
        });
        task.await
            .unwrap_or_else(|error| Err(Error::Corrupt(format!("opening a transaction failed: {error}"))))
    }
}

/// The connection is no more: broken, or ended by the server (class 57P: administrator, crash, cannot connect now).
fn is_lost(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
        || code.is_some_and(|c| c.starts_with("57P"))
}

#[derive(Clone, Debug, Default)]
struct Scope {
    organization: Option<OrganizationId>,
    key: Option<String>,
    system: bool,
    /// For the audit log.
    acting: String,
}

/// As its bytes, so that no text can end the statement that holds it.
fn quoted(text: &str) -> String {
    let hex = text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("convert_from('\\x{hex}', 'UTF8')")
}

impl Scope {
    /// The settings that row level security and the audit log read, as SQL. Ids cannot hold a quote.
    fn settings(&self) -> String {
        let organization = self.organization.map(|o| o.to_string()).unwrap_or_default();
        let (key, acting) = (quoted(self.key.as_deref().unwrap_or_default()), quoted(&self.acting));
        let system = if self.system { "on" } else { "" };
        format!(
            "select set_config('app.organization_id', '{organization}', true), \
                    set_config('app.presented_key', {key}, true), set_config('app.audit', {acting}, true), \
                    set_config('app.system', '{system}', true), now() as now"
        )
    }

    /// Begins a transaction and scopes it, in one round trip. Answers when it began.
    ///
    /// sqlx gives every statement a name, also without a cache, and numbers them by connection. A session that a pooler hands around would
    /// keep them, and those of different connections would have the same names: so each transaction begins with none.
    async fn begin(&self, connection: &mut PgConnection, route: Route) -> sqlx::Result<DateTime<Utc>> {
        let begin = match route {
            Route::Direct => format!("begin; {}", self.settings()),
            Route::Pooled => {
                let bounds = BOUNDS.map(|(name, value)| format!("set local {name} = {value}")).join("; ");
                format!("begin; deallocate all; {bounds}; {}", self.settings())
            }
        };
        let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(begin))).await?;
        row.try_get("now")
    }

    async fn apply(&self, connection: &mut PgConnection) -> Result<()> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.settings()))).await?;
        Ok(())
    }
}

/// A transaction with a tenant. Dereferences to the connection, so `queue::add(&mut tx, …)` joins it.
/// Dropped without `commit` it rolls back. It was not begun by sqlx: never call `begin` on it (`savepoint` is what is meant).
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    /// After `inner`: what is dropped first ends the transaction.
    rings: Rings,
    scope: Scope,
    now: DateTime<Utc>,
}

impl Tx {
    /// The time at which this transaction began, by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Whether [`Tx::ring`] reaches anybody.
    pub fn has_bell(&self) -> bool {
        self.rings.bell.is_some()
    }

    /// Tells the bell of the database these names when the transaction has ended, however it ends: who is told of nothing finds nothing.
    pub fn ring(&mut self, names: impl IntoIterator<Item = String>) {
        self.rings.names.extend(names);
    }

    /// # Panics
    /// In a transaction that was not opened with [`Db::begin`] or scoped with [`Tx::enter`].
    pub fn organization(&self) -> OrganizationId {
        self.scope.organization.expect("a tenant-scoped transaction")
    }

    /// Goes on in the organization that a presented key led to.
    pub async fn enter(&mut self, organization: OrganizationId) -> Result<()> {
        self.scope = Scope { organization: Some(organization), acting: context::told(), ..Scope::default() };
        let scope = self.scope.clone();
        scope.apply(self).await
    }

    pub(crate) fn scope_organization(&self) -> Option<OrganizationId> {
        self.scope.organization
    }

    pub async fn commit(mut self) -> Result<()> {
        crate::idempotency::mark(&mut self).await?;
        self.execute("commit").await?;
        self.inner.is_over = true;
        Ok(())
    }

    pub async fn rollback(mut self) -> Result<()> {
        self.execute("rollback").await?;
        self.inner.is_over = true;
        Ok(())
    }
}

#[derive(Debug)]
struct Rings {
    bell: Option<Bell>,
    names: BTreeSet<String>,
}

impl Drop for Rings {
    fn drop(&mut self) {
        if let Some(Bell(bell)) = self.bell.as_ref().filter(|_| !self.names.is_empty()) {
            bell(&self.names);
        }
    }
}

/// The connection on which a transaction is open.
#[derive(Debug)]
struct Inner {
    /// There until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    is_over: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take().filter(|_| !self.is_over) else { return };
        match tokio::runtime::Handle::try_current() {
            // Detached where nobody answers: the pool does not wait for what may never come, and the server ends it by itself.
            Ok(runtime) => drop(runtime.spawn(async move {
                if !matches!(tokio::time::timeout(PATIENCE, connection.execute("rollback")).await, Ok(Ok(_)))
                {
                    drop(connection.detach());
                }
            })),
            // Closing it rolls back too.
            Err(_) => drop(connection.detach()),
        }
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        self.inner.connection.as_ref().expect("a connection until it is dropped")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.inner.connection.as_mut().expect("a connection until it is dropped")
    }
}
