//! Where the envelopes of a lane on Postgres come from: permits first, then one batched claim. `transport::consumer` is this for
//! RabbitMQ; everything behind the hand-over is the same.

use crate::admit;
use crate::backend::HandOver;
use crate::claim::{self, Envelope, Wanted, no_floor};
use crate::heart::Incarnation;
use crate::held::Held;
use crate::limit::Limits;
use crate::listener::Waker;
use crate::metrics;
use crate::plumbing::{Patience, Plumbing};
use crate::turns::{NOBODY, Turns};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Rows taken in one claim at most.
const BATCH: usize = 1000;
/// With a backlog, how long a claim may wait for half of the lane to be free instead of fetching one by one.
const GATHER: Duration = Duration::from_millis(5);
/// The rank below which an idle lane does not look until its next poll; and a busy one, whose poll comes as often. The longer, the more
/// dead index entries each claim steps over while some transaction keeps them from being removed: all jobs that ended in this time.
const LONG: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(5);
/// After a claim whose answer was lost: for how long, and how often, to look for jobs that we hold without knowing.
const SUSPECT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

pub(crate) struct Claimer {
    pub lane: String,
    pub concurrency: usize,
    pub kinds: Arc<[&'static str]>,
    pub limits: Arc<Limits>,
    pub clock_shift: Arc<AtomicI64>,
    pub plumbing: Plumbing,
    pub incarnation: Arc<Incarnation>,
    pub held: Arc<Held>,
    pub wake: Arc<Waker>,
    pub hand_over: HandOver,
    pub stop: CancellationToken,
}

impl Claimer {
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.concurrency));
        let mut patience = Patience::default();
        let mut backlog = false;
        let mut suspicion: Option<Suspicion> = None;
        let mut turns = Turns::default();
        // Jobs with lower ranks need not be looked for: there was none when we last looked, and those that become ready
        // again, or are important, are announced as older. Otherwise a claim would step over the dead index entries of all jobs that finished
        // while some long transaction keeps vacuum from removing them.
        let mut floor = no_floor();
        // How far a line has been claimed whose tenant is the only one that waits: what is in work need not be stepped over again.
        let mut reached: Option<(Uuid, DateTime<Utc>)> = None;
        // Of a lane that is limited over all processes only what is free is shared between tenants.
        let mut limited = true;
        loop {
            if !backlog {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.wake.woken() => {}
                    () = look_at(suspicion.as_ref()) => {}
                }
                self.gather(&permits).await;
            }
            self.look(&mut suspicion).await;
            let Some(mut held) = self.take_permits(&permits, backlog).await else {
                return;
            };
            let mut room = held.num_permits();
            if self.wake.take_older() {
                floor = no_floor();
                reached = None;
            }
            if limited && let Ok(free) = self.free().await {
                limited = free.is_some();
                room = room.min(free.unwrap_or(room));
                if room == 0 {
                    // Whoever frees a place wakes us.
                    backlog = false;
                    floor = no_floor();
                    continue;
                }
            }
            let only = turns.only();
            let by_turns = turns.several() || only.is_some();
            let from = reached
                .filter(|(tenant, _)| only == Some(*tenant))
                .map_or(floor, |(_, rank)| rank.max(floor));
            let wanted = match only {
                Some(tenant) => Wanted::ByTurns(vec![(tenant, room as i64)]),
                None if by_turns => Wanted::ByTurns(turns.share(room)),
                None => Wanted::InOrder(room),
            };
            match self.claim(wanted, from).await {
                Ok((claimed, envelopes)) => {
                    patience.reset();
                    backlog = claimed == room;
                    limited |= envelopes.iter().any(|envelope| envelope.lane_limited);
                    reached = only.zip(envelopes.last().map(|last| last.rank.min(ago(LATE))));
                    turns.served(envelopes.iter().map(|e| e.organization.unwrap_or(NOBODY)));
                    if !backlog && by_turns {
                        // Somebody had less than its share; what is left for others comes with the next claim.
                        turns.forget();
                        backlog = true;
                    } else if !backlog {
                        floor = ago(LONG);
                    } else if turns.look(Instant::now(), self.wake.news()) {
                        self.see_who_waits(&mut turns, floor).await;
                    }
                    if !self.begin(envelopes, &mut held).await {
                        return;
                    }
                }
                Err(error) => {
                    backlog = true; // unknown: look again
                    floor = no_floor();
                    reached = None;
                    suspicion = Some(Suspicion::now());
                    drop(held);
                    if !patience.failed("claiming jobs", &error, &self.stop).await {
                        return;
                    }
                }
            }
        }
    }

    /// Hands claimed jobs to the worker, each with a permit of `held`; false when the worker is stopping, and they were given back.
    pub async fn begin(&self, mut envelopes: Vec<Envelope>, held: &mut OwnedSemaphorePermit) -> bool {
        if envelopes.is_empty() {
            return true;
        }
        for envelope in &mut envelopes {
            envelope.permit = held.split(1);
            let waited = (envelope.claimed_at - envelope.due_at).as_seconds_f64().max(0.0);
            metrics::WAIT.with_label_values(&[self.lane.as_str()]).observe(waited);
        }
        self.held.add(envelopes.iter().map(|e| ((e.id, e.run), e.sign.clone())));
        let Err(unstarted) = self.hand_over.push(envelopes) else { return true };
        give_back(&self.plumbing, &unstarted).await;
        false
    }

    /// Looks for claims that we do not know of, when it is time to.
    pub async fn look(&self, suspicion: &mut Option<Suspicion>) {
        if let Some(mut suspect) = suspicion.take_if(|suspect| suspect.look <= Instant::now())
            && (self.return_unknown().await.is_err() || Instant::now() < suspect.until)
        {
            suspect.look = Instant::now() + LOOK;
            *suspicion = Some(suspect);
        }
    }

    /// A lane that is busy already fetches what comes in during a few milliseconds together; an idle one waits for nothing.
    async fn gather(&self, permits: &Semaphore) {
        if permits.available_permits() * 4 <= self.concurrency * 3 {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
        }
    }

    pub async fn take_permits(
        &self,
        permits: &Arc<Semaphore>,
        backlog: bool,
    ) -> Option<OwnedSemaphorePermit> {
        let mut held = tokio::select! {
            () = self.stop.cancelled() => return None,
            permit = permits.clone().acquire_owned() => permit.ok()?,
        };
        let half = (self.concurrency / 2).min(BATCH);
        if backlog && half > 1 && permits.available_permits() < half {
            let more = permits.clone().acquire_many_owned((half - 1) as u32);
            if let Ok(Ok(more)) = tokio::time::timeout(GATHER, more).await {
                held.merge(more);
            }
        }
        let free = permits.available_permits().min(BATCH - held.num_permits());
        if free > 0
            && let Ok(more) = permits.clone().try_acquire_many_owned(free as u32)
        {
            held.merge(more);
        }
        Some(held)
    }

    /// Gives back what the database says we hold and we do not know: claims whose answer never came. Nobody else would,
    /// since our heartbeat keeps their lease.
    async fn return_unknown(&self) -> Result<(), sqlx::Error> {
        let (lane, worker, held) = (self.lane.clone(), self.incarnation.current(), self.held.clone());
        let returned = self
            .plumbing
            .run(move |connection| {
                Box::pin(async move {
                    let unknown = held.unknown(claim::claims_of(connection, &lane, worker).await?);
                    if !unknown.is_empty() {
                        claim::give_back(connection, &unknown).await?;
                    }
                    Ok(unknown.len())
                })
            })
            .await?;
        if returned > 0 {
            tracing::warn!(jobs = returned, lane = self.lane, "claims whose answer was lost were given back");
        }
        Ok(())
    }

    /// Best effort: without an answer the claims go on as before.
    async fn see_who_waits(&self, turns: &mut Turns, floor: DateTime<Utc>) {
        let (lane, kinds, from) = (self.lane.clone(), self.kinds.clone(), turns.from());
        let asked = Instant::now();
        self.wake.looked();
        let heads = self
            .plumbing
            .run(move |connection| {
                Box::pin(async move { claim::heads(connection, &lane, &kinds, from, floor).await })
            })
            .await;
        match heads {
            Ok(heads) => turns.found(&heads, Instant::now(), asked.elapsed()),
            Err(error) => tracing::debug!(%error, lane = self.lane, "it is unknown whose jobs wait"),
        }
    }

    /// What is free of the lane over all processes, if that is limited.
    async fn free(&self) -> Result<Option<usize>, sqlx::Error> {
        let lane = self.lane.clone();
        self.plumbing
            .run(move |connection| Box::pin(async move { claim::free(connection, &lane).await }))
            .await
    }

    /// How many were claimed, and those of them that may run now.
    async fn claim(
        &self,
        wanted: Wanted,
        floor: DateTime<Utc>,
    ) -> Result<(usize, Vec<Envelope>), sqlx::Error> {
        let (limits, shift) = (self.limits.clone(), self.clock_shift.load(Ordering::Relaxed));
        let (lane, worker, kinds) = (self.lane.clone(), self.incarnation.current(), self.kinds.clone());
        self.plumbing
            .run(move |connection| {
                Box::pin(async move {
                    let claimed = claim::claim(connection, &lane, worker, &kinds, &wanted, floor).await?;
                    Ok((claimed.len(), admit::admit(connection, &limits, claimed, shift).await?))
                })
            })
            .await
    }
}

