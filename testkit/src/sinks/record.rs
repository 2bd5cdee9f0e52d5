//! What a sink has received, and waiting for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A list that grows, and wakes those who wait for it.
#[derive(Debug)]
pub(super) struct Record<T> {
    items: Arc<Mutex<Vec<T>>>,
    count: watch::Sender<usize>,
}

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Record { items: self.items.clone(), count: self.count.clone() }
    }
}

impl<T: Clone> Record<T> {
    pub fn new() -> Self {
        Record { items: Arc::default(), count: watch::Sender::new(0) }
    }

    /// Returns how many there were before.
    pub fn push(&self, item: T) -> usize {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(item);
        let count = items.len();
        // Those who are woken look at the items.
        drop(items);
        self.count.send_modify(|known| *known = count.max(*known));
        count - 1
    }

    pub fn all(&self) -> Vec<T> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All items, as soon as they are as `good` wants them.
    pub async fn until(&self, what: &str, good: impl Fn(&[T]) -> bool) -> Vec<T> {
        let mut count = self.count.subscribe();
        let enough =
            tokio::time::timeout(Duration::from_secs(60), count.wait_for(|_| good(&self.all()))).await;
        let all = self.all();
        assert!(enough.is_ok(), "waited in vain for {what}, got {}", all.len());
        all
    }

    /// All items, as soon as there are at least `n`.
    pub async fn wait_for(&self, what: &str, n: usize, timeout: Duration) -> Vec<T> {
        let mut count = self.count.subscribe();
        let enough = tokio::time::timeout(timeout, count.wait_for(|count| *count >= n)).await;
        let all = self.all();
        assert!(enough.is_ok(), "waited {timeout:?} for {n} {what}, got {}", all.len());
        all
    }
}
