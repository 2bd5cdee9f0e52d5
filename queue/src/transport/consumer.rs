//! From messages to envelopes: permits first, then the deliveries that are there, then one claim of the jobs they name. They are
//! acknowledged after the claim is committed, whatever it found; from then on the lease is what keeps the job.

use super::Head;
use super::link::{Broker, BrokerError, reply, rest};
use super::message::Received;
use super::outbox::{self, Claimed};
use super::topology::{self, Names};
use crate::admit;
use crate::claimer::{Claimer, Suspicion, look_at};
use crate::metrics;
use crate::plumbing::Patience;
use futures::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};
use uuid::Uuid;

pub(crate) struct Consumer {
    /// What a lane on Postgres has too: permits, hand-over, giving back.
    pub claimer: Claimer,
    pub broker: Arc<Broker>,
    pub head: Arc<Head>,
    /// Whether the database answers this process. Where it does not, messages are for others: each that is kept would wait for
    /// [`republish_after`](crate::BrokerConfig::republish_after).
    pub pulse: watch::Receiver<bool>,
}

enum End {
    /// The engine stops.
    Stopped,
    Lost(BrokerError),
    /// The database does not answer this process.
    Silent,
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        End::Lost(error)
    }
}

impl From<lapin::Error> for End {
    fn from(error: lapin::Error) -> Self {
        End::Lost(error.into())
    }
}

