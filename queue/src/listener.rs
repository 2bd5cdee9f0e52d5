//! Wakes lanes: at once by notification, and by a poll of all lanes in one statement as the floor.

use crate::bell::BY;
use crate::claim;
use crate::enqueue::CHANNEL;
use crate::plumbing::{Patience, Plumbing, jittered};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Payload that asks heartbeats to look for cancellations now. No lane can have this name.
pub(crate) const CANCELLATIONS: &str = "!cancel";

/// How a lane's claimer is woken.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    notify: Notify,
    older: AtomicBool,
    news: AtomicBool,
}

impl Waker {
    /// There may be work. `older`: also work that is not new.
    pub fn wake(&self, older: bool) {
        if older {
            self.older.store(true, Ordering::Release);
        }
        self.news.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Whether anything was announced since somebody looked.
    pub fn news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Somebody looks now.
    pub fn looked(&self) {
        self.news.store(false, Ordering::Release);
    }

    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether older work was announced since this was last asked.
    pub fn take_older(&self) -> bool {
        self.older.swap(false, Ordering::AcqRel)
    }
}

pub(crate) struct Wakers {
    /// Who rings in this process, and has woken these lanes already when its notification comes.
    pub near: Option<String>,
    pub lanes: HashMap<String, Arc<Waker>>,
    pub heart: Arc<Notify>,
}

impl Wakers {
    pub fn told(&self, payload: &str) {
        let payload = match payload.split_once(BY) {
            Some((_, by)) if self.near.as_deref() == Some(by) => return,
            Some((payload, _)) => payload,
            None => payload,
        };
        if payload == CANCELLATIONS {
            self.heart.notify_one();
        } else if let Some(lane) = payload.strip_prefix('~').and_then(|lane| self.lanes.get(lane)) {
            lane.wake(true);
        } else if let Some(lane) = self.lanes.get(payload) {
            lane.wake(false);
        }
    }
}

/// One connection that listens. While there is none the poll does the work.
pub(crate) async fn listen(options: PgConnectOptions, wakers: Arc<Wakers>, stop: CancellationToken) {
    let mut patience = Patience::default();
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return,
            error = listen_once(&options, &wakers, &mut patience) => error,
        };
        if !patience.failed("listening for notifications", &error, &stop).await {
            return;
        }
    }
}

async fn listen_once(options: &PgConnectOptions, wakers: &Wakers, patience: &mut Patience) -> sqlx::Error {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options.clone());
    let mut listener = match PgListener::connect_with(&pool).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    patience.reset();
    // What was sent before we listened is gone: look once.
    wakers.lanes.values().for_each(|lane| lane.wake(true));
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => wakers.told(notification.payload()),
            Ok(None) => return sqlx::Error::Io(std::io::Error::other("connection lost")),
            Err(error) => return error,
        }
    }
}

pub(crate) async fn poll(
    plumbing: Plumbing,
    lanes: Vec<String>,
    kinds: Arc<[&'static str]>,
    wakers: Arc<Wakers>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut patience = Patience::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(every)) => {}
        }
        let (lanes, kinds) = (lanes.clone(), kinds.clone());
        let found = plumbing
            .run(move |connection| {
                Box::pin(async move { claim::lanes_with_work(connection, &lanes, &kinds).await })
            })
            .await;
        match found {
            Ok(found) => {
                patience.reset();
                for lane in found {
                    match wakers.lanes.get(&lane) {
                        Some(waker) => waker.wake(true),
                        None => wakers.told(&lane),
                    }
                }
            }
            Err(error) => {
                if !patience.failed("looking for work", &error, &stop).await {
                    return;
                }
            }
        }
    }
}
