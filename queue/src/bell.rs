//! Tells workers of new jobs after the commit that added them.
//!
//! A transaction that notifies holds one lock of the whole PostgreSQL server from `NOTIFY` to the end of its commit, the flush
//! included (`PreCommit_Notify` in its sources), so such commits follow one another. The bell notifies from a connection of its own,
//! for all who rang meanwhile together, without a flush. A ring that gets lost with its process costs one poll.

use crate::enqueue::CHANNEL;
use crate::listener::Wakers;
use crate::plumbing::Plumbing;
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::debug;
use uuid::Uuid;

/// Between two notifications: what rings meanwhile goes with the next. Workers of this process are woken at once.
const PAUSE: Duration = Duration::from_millis(5);
/// Between a lane and who rang for it, in the payload of a notification.
pub(crate) const BY: char = '\u{1f}';

/// Cheap to clone; the last one dropped ends its task.
#[derive(Clone)]
pub struct Bell {
    rope: Arc<Rope>,
    /// Pulled when the last bell is dropped, too.
    pull: Arc<Pull>,
}

struct Rope {
    /// Who rings: the listeners of this process need not be told twice.
    by: String,
    wanted: Mutex<BTreeSet<String>>,
    /// Engines of this process that hear it at once.
    near: Mutex<Vec<Weak<Wakers>>>,
    changed: Notify,
    plumbing: Plumbing,
}

struct Pull(Arc<Rope>);

impl Drop for Pull {
    fn drop(&mut self) {
        self.0.changed.notify_one();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.rope.by).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    /// A bell for the database of `pool`. It keeps one connection of its own, made when it first rings.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(pool: &PgPool) -> Bell {
        let rope = Arc::new(Rope {
            by: format!("{:016x}", Uuid::new_v4().as_u64_pair().0),
            wanted: Mutex::default(),
            near: Mutex::default(),
            changed: Notify::new(),
            plumbing: Plumbing::relaxed(&pool.connect_options(), 1),
        });
        let pull = Arc::new(Pull(rope.clone()));
        tokio::spawn(toll(rope.clone(), Arc::downgrade(&pull)));
        Bell { rope, pull }
    }

    /// Wakes whoever works on these lanes: [`Added::rings`](crate::Added::rings), after the commit. Too early is too early: then the workers find nothing, and
    /// look again with their next poll.
    pub fn ring<'a>(&self, rings: impl IntoIterator<Item = &'a String>) {
        let rings: Vec<&String> = rings.into_iter().collect();
        if rings.is_empty() {
            return;
        }
        lock(&self.rope.near).retain(|wakers| {
            let Some(wakers) = wakers.upgrade() else { return false };
            rings.iter().for_each(|ring| wakers.told(ring));
            true
        });
        lock(&self.rope.wanted).extend(rings.into_iter().cloned());
        self.pull.0.changed.notify_one();
    }

    /// From now on an engine of this process hears it without the database.
    pub(crate) fn hear(&self, wakers: &Arc<Wakers>) {
        lock(&self.rope.near).push(Arc::downgrade(wakers));
    }

    pub(crate) fn by(&self) -> &str {
        &self.rope.by
    }
}

async fn toll(rope: Arc<Rope>, pull: Weak<Pull>) {
    let mut kept = None;
    loop {
        rope.changed.notified().await;
        let rings: Vec<String> = std::mem::take(&mut *lock(&rope.wanted))
            .into_iter()
            .map(|ring| format!("{ring}{BY}{}", rope.by))
            .collect();
        if !rings.is_empty() {
            let told = rope.plumbing.keep(&mut kept, move |connection| {
                Box::pin(async move {
                    sqlx::query("select pg_notify($1, ring) from unnest($2::text[]) ring")
                        .bind(CHANNEL)
                        .bind(rings)
                        .execute(connection)
                        .await
                })
            });
            if let Err(error) = told.await {
                debug!(%error, "workers of other processes were not told of new jobs; they look by themselves");
            }
        }
        if pull.strong_count() == 0 && lock(&rope.wanted).is_empty() {
            drop(kept);
            rope.plumbing.close().await;
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
