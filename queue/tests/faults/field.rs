//! A database with a ledger of effects, and a transport.

use crate::worker::{Spec, Worker};
use queue::NewJob;
use sqlx::Connection;
use std::future::Future;
use std::time::{Duration, Instant};
use testkit::{TestBroker, TestDb, in_full};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum On {
    Postgres,
    RabbitMq,
}

impl On {
    pub fn name(self) -> &'static str {
        match self {
            On::Postgres => "PostgreSQL",
            On::RabbitMq => "RabbitMQ",
        }
    }
}

/// A test on either transport.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $test() { super::$test($crate::field::On::Postgres).await })* }
        mod rabbitmq { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $test() { super::$test($crate::field::On::RabbitMq).await })* }
    };
}

pub struct Field {
    pub db: TestDb,
    pub broker: Option<TestBroker>,
}

impl Field {
    /// `None` where there is no broker and that is known.
    pub async fn open(on: On) -> Option<Field> {
        Field::on(testkit::database().await, on).await
    }

    pub async fn on(db: TestDb, on: On) -> Option<Field> {
        let broker = match on {
            On::Postgres => None,
            On::RabbitMq => Some(testkit::broker().await?),
        };
        let mut owner = db.owner().await;
        sqlx::raw_sql("create table ledger (job uuid, run bigint); grant all on ledger to relaydesk_app")
            .execute(&mut owner)
            .await
            .unwrap();
        owner.close().await.unwrap();
        Some(Field { db, broker })
    }

    pub fn spec(&self) -> Spec {
        Spec {
            database: self.db.app_url.clone(),
            broker: self.broker.as_ref().map(|broker| (broker.url.clone(), broker.prefix.clone())),
            places: 8,
            patient: in_full(),
            polls: true,
            crash_limit: 5,
        }
    }

    pub fn start(&self, number: usize) -> Vec<Worker> {
        (0..number).map(|_| Worker::start(&self.spec())).collect()
    }

    pub async fn enqueue(&self, jobs: &[NewJob]) -> Vec<queue::JobId> {
        let mut tx = self.db.db.pool().begin().await.unwrap();
        let ids = queue::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
        ids
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut owner = self.db.owner().await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut owner).await.unwrap();
        owner.close().await.unwrap();
        count
    }

    pub async fn effects(&self) -> i64 {
        self.count("select count(*) from ledger").await
    }

    /// Claims held now.
    pub async fn running(&self) -> i64 {
        self.count("select count(*) from queue.jobs where worker is not null").await
    }

    /// Until no job is left but dead letters; how long that took.
    pub async fn drained(&self, limit: Duration) -> Duration {
        let begun = Instant::now();
        within(limit, "all jobs to be over", || async {
            (self.count("select count(*) from queue.jobs where state <> 'dead'").await == 0).then_some(())
        })
        .await;
        begun.elapsed()
    }

    /// So many effects, each of another job, and no job ended twice or in vain.
    pub async fn each_once(&self, jobs: i64) {
        assert_eq!(self.effects().await, jobs, "effects");
        assert_eq!(self.count("select count(distinct job) from ledger").await, jobs, "jobs with an effect");
        self.no_doubled_end().await;
    }

    pub async fn no_doubled_end(&self) {
        let doubled = "select count(*) - count(distinct id) from queue.history";
        assert_eq!(self.count(doubled).await, 0, "ended twice");
        assert_eq!(
            self.count("select count(*) from queue.jobs where state = 'dead' and kind <> 'poison'").await,
            0,
            "dead letters"
        );
    }

    /// The longest time from the beginning of a run whose worker was lost until the job was taken back.
    pub async fn longest_loss(&self) -> Duration {
        let ms = self
            .count(
                "select coalesce(max(extract(epoch from finished_at - started_at) * 1000), 0)::bigint \
                 from queue.attempts where outcome = 'lost'",
            )
            .await;
        Duration::from_millis(ms as u64)
    }

    /// The lane has workers.
    pub async fn until_worked_on(&self, workers: i64) {
        within(Duration::from_secs(60), "the workers to begin", || async {
            let there = self.count("select count(*) from queue.workers").await;
            (there >= workers).then_some(())
        })
        .await;
    }
}

/// Asks until there is an answer.
pub async fn within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
