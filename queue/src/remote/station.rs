//! The remote worker's side: takes requests out of the broker, asks whether it may begin, performs, answers.

use super::performers::{NoReply, Performers};
use super::seal::{About, Unopened, opened, sealed};
use super::{
    ANSWERING, ASK, BEAT, HEARTBEAT, PICK, answer, foreign_requests, is_of, is_too_large, word, words,
};
use crate::messages::{Fate, Message, NotNow, NotPublished, Publisher, QueueSpec, Receive, Subscriber};
use crate::transport::link::{self, rest};
use crate::{BrokerConfig, KeyRing, metrics};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicRejectOptions};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// An answer is tried to be given for so long.
const ANSWER: Duration = Duration::from_secs(60);
/// What was begun is not begun again when its request comes once more within this time. It is void long before.
const REMEMBERED: Duration = Duration::from_secs(300);
/// A request that cannot be opened is left to others for a moment.
const ASIDE: Duration = Duration::from_secs(2);

/// A worker without a database. Cheap to clone.
pub struct Station<T>(Arc<Inner<T>>);

impl<T> Clone for Station<T> {
    fn clone(&self) -> Self {
        Station(self.0.clone())
    }
}

struct Inner<T> {
    broker: BrokerConfig,
    name: String,
    keys: KeyRing,
    lanes: Vec<(String, u16)>,
    publisher: Publisher,
    performers: Performers<T>,
    tools: Arc<T>,
    /// In which it is told what to do.
    words: QueueSpec,
    requests: Mutex<HashMap<Uuid, Signs>>,
    running: TaskTracker,
    /// No more requests.
    closing: CancellationToken,
    /// Lanes that it gets requests of now.
    open: AtomicUsize,
}

/// Of one request.
#[derive(Clone, Debug)]
struct Signs {
    ended: Option<Instant>,
    go: CancellationToken,
    stop: CancellationToken,
}

/// What becomes of the message of a request.
enum End {
    /// It is dealt with, or of no use any more.
    Forget,
    /// To others.
    GiveBack,
    /// To the dead letters.
    Dead,
}

impl<T: Send + Sync + 'static> Station<T> {
    /// Connects at once, and asks for nothing before [`Station::run`]. `lanes`: each with how many requests at a time.
    pub fn open(
        broker: &BrokerConfig,
        name: &str,
        keys: KeyRing,
        lanes: Vec<(String, u16)>,
        (performers, tools): (Performers<T>, T),
    ) -> Station<T> {
        let broker = BrokerConfig { heartbeat: HEARTBEAT, ..broker.clone() };
        Station(Arc::new(Inner {
            publisher: Publisher::slow(&broker, name, "remote", "remote_large"),
            broker,
            name: name.to_owned(),
            keys,
            lanes,
            performers,
            tools: Arc::new(tools),
            words: words(&Uuid::now_v7().simple().to_string()),
            requests: Mutex::default(),
            running: TaskTracker::new(),
            closing: CancellationToken::new(),
            open: AtomicUsize::new(0),
        }))
    }

    /// Whether requests of all its lanes come, and answers go.
    pub fn is_connected(&self) -> bool {
        self.0.publisher.is_open() && self.0.open.load(Ordering::Acquire) == self.0.lanes.len()
    }

    /// Takes requests until `stop`, then lets those that were begun end for `grace`. Reconnects by itself.
    pub async fn run(&self, stop: CancellationToken, grace: Duration) {
        let subscriber = Subscriber::new(&self.0.broker, &self.0.name, "requests");
        let work = async {
            let taking = self.0.lanes.iter().map(|(lane, size)| self.take(&subscriber, lane, *size, &stop));
            futures::future::join_all(taking).await;
            self.0.closing.cancel();
            self.0.running.close();
            if tokio::time::timeout(grace, self.0.running.wait()).await.is_err() {
                warn!("grace time is over: what runs still is left to the platform");
            }
        };
        // Words are heard until the last request has ended.
        let never = CancellationToken::new();
        tokio::select! {
            () = work => {}
            () = subscriber.run(&self.0.words, &*self.0, &never) => {}
        }
        self.0.publisher.close().await;
        subscriber.close().await;
    }

    async fn take(&self, subscriber: &Subscriber, lane: &str, size: u16, stop: &CancellationToken) {
        let (queue, mut failures) = (foreign_requests(lane, size), 0);
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = subscriber.open(&queue) => opened,
            };
            let why = match opened {
                Ok((channel, deliveries)) => {
                    info!(lane, "requests come");
                    failures = 0;
                    self.0.open.fetch_add(1, Ordering::AcqRel);
                    let why = self.consume(&queue.name, &channel, deliveries, stop).await;
                    self.0.open.fetch_sub(1, Ordering::AcqRel);
                    why
                }
                Err(error) => error.to_string(),
            };
            if stop.is_cancelled() {
                return;
            }
            failures += 1;
            if failures == 1 {
                warn!(why, lane, "no requests (does a platform ask for this lane?); trying again");
            } else {
                debug!(why, lane, failures, "no requests; trying again");
            }
            if !rest(failures, stop).await {
                return;
            }
        }
    }

    /// Answers why there are no more. Requests are acknowledged at their end, so the prefetch is how many run at a time.
    async fn consume(
        &self,
        queue: &str,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
        stop: &CancellationToken,
    ) -> String {
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => break,
                delivery = deliveries.next() => delivery,
            };
            match delivery {
                Some(Ok(delivery)) => {
                    let (station, queue) = (self.0.clone(), queue.to_owned());
                    // The channel lives as long as its deliveries.
                    let channel = channel.clone();
                    self.0.running.spawn(async move { station.handle(&queue, delivery, &channel).await });
                }
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the delivery of requests".to_owned(),
            }
        }
        // What has come and was not looked at is for others.
        let _ = link::reply(channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default())).await;
        while let Some(Some(Ok(delivery))) = deliveries.next().now_or_never() {
            settle(channel, delivery.delivery_tag, End::GiveBack).await;
        }
        "told to stop".to_owned()
    }
}

