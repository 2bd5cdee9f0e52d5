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
        self.count.send_replace(items.len());
        items.len() - 1
    }

    pub fn all(&self) -> Vec<T> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