impl Consumer {
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.claimer.concurrency));
        let mut failures = 0;
        let mut suspicion = None;
        loop {
            let opened = tokio::select! {
                () = self.claimer.stop.cancelled() => return,
                opened = self.open() => opened,
            };
            let ended = match opened {
                Ok((channel, deliveries)) => {
                    let ended =
                        self.consume(&channel, deliveries, &permits, &mut suspicion, &mut failures).await;
                    if matches!(ended, Err(End::Silent)) {
                        // What it was sent goes back to the queue.
                        let _ = reply(channel.close(200, "no answer from the database".into())).await;
                    }
                    ended
                }
                Err(error) => Err(End::Lost(error)),
            };
            match ended {
                Ok(never) => match never {},
                Err(End::Stopped) => return,
                Err(End::Silent) => {
                    warn!(
                        lane = self.claimer.lane,
                        "the database does not answer: deliveries are left to others"
                    );
                    let mut pulse = self.pulse.clone();
                    tokio::select! {
                        () = self.claimer.stop.cancelled() => return,
                        _ = pulse.wait_for(|answers| *answers) => {}
                    }
                }
                Err(End::Lost(error)) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(%error, lane = self.claimer.lane, "no deliveries; trying again");
                    } else {
                        debug!(%error, failures, lane = self.claimer.lane, "no deliveries; trying again");
                    }
                    if !rest(failures, &self.claimer.stop).await {
                        return;
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<(Channel, lapin::Consumer), BrokerError> {
        let (lane, names) = (&self.claimer.lane, Names::new(&self.broker.config.prefix));
        let channel = self.broker.consuming.channel().await?;
        topology::declare(&channel, &names, lane).await?;
        // Enough to fill the next batch while one is claimed.
        let prefetch = (self.claimer.concurrency * 2).clamp(2, 2000) as u16;
        reply(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let tag = format!("{}.{}", lane, Uuid::now_v7());
        let consume = channel.basic_consume(
            names.queue(lane),
            tag.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = reply(consume).await?;
        Ok((channel, deliveries))
    }

    async fn consume(
        &self,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
        permits: &Arc<Semaphore>,
        suspicion: &mut Option<Suspicion>,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, End> {
        let claimer = &self.claimer;
        let mut backlog = false;
        loop {
            let first = tokio::select! {
                () = claimer.stop.cancelled() => return Err(End::Stopped),
                () = look_at(suspicion.as_ref()) => {
                    claimer.look(suspicion).await;
                    continue;
                }
                () = self.silence() => return Err(End::Silent),
                delivery = deliveries.next() => delivery.ok_or(BrokerError::Cancelled)??,
            };
            *failures = 0;
            let mut held = tokio::select! {
                held = claimer.take_permits(permits, backlog) => held.ok_or(End::Stopped)?,
                () = self.silence() => return Err(End::Silent),
            };
            let room = held.num_permits();
            let mut batch = vec![first];
            while batch.len() < room
                && let Some(delivery) = deliveries.next().now_or_never()
            {
                batch.push(delivery.ok_or(BrokerError::Cancelled)??);
            }
            backlog = batch.len() == room;
            let received = self.ours(&batch).await?;
            let count = |outcome, n: usize| {
                metrics::AMQP_DELIVERED.with_label_values(&[claimer.lane.as_str(), outcome]).inc_by(n as u64);
            };
            count("foreign", batch.len() - received.len());
            // What was put away has its answer; a second one would cost the channel.
            let Some(last) = received.last().map(|message| message.tag) else { continue };
            let ids: Vec<Uuid> = received.iter().map(|message| message.id).collect();
            let envelopes = self.claim(ids, suspicion).await?;
            count("claimed", envelopes.len());
            count("stale", received.len().saturating_sub(envelopes.len()));
            if !claimer.begin(envelopes, &mut held).await {
                return Err(End::Stopped);
            }
            received.iter().for_each(|message| self.head.saw(message.published));
            reply(channel.basic_ack(last, BasicAckOptions { multiple: true })).await?;
        }
    }

    /// Until the database does not answer this process any more.
    async fn silence(&self) {
        if self.pulse.clone().wait_for(|answers| !answers).await.is_err() {
            std::future::pending::<()>().await; // the heart has stopped, and the engine stops
        }
    }

    /// Messages that we did not write go to the dead letters.
    async fn ours(&self, batch: &[Delivery]) -> Result<Vec<Received>, BrokerError> {
        let mut received = Vec::with_capacity(batch.len());
        for delivery in batch {
            match Received::read(delivery) {
                Some(message) => received.push(message),
                None => {
                    warn!(lane = self.claimer.lane, "a message that is not a job's was put away");
                    reply(delivery.acker.reject(BasicRejectOptions { requeue: false })).await?;
                }
            }
        }
        Ok(received)
    }

    /// Until the database has answered, or is found not to answer this process: the messages are kept meanwhile.
    async fn claim(
        &self,
        ids: Vec<Uuid>,
        suspicion: &mut Option<Suspicion>,
    ) -> Result<Vec<crate::claim::Envelope>, End> {
        let claimer = &self.claimer;
        let mut patience = Patience::default();
        let ids = Arc::new(ids);
        loop {
            let (lane, worker) = (claimer.lane.clone(), claimer.incarnation.current());
            let (kinds, wanted) = (claimer.kinds.clone(), ids.clone());
            let (limits, shift) =
                (claimer.limits.clone(), claimer.clock_shift.load(std::sync::atomic::Ordering::Relaxed));
            let claimed = claimer
                .plumbing
                .run(move |connection| {
                    Box::pin(async move {
                        match outbox::claim(connection, &lane, worker, &kinds, &wanted).await? {
                            Claimed::Jobs(jobs) => {
                                Ok(Claimed::Jobs(admit::admit(connection, &limits, jobs, shift).await?))
                            }
                            other => Ok(other),
                        }
                    })
                })
                .await;
            match claimed {
                Ok(Claimed::Jobs(envelopes)) => {
                    patience.reset();
                    return Ok(envelopes);
                }
                Ok(Claimed::NotRegistered) => {
                    tokio::select! {
                        () = claimer.stop.cancelled() => return Err(End::Stopped),
                        () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    }
                }
                Err(error) => {
                    *suspicion = Some(Suspicion::now());
                    if !*self.pulse.borrow() {
                        return Err(End::Silent);
                    }
                    if !patience.failed("claiming jobs", &error, &claimer.stop).await {
                        return Err(End::Stopped);
                    }
                }
            }
        }
    }
}
