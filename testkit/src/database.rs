//! One PostgreSQL per run, one migrated template in it, one clone of that per test.

use crate::install_crypto;
use embedded::{Cluster, Options, sweep_leftovers};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Where throw-away clusters of test processes lie.
pub(crate) const PREFIX: &str = "relaydesk-test-";
/// Serialises the making of the template among the test processes of a run.
const TEMPLATE_LOCK: i64 = 0x7465_7374;
const POOL: u32 = 8;

/// A database of its own, gone when this value is dropped.
#[derive(Debug)]
pub struct TestDb {
    pub name: String,
    /// May do everything; row level security does not hold for it.
    pub owner_url: String,
    /// What the application connects with.
    pub app_url: String,
    /// Connected as the application.
    pub db: store::Db,
    /// False when it goes with its cluster.
    shares_cluster: bool,
}

impl TestDb {
    /// The migrated database of a cluster of its own.
    pub(crate) async fn on(cluster: &Cluster) -> TestDb {
        install_crypto();
        let name = "relaydesk";
        let (owner_url, app_url) = (cluster.owner_url(name), cluster.app_url(name));
        let mut owner = connect(&owner_url).await;
        store::MIGRATOR.run(&mut owner).await.expect("the migrations run");
        owner.close().await.expect("a clean end");
        TestDb { db: pool(&app_url), owner_url, app_url, name: name.to_owned(), shares_cluster: false }
    }

    /// A connection that sees the rows of all organizations, to set things up and to look behind the scenes.
    pub async fn owner(&self) -> PgConnection {
        connect(&self.owner_url).await
    }

    /// As soon as `n` connections to this database wait for a lock in a statement that holds this text.
    ///
    /// # Panics
    /// After thirty seconds.
    pub async fn until_blocked(&self, n: i64, statement: &str) {
        let mut owner = self.owner().await;
        let begin = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                 and strpos(query, $1) > 0",
            )
            .bind(statement)
            .fetch_one(&mut owner)
            .await
            .expect("the activity");
            if waiting >= n {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "{waiting} of {n} connections wait for a lock"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Another pool on the same database, as a second process would have it.
    pub fn another_pool(&self) -> store::Db {
        pool(&self.app_url)
    }
}

/// A freshly migrated database for one test.
pub async fn database() -> TestDb {
    install_crypto();
    // Starting a cluster blocks for half a second, and needs no runtime.
    let urls = tokio::task::spawn_blocking(urls).await.expect("a cluster");
    let template = template(urls).await;
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut admin = connect(&(urls.owner)("postgres")).await;
    // Copying the files is faster than writing them to the WAL as long as nothing is synced.
    execute(&mut admin, &format!("create database {name} template {template} strategy file_copy")).await;
    let app_url = (urls.app)(&name);
    TestDb { db: pool(&app_url), owner_url: (urls.owner)(&name), app_url, name, shares_cluster: true }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if !self.shares_cluster {
            return;
        }
        let sql = format!("drop database if exists {} with (force)", self.name);
        // In a thread of its own, because a test's runtime can't be blocked on from inside.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&(urls().owner)("postgres")).await?;
                sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await?;
                anyhow::Ok(())
            })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("testkit: the database {} stayed behind: {dropped:?}", self.name);
        }
    }
}

/// How to reach a database of the run's cluster, by name.
struct Urls {
    owner: Box<dyn Fn(&str) -> String + Send + Sync>,
    app: Box<dyn Fn(&str) -> String + Send + Sync>,
}

/// The cluster of `with-postgres` when the tests run under it, else one of this process. That one is never dropped: it
/// stops when the process ends, however that happens; its folder is swept by the next run.
fn urls() -> &'static Urls {
    static URLS: OnceLock<Urls> = OnceLock::new();
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    URLS.get_or_init(|| match std::env::var_os("RELAYDESK_TEST_CLUSTER") {
        Some(url) => {
            let url = url.into_string().expect("RELAYDESK_TEST_CLUSTER is text");
            let owner = url.clone();
            Urls {
                owner: Box::new(move |name| of_database(&owner, name)),
                app: Box::new(move |name| {
                    of_database(&url, name).replacen(embedded::OWNER, embedded::APP_ROLE, 1)
                }),
            }
        }
        None => {
            let cluster = CLUSTER.get_or_init(start);
            Urls {
                owner: Box::new(|name| cluster.owner_url(name)),
                app: Box::new(|name| cluster.app_url(name)),
            }
        }
    })
}

fn start() -> Cluster {
    let parent = Path::new("/tmp");
    sweep_leftovers(parent, PREFIX);
    Cluster::start(Options {
        throw_away: true,
        binaries: programs(),
        settings: vec![("max_connections".to_owned(), "300".to_owned())],
        ..Options::new(parent.join(format!("{PREFIX}{}", std::process::id())))
    })
    .unwrap_or_else(|error| panic!("the tests need a PostgreSQL: {error}"))
}

/// Where PostgreSQL's programs are, if not where they are usually found.
pub(crate) fn programs() -> Option<PathBuf> {
    std::env::var_os("RELAYDESK_POSTGRES_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// `postgresql://relaydesk@localhost/postgres?host=…` with another database in it.
fn of_database(url: &str, name: &str) -> String {
    let (start, rest) = url.split_once("@localhost/").expect("a URL as with-postgres writes it");
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    format!("{start}@localhost/{name}?{parameters}")
}

/// The migrated database that all others are copies of; its name says which migrations it holds.
async fn template(urls: &Urls) -> String {
    let name = format!("template_{}", fingerprint());
    let mut admin = connect(&(urls.owner)("postgres")).await;
    let exists = "select exists (select from pg_database where datname = $1)";
    let there = async |admin: &mut PgConnection| -> bool {
        sqlx::query_scalar(exists).bind(&name).fetch_one(admin).await.expect("the list of databases")
    };
    if there(&mut admin).await {
        return name;
    }
    sqlx::query("select pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut admin)
        .await
        .expect("the template lock");
    if !there(&mut admin).await {
        // Under another name until it is complete.
        let draft = format!("{name}_draft");
        execute(&mut admin, &format!("drop database if exists {draft} with (force)")).await;
        execute(&mut admin, &format!("create database {draft}")).await;
        let mut owner = connect(&(urls.owner)(&draft)).await;
        store::MIGRATOR.run(&mut owner).await.expect("the migrations run");
        owner.close().await.expect("a clean end");
        execute(&mut admin, &format!("alter database {draft} rename to {name}")).await;
    }
    admin.close().await.expect("a clean end"); // gives the lock back
    name
}

/// Changes with every migration.
fn fingerprint() -> String {
    let sum = store::MIGRATOR
        .iter()
        .flat_map(|migration| migration.checksum.iter())
        .fold(0_u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
    format!("{sum:016x}")
}

fn pool(url: &str) -> store::Db {
    store::Db::new(PgConnectOptions::from_str(url).expect("a database URL"), POOL)
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to the test cluster: {error}"))
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}
