//! What jobs cost the database, in counts: they are the same on a slow machine as on a fast one, so a test can hold them.

use anyhow::Result;
use sqlx::PgPool;
use std::time::{Duration, Instant};

/// The counters before.
pub struct Meter {
    wal: i64,
    updates: i64,
    in_place: i64,
    deletes: i64,
}

/// For each job.
#[derive(Debug)]
pub struct Cost {
    pub wal_bytes: f64,
    /// Versions of rows left behind for vacuum, by updates and deletes in the tables of the queue.
    pub dead_tuples: f64,
    /// Those among them that cost new index entries too: updates that were not HOT.
    pub cold_updates: f64,
}

impl Meter {
    pub async fn start(owner: &PgPool) -> Result<Meter> {
        let (wal, updates, in_place, deletes) = sqlx::query_as(
            "select (pg_current_wal_insert_lsn() - '0/0')::bigint, sum(n_tup_upd)::bigint, sum(n_tup_hot_upd)::bigint, \
                    sum(n_tup_del)::bigint \
             from pg_stat_user_tables where schemaname = 'queue'",
        )
        .fetch_one(owner)
        .await?;
        Ok(Meter { wal, updates, in_place, deletes })
    }

    /// Of `jobs` that were finished since, by connections that are closed. The server counts what a connection did some time after
    /// the connection is gone; every finished job is one delete.
    pub async fn read(self, owner: &PgPool, jobs: u64) -> Result<Cost> {
        let started = Instant::now();
        let (wal, mut now) = (Meter::start(owner).await?.wal, Meter::start(owner).await?);
        while now.deletes - self.deletes < jobs as i64 {
            anyhow::ensure!(
                started.elapsed() < Duration::from_secs(20),
                "the server lost count of its deletes"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
            now = Meter::start(owner).await?;
        }
        let each = |count: i64| count as f64 / jobs as f64;
        let updates = now.updates - self.updates;
        Ok(Cost {
            wal_bytes: each(wal - self.wal),
            dead_tuples: each(updates + now.deletes - self.deletes),
            cold_updates: each(updates - (now.in_place - self.in_place)),
        })
    }
}
