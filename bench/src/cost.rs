//! What jobs cost the database, in counts: they are the same on a slow machine as on a fast one, so a test can hold them.

use anyhow::Result;
use sqlx::PgPool;
use std::collections::HashMap;
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

/// What a process and its children have used so far, in seconds of a core.
pub fn cpu_seconds(root: u32) -> f64 {
    let mut children: HashMap<u32, Vec<(u32, f64)>> = HashMap::new();
    let mut all = 0.0;
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let field = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        // Its own and that of children which have ended.
        let used = (11..15).map(field).sum::<f64>() / 100.0;
        if pid == root {
            all += used;
        }
        children.entry(field(1) as u32).or_default().push((pid, used));
    }
    let mut left = vec![root];
    while let Some(parent) = left.pop() {
        for (pid, used) in children.get(&parent).into_iter().flatten() {
            all += used;
            left.push(*pid);
        }
    }
    all
}
