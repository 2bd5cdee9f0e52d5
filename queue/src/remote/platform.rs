//! The platform's side: sends requests, tells stations to go and to stop, waits for answers.

use super::desk::Desk;
use super::performers::{Request, too_large};
use super::seal::{About, sealed};
use super::wait::{Line, wait};
use super::{HEARTBEAT, LARGEST, PICK, WORDS, answers, requests, word};
use crate::messages::{NotPublished, Publisher, Subscriber};
use crate::running::Running;
use crate::{BrokerConfig, KeyRing};
use futures::FutureExt;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use uuid::Uuid;

/// For the last words at the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Words at a time.
const WORDS_AT_A_TIME: usize = 50;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    publisher: Publisher,
    subscriber: Arc<Subscriber>,
    keys: KeyRing,
    lanes: Arc<BTreeSet<String>>,
    desk: Desk,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    stop: CancellationToken,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NotPerformed {
    /// Nothing was done, by no fault of the job: later, without counting an attempt.
    #[error("{0}")]
    NotBegun(String),
    /// It may have been done: once more, as after every crash.
    #[error("{0}")]
    Failed(String),
    /// It will not be otherwise the next time.
    #[error("{0}")]
    Impossible(String),
    /// The run is over (cancelled, its lease lost, the process ends).
    #[error("the run was stopped while a remote worker was at it")]
    Stopped,
}

impl Remote {
    /// The work of `lanes` is done by remote workers, until [`Remote::close`]. Returns at once, also while the broker is away.
    pub fn start(broker: &BrokerConfig, name: &str, keys: KeyRing, lanes: BTreeSet<String>) -> Remote {
        let broker = &BrokerConfig { heartbeat: HEARTBEAT, ..broker.clone() };
        let stop = CancellationToken::new();
        let queue = answers(&Uuid::now_v7().simple().to_string());
        let mut queues: Vec<_> = lanes.iter().map(|lane| requests(lane, 1)).collect();
        queues.push(queue.clone());
        let publisher = Publisher::declaring(broker, name, "remote", queues, &[WORDS]);
        let (stops, to_stop) = mpsc::unbounded_channel();
        let (flush, flushes) = mpsc::unbounded_channel();
        let desk = Desk::new(keys.clone(), queue.name.clone(), stops);
        let subscriber = Arc::new(Subscriber::new(broker, name, "answers"));
        let remote = Remote {
            publisher,
            subscriber: subscriber.clone(),
            keys,
            lanes: Arc::new(lanes),
            desk: desk.clone(),
            flush,
            stop: stop.clone(),
        };
        tokio::spawn(remote.clone().tell_to_stop(to_stop, flushes));
        tokio::spawn(async move {
            subscriber.run(&queue, &desk, &stop).await;
            subscriber.close().await;
        });
        remote
    }

    pub fn has(&self, lane: &str) -> bool {
        self.lanes.contains(lane)
    }

    /// Has the request done by a remote worker of the job's lane. What comes back is of this run and no other.
    pub async fn perform<T, R: Request<T>>(
        &self,
        job: &Running,
        request: &R,
    ) -> Result<R::Reply, NotPerformed> {
        let clear = serde_json::to_vec(request)
            .map_err(|error| NotPerformed::Impossible(format!("the request cannot be written: {error}")))?;
        if clear.len() > LARGEST {
            return Err(NotPerformed::Impossible(too_large("request", clear.len())));
        }
        let answer = tokio::select! {
            answer = self.ask(job, R::KIND, &clear) => answer?,
            () = job.cancelled() => return Err(NotPerformed::Stopped),
        };
        serde_json::from_slice(&answer).map_err(|error| {
            NotPerformed::Failed(format!("the answer of the remote worker cannot be read: {error}"))
        })
    }

    async fn ask(&self, job: &Running, kind: &str, clear: &[u8]) -> Result<Vec<u8>, NotPerformed> {
        let (id, whose, queue) = (Uuid::now_v7(), (job.id.0, job.run), requests(&job.lane, 1).name);
        let about = self.desk.about(whose, queue.clone());
        let message = sealed(&self.keys, id, kind, &about, clear);
        let mut message = message.ok_or_else(|| NotPerformed::NotBegun("there are no keys".into()))?;
        message.expires = Some(PICK);
        let mut place = self.desk.place(id, whose);
        let published = self.publisher.publish(&queue, &message).await;
        drop(message);
        // Should it be there all the same, nobody is told to go.
        published.map_err(|why| NotPerformed::NotBegun(format!("no remote worker can be asked: {why}")))?;
        wait(&mut place, &Asking { remote: self, id, whose }, &job.lane).await
    }

    async fn tell(&self, id: Uuid, kind: &str, about: &About) -> Result<(), NotPublished> {
        match sealed(&self.keys, id, kind, about, b"") {
            Some(message) => self.publisher.publish_by(WORDS, &about.to, &message).await,
            None => Ok(()),
        }
    }

    async fn tell_to_stop(
        self,
        mut stops: mpsc::UnboundedReceiver<(Uuid, About)>,
        mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = stops.recv_many(&mut batch, WORDS_AT_A_TIME) => {
                    let told = batch.drain(..).map(|(id, about)| {
                        let remote = &self;
                        async move {
                            // One that does not hear it, or is gone, is refused when it answers.
                            match AssertUnwindSafe(remote.tell(id, word::STOP, &about)).catch_unwind().await {
                                Ok(Ok(())) => {}
                                Ok(Err(why)) => {
                                    debug!(%why, station = about.to, "a remote worker cannot be told to stop");
                                }
                                // The others are to hear it all the same.
                                Err(_) => error!(station = about.to, "telling a remote worker to stop failed"),
                            }
                        }
                    });
                    futures::future::join_all(told).await;
                }
                Some(done) = flushes.recv() => {
                    let _ = done.send(());
                }
                () = self.stop.cancelled() => break,
            }
        }
    }

    /// After the jobs: tells stations that are at something still to stop, and leaves the broker.
    pub async fn close(&self) {
        let (done, flushed) = oneshot::channel();
        if self.flush.send(done).is_ok() && tokio::time::timeout(LAST_WORDS, flushed).await.is_err() {
            warn!("remote workers could not be told to stop what they are at");
        }
        self.stop.cancel();
        self.publisher.close().await;
    }
}

/// One request that is waited for.
struct Asking<'a> {
    remote: &'a Remote,
    id: Uuid,
    whose: (Uuid, i64),
}

impl Line for Asking<'_> {
    fn is_open(&self) -> bool {
        self.remote.publisher.is_open() && self.remote.subscriber.is_open()
    }

    async fn tell_to_go(&self, station: &str) -> bool {
        let about = self.remote.desk.about(self.whose, station.to_owned());
        match self.remote.tell(self.id, word::GO, &about).await {
            Ok(()) | Err(NotPublished::Unconfirmed(_)) => true,
            Err(why) => {
                debug!(%why, station, "a remote worker cannot be told to begin");
                false
            }
        }
    }
}
