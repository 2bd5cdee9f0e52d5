//! How long the history of a kind is kept. Few classes, because each is a set of partitions: what is over its time goes by
//! dropping tables, never by deleting rows.

use crate::plumbing::{Plumbing, jittered};
use crate::registry::Registry;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The class of a kind ([`Job::RETENTION`](crate::Job::RETENTION)); [`Keep`] says how long each is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// What ended well, or was cancelled while it ran, leaves nothing. Dead letters that are put away are kept short.
    None,
    /// Ticks, sweeps, timers: of interest while something is wrong.
    Short,
    #[default]
    Normal,
    /// What somebody may ask about months later.
    Long,
}

impl Retention {
    pub const ALL: [Retention; 4] = [Retention::None, Retention::Short, Retention::Normal, Retention::Long];

    pub fn as_str(self) -> &'static str {
        match self {
            Retention::None => "none",
            Retention::Short => "short",
            Retention::Normal => "normal",
            Retention::Long => "long",
        }
    }

    /// As the database has it.
    pub(crate) fn number(self) -> i16 {
        match self {
            Retention::None => 0,
            Retention::Short => 1,
            Retention::Normal => 2,
            Retention::Long => 3,
        }
    }

    /// A number that this version does not know is the usual one.
    pub(crate) fn of(number: i16) -> Self {
        Retention::ALL.into_iter().find(|retention| retention.number() == number).unwrap_or_default()
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown retention {0:?}: expected none, short, normal or long")]
pub struct UnknownRetention(String);

impl FromStr for Retention {
    type Err = UnknownRetention;
    fn from_str(word: &str) -> Result<Self, UnknownRetention> {
        let known = Retention::ALL.into_iter().find(|retention| retention.as_str() == word);
        known.ok_or_else(|| UnknownRetention(word.to_owned()))
    }
}

/// How long the classes keep what is over. A partition goes when all of it is older: days for the short and the normal, months for
/// the long and for attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub short: Duration,
    pub normal: Duration,
    pub long: Duration,
    /// How long dead letters wait for somebody.
    pub dead: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Keep {
    fn default() -> Self {
        Keep { short: DAY * 2, normal: DAY * 14, long: DAY * 90, dead: DAY * 60 }
    }
}

impl Keep {
    /// Each partitioned table, and how long it keeps. The trail of a dead letter stays as long as that may wait.
    pub(crate) fn shelves(&self) -> [(&'static str, Duration); 5] {
        [
            ("history_short", self.short),
            ("history_normal", self.normal),
            ("history_long", self.long),
            ("attempts_normal", self.normal.max(self.short).max(self.dead)),
            ("attempts_long", self.long.max(self.dead)),
        ]
    }

    /// Nothing of what is over is older than this.
    pub(crate) fn longest(&self) -> Duration {
        self.short.max(self.normal).max(self.long).max(self.dead)
    }
}

/// What is in force for one kind: as the program says, or what an operator has set instead.
#[derive(Debug)]
pub(crate) struct InForce {
    declared: Retention,
    now: AtomicI16,
}

impl InForce {
    pub fn new(declared: Retention) -> Self {
        InForce { declared, now: AtomicI16::new(declared.number()) }
    }

    pub fn get(&self) -> Retention {
        Retention::of(self.now.load(Ordering::Relaxed))
    }
}

/// Those of all kinds of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retentions(Arc<[(&'static str, Arc<InForce>)]>);

impl Retentions {
    pub fn of<S: Send + Sync + 'static>(registry: &Registry<S>) -> Self {
        Retentions(registry.retentions().into())
    }

    /// Makes the kinds known, before anything is claimed. What an operator has set stays.
    pub async fn declare(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into queue.kinds as k (name, retention) select * from unnest($1::text[], $2::int2[]) order by 1 \
             on conflict (name) do update set retention = excluded.retention, changed_at = clock_timestamp() \
             where k.retention <> excluded.retention",
        )
        .bind(self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        .bind(self.0.iter().map(|(_, kind)| kind.declared.number()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
        self.refresh(connection).await
    }

    /// Takes over what operators set, about so often. Apart from the heartbeat: no lease hangs on it.
    pub async fn follow(self, plumbing: Plumbing, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(jittered(every)) => {}
            }
            let retentions = self.clone();
            let read = plumbing
                .run(move |connection| Box::pin(async move { retentions.refresh(connection).await }))
                .await;
            if let Err(error) = read {
                debug!(%error, "how long history is kept was not read; it stays as it was");
            }
        }
    }

    async fn refresh(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let set: Vec<(String, i16)> =
            sqlx::query_as("select name, set_retention from queue.kinds where set_retention is not null")
                .fetch_all(connection)
                .await?;
        for (name, kind) in self.0.iter() {
            let number = set.iter().find(|set| set.0 == *name).map_or(kind.declared.number(), |set| set.1);
            kind.now.store(number, Ordering::Relaxed);
        }
        Ok(())
    }
}