async fn settle(channel: &Channel, tag: u64, end: End) {
    // Where the channel is gone, the broker gives it to others by itself.
    let _ = match end {
        End::Forget => link::reply(channel.basic_ack(tag, BasicAckOptions::default())).await,
        End::GiveBack => link::reply(channel.basic_reject(tag, BasicRejectOptions { requeue: true })).await,
        End::Dead => link::reply(channel.basic_reject(tag, BasicRejectOptions { requeue: false })).await,
    };
}

impl<T: Send + Sync + 'static> Inner<T> {
    async fn handle(&self, queue: &str, mut delivery: Delivery, channel: &Channel) {
        let end = match Message::read(&mut delivery) {
            Some(request) if is_too_large(&request) => {
                warn!(
                    queue,
                    bytes = request.body.len(),
                    "a request that is too large was put to the dead letters"
                );
                count("oversized", End::Dead)
            }
            Some(request) => self.deal_with(queue, request).await,
            None => {
                warn!(queue, "a message that is no request was put to the dead letters");
                count("foreign", End::Dead)
            }
        };
        settle(channel, delivery.delivery_tag, end).await;
    }

    async fn deal_with(&self, queue: &str, mut request: Message) -> End {
        let (id, kind) = (request.id, request.kind.clone());
        let (about, body) = match opened(&self.keys, queue, &mut request) {
            Ok((about, body)) if is_of(ANSWERING, &about.from) => (about.answer(), body),
            Ok(_) => {
                error!(kind, "a request that wants its answer elsewhere was put to the dead letters");
                return count("unopened", End::Dead);
            }
            Err(why @ Unopened::UnknownKey(_)) => {
                error!(%why, kind, "a request cannot be opened and is left to other workers; compare RELAYDESK_REMOTE_KEYS");
                // Until it is void, another may have the key.
                tokio::select! {
                    () = tokio::time::sleep(ASIDE) => {}
                    () = self.closing.cancelled() => {}
                }
                return count("unopened", End::GiveBack);
            }
            Err(why @ Unopened::OtherVersion(_)) => {
                error!(%why, kind, "a request is left to workers of its version");
                tokio::time::sleep(ASIDE).await;
                return count("unopened", End::GiveBack);
            }
            Err(why @ Unopened::Forged) => {
                error!(%why, kind, "a request was put to the dead letters");
                return count("unopened", End::Dead);
            }
        };
        let Some(signs) = self.enter(id) else { return count("again", End::Forget) };
        let work = match self.performers.prepare(&kind, body, &self.tools) {
            Ok(work) => work,
            Err(why) => {
                warn!(kind, why, "a request was refused");
                let why = format!("the remote worker {}: {why}", self.name);
                self.say(id, answer::REFUSED, &about, why.as_bytes(), &signs.stop).await;
                self.lock().remove(&id);
                return count("refused", End::Forget);
            }
        };
        if let Some(end) = self.ask(id, &about, &signs).await {
            // It was not begun: should it come again, it may be.
            self.lock().remove(&id);
            return end;
        }
        let end = self.perform(id, work, &about, &signs).await;
        if let Some(signs) = self.lock().get_mut(&id) {
            signs.ended = Some(Instant::now());
        }
        end
    }

    /// `None`: go. Once it has asked the request is its own, so others get it only when it says that it will not.
    async fn ask(&self, id: Uuid, about: &About, signs: &Signs) -> Option<End> {
        if self.closing.is_cancelled() {
            return Some(count("given_back", End::GiveBack));
        }
        let asked = Instant::now();
        let (why, outcome) = loop {
            if asked.elapsed() >= PICK {
                break ("was not told to begin", "void");
            }
            if let Err(why) = self.publish(id, answer::TAKEN, about, b"").await {
                debug!(%why, "it cannot be asked whether a request may be begun");
            }
            tokio::select! {
                biased;
                () = signs.stop.cancelled() => return Some(count("stopped", End::Forget)),
                () = signs.go.cancelled() => return None,
                () = self.closing.cancelled() => break ("stops", "given_back"),
                () = tokio::time::sleep(ASK) => {}
            }
        };
        let why = format!("the remote worker {} {why}", self.name);
        self.say(id, answer::REFUSED, about, why.as_bytes(), &signs.stop).await;
        Some(count(outcome, End::Forget))
    }

    async fn perform(
        &self,
        id: Uuid,
        work: BoxFuture<'static, Result<Vec<u8>, NoReply>>,
        about: &About,
        signs: &Signs,
    ) -> End {
        // In a task of its own: a panic stays there.
        let mut work = tokio::spawn(work);
        // Also while its answer is on the way: a large one takes long on a slow line.
        let mut beat = pin!(async {
            let mut beats = tokio::time::interval(BEAT);
            loop {
                beats.tick().await;
                if let Err(why) = self.publish(id, answer::BEAT, about, b"").await {
                    debug!(%why, "a heartbeat was not taken");
                }
            }
        });
        let done = tokio::select! {
            biased;
            () = signs.stop.cancelled() => {
                work.abort();
                info!(job.id = %about.job, run = about.run, "stopped: its run is over");
                return count("stopped", End::Forget);
            }
            done = &mut work => done,
            () = &mut beat => unreachable!("it has no end"),
        };
        let (kind, body) = match done {
            Ok(Ok(body)) => (answer::DONE, body),
            Ok(Err(NoReply(why))) => (answer::TOO_LARGE, why.into_bytes()),
            Err(error) => {
                error!(%error, job.id = %about.job, "a request failed");
                let why = format!("the remote worker {} failed at it", self.name);
                (answer::FAILED, why.into_bytes())
            }
        };
        tokio::select! {
            () = self.say(id, kind, about, &body, &signs.stop) => {}
            () = &mut beat => unreachable!("it has no end"),
        }
        count(kind, End::Forget)
    }

    async fn publish(&self, id: Uuid, kind: &str, about: &About, body: &[u8]) -> Result<(), NotPublished> {
        match sealed(&self.keys, id, kind, &About { from: self.words.name.clone(), ..about.clone() }, body) {
            Some(message) => self.publisher.publish_by(ANSWERING, &about.to, &message).await,
            None => Err(NotPublished::Refused),
        }
    }

    /// Until the broker has it: the work is done, and should not be done again for want of an answer.
    async fn say(&self, id: Uuid, kind: &str, about: &About, body: &[u8], stop: &CancellationToken) {
        let (begun, mut failures) = (Instant::now(), 0);
        while let Err(why) = self.publish(id, kind, about, body).await {
            failures += 1;
            if begun.elapsed() > ANSWER {
                warn!(%why, "an answer could not be given; the platform does it again");
                return;
            }
            if !rest(failures, stop).await {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Signs>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: this process has or had it.
    fn enter(&self, id: Uuid) -> Option<Signs> {
        let mut requests = self.lock();
        requests.retain(|_, signs| signs.ended.is_none_or(|at| at.elapsed() < REMEMBERED));
        if requests.contains_key(&id) {
            return None;
        }
        let (go, stop) = (CancellationToken::new(), CancellationToken::new());
        let signs = Signs { ended: None, go, stop };
        requests.insert(id, signs.clone());
        Some(signs)
    }

    /// Answers what became of it, as the value of a metric.
    fn hear(&self, message: &Message) -> &'static str {
        let mut message = message.clone();
        if let Err(why) = opened(&self.keys, &self.words.name, &mut message) {
            warn!(%why, kind = message.kind, "a word of the platform was refused");
            return "unopened";
        }
        let signs = self.lock().get(&message.id).cloned();
        match (message.kind.as_str(), signs) {
            (word::GO, Some(signs)) => {
                signs.go.cancel();
                word::GO
            }
            (word::STOP, Some(signs)) => {
                signs.stop.cancel();
                word::STOP
            }
            (word::GO | word::STOP, None) => "late",
            _ => "unknown",
        }
    }
}

impl<T: Send + Sync + 'static> Receive for Inner<T> {
    async fn receive(&self, batch: &[Message]) -> Result<Vec<Fate>, NotNow> {
        Ok(batch.iter().map(|message| Fate::Taken(self.hear(message))).collect())
    }
}

fn count(outcome: &str, end: End) -> End {
    metrics::REMOTE_REQUESTS.with_label_values(&[outcome]).inc();
    end
}