/// The rank of what became ready so long ago: clocks that differ by less, and transactions that take less, are covered; the
/// poll looks without a floor and covers the rest.
fn ago(time: Duration) -> DateTime<Utc> {
    let now = Uuid::now_v7().as_u128() >> 80; // milliseconds
    let time = time.as_millis() as i64;
    DateTime::from_timestamp_millis((now as i64).saturating_sub(time)).unwrap_or_else(no_floor)
}

/// A claim may have been committed, or may yet be, though its answer never came.
pub(crate) struct Suspicion {
    look: Instant,
    until: Instant,
}

impl Suspicion {
    pub fn now() -> Self {
        Suspicion { look: Instant::now(), until: Instant::now() + SUSPECT }
    }
}

pub(crate) async fn look_at(suspicion: Option<&Suspicion>) {
    match suspicion {
        Some(suspicion) => tokio::time::sleep_until(suspicion.look.into()).await,
        None => std::future::pending().await,
    }
}

/// Best effort: what cannot be given back now comes back when the lease ends.
pub(crate) async fn give_back(plumbing: &Plumbing, envelopes: &[Envelope]) {
    let jobs: Vec<_> = envelopes.iter().map(|envelope| (envelope.id, envelope.run)).collect();
    let given = plumbing
        .run(move |connection| Box::pin(async move { claim::give_back(connection, &jobs).await }))
        .await;
    if let Err(error) = given {
        tracing::warn!(%error, jobs = envelopes.len(), "unstarted jobs could not be given back; their lease will end");
    }
}
