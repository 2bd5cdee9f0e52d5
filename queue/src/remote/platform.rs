//! The platform's side: sends requests, tells stations to go and to stop, waits for answers.

use super::desk::{Desk, Place, Said};
use super::performers::{Request, too_large};
use super::seal::{About, sealed};
use super::{ANSWERS, LARGEST, LOST, PICK, WORDS, answer, answers, requests, word};
use crate::messages::{NotPublished, Publisher, Subscriber};
use crate::running::Running;
use crate::{BrokerConfig, KeyRing};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

/// How often it is looked whether a silence has an end.
const LOOK: Duration = Duration::from_secs(1);
/// For the last words at the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Of what a station says to people.
const LONGEST_TEXT: usize = 500;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    publisher: Publisher,
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
        let stop = CancellationToken::new();
        let queue = answers(&Uuid::now_v7().simple().to_string());
        let mut queues: Vec<_> = lanes.iter().map(|lane| requests(lane, 1)).collect();
        queues.push(queue.clone());
        let publisher = Publisher::declaring(broker, name, "remote", queues, &[WORDS]);
        let (stops, to_stop) = mpsc::unbounded_channel();
        let (flush, flushes) = mpsc::unbounded_channel();
        let desk = Desk::new(keys.clone(), queue.name.clone(), stops);
        let remote =
            Remote { publisher, keys, lanes: Arc::new(lanes), desk: desk.clone(), flush, stop: stop.clone() };
        tokio::spawn(remote.clone().tell_to_stop(to_stop, flushes));
        let subscriber = Subscriber::new(broker, name, "answers");
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
        self.wait(&mut place, id, whose, &job.lane).await
    }

    async fn wait(
        &self,
        place: &mut Place,
        id: Uuid,
        whose: (Uuid, i64),
        lane: &str,
    ) -> Result<Vec<u8>, NotPerformed> {
        let (mut is_taken, mut silence) = (false, Duration::ZERO);
        loop {
            let said = match tokio::time::timeout(LOOK, place.told.recv()).await {
                Ok(Some(said)) => said,
                Ok(None) => return Err(NotPerformed::Stopped),
                Err(_) => {
                    // Nobody is heard while the broker is away from here. The job's own time limit holds all the same.
                    if !is_taken || self.publisher.is_open() {
                        silence += LOOK;
                    }
                    if is_taken && silence >= LOST {
                        let why = format!("the remote worker that had it was not heard of for {LOST:?}");
                        return Err(NotPerformed::Failed(why));
                    }
                    if !is_taken && silence >= PICK {
                        let why = format!(
                            "no remote worker took it within {PICK:?}: is there one for the lane {lane}?"
                        );
                        return Err(NotPerformed::NotBegun(why));
                    }
                    continue;
                }
            };
            silence = Duration::ZERO;
            match said.kind.as_str() {
                answer::TAKEN => {
                    is_taken = self.tell_to_go(id, whose, &said.about.from).await;
                    if !is_taken {
                        place.open_again();
                    }
                }
                answer::BEAT => is_taken = true,
                answer::DONE => return Ok(said.body),
                answer::REFUSED => return Err(NotPerformed::NotBegun(text(&said))),
                answer::TOO_LARGE => return Err(NotPerformed::Impossible(text(&said))),
                _ => return Err(NotPerformed::Failed(text(&said))),
            }
        }
    }

    /// False: it has certainly not been told.
    async fn tell_to_go(&self, id: Uuid, whose: (Uuid, i64), station: &str) -> bool {
        let told = self.tell(id, word::GO, &self.desk.about(whose, station.to_owned())).await;
        match told {
            Ok(()) | Err(NotPublished::Unconfirmed(_)) => true,
            Err(why) => {
                debug!(%why, station, "a remote worker cannot be told to begin");
                false
            }
        }
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
                _ = stops.recv_many(&mut batch, usize::from(ANSWERS)) => {
                    let told = batch.drain(..).map(|(id, about)| {
                        let remote = &self;
                        async move {
                            // One that does not hear it, or is gone, is refused when it answers.
                            if let Err(why) = remote.tell(id, word::STOP, &about).await {
                                debug!(%why, station = about.to, "a remote worker cannot be told to stop");
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

/// Somebody else's words, for the ledger and the log.
fn text(said: &Said) -> String {
    let text = String::from_utf8_lossy(&said.body[..said.body.len().min(4 * LONGEST_TEXT)]);
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT);
    line.collect()
}
