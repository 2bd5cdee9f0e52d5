//! From rows to messages: marks ready rows of a lane, publishes a message for each, waits for the broker's confirmations. What is
//! not confirmed in time is unmarked and published again; what was marked by a relay that died, or lost by the broker, the
//! sweep finds.

use super::link::{Broker, BrokerError, Sight, rest};
use super::message::Notice;
use super::topology::{self, Names};
use super::{Head, outbox};
use crate::claim::Wanted;
use crate::listener::Waker;
use crate::metrics;
use crate::plumbing::{Patience, Plumbing, jittered};
use crate::turns::{NOBODY, Turns};
use chrono::{DateTime, Utc};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// Rows marked and published together.
const BATCH: usize = 1000;
/// As many messages wait in the broker as are consumed in a fifth of a second, within these limits. The rest of a backlog stays in the
/// database, where tenants take turns and priorities count, a pause and a cancellation take effect at once, and nobody has
/// to publish it again when the broker's data is gone.
const AHEAD: Duration = Duration::from_millis(200);
const WINDOW: std::ops::RangeInclusive<usize> = 64..=4000;
/// A batch must be confirmed within this time.
const CONFIRM: Duration = Duration::from_secs(5);
/// How soon the depth of a full queue, or a blocked connection, is looked at again; then more and more rarely, up to 16 times
/// as long.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Relay {
    pub lane: String,
    /// Of this process.
    pub concurrency: usize,
    pub broker: Arc<Broker>,
    /// Its commits are not waited for: a mark that a crash of the database takes back is a message twice.
    pub plumbing: Plumbing,
    pub wake: Arc<Waker>,
    pub head: Arc<Head>,
    pub stop: CancellationToken,
}

/// What the relay keeps between its rounds.
struct Session {
    names: Names,
    channel: Option<Channel>,
    pace: Pace,
    turns: Turns,
    /// The last round left something.
    busy: bool,
    failures: u32,
    patience: Patience,
    /// Marked, and to be published next.
    marked: Option<Batch>,
    /// Looks in a row at a queue that was full.
    waits: u32,
}

struct Batch {
    notices: Vec<Notice>,
    /// There may be more behind it.
    more: bool,
}

/// How far ahead of the consumers to publish.
struct Pace {
    looked: Instant,
    /// The depth of the queue at that time.
    depth: usize,
    published: usize,
    window: usize,
}

impl Pace {
    fn new() -> Pace {
        Pace { looked: Instant::now(), depth: 0, published: 0, window: *WINDOW.start() }
    }

    /// Messages that may be published before the depth is to be looked at again.
    fn room(&self) -> usize {
        self.window.saturating_sub(self.depth + self.published)
    }

    /// What went out since the last look says how much is needed. With other relays on the lane it is too little: then
    /// they share the work.
    fn looked(&mut self, depth: usize, now: Instant) {
        let consumed = (self.depth + self.published).saturating_sub(depth) as f64;
        let seconds = (now - self.looked).as_secs_f64().max(0.001);
        let needed = (consumed / seconds * AHEAD.as_secs_f64()) as usize;
        // A queue that was empty before it was looked at might have been emptied faster.
        let needed = if depth == 0 { needed.max(self.window * 2) } else { needed };
        self.window = needed.clamp(*WINDOW.start(), *WINDOW.end());
        (self.looked, self.depth, self.published) = (now, depth, 0);
    }
}

enum Round {
    /// There may be more.
    Again,
    Idle,
    /// The broker cannot take more for the moment.
    Full,
}

enum Failed {
    Broker(BrokerError),
    Database(sqlx::Error),
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        Failed::Broker(error)
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Failed::Database(error)
    }
}

impl Relay {
    pub async fn run(self) {
        let mut session = Session {
            names: Names::new(&self.broker.config.prefix),
            channel: None,
            pace: Pace::new(),
            turns: Turns::default(),
            busy: false,
            failures: 0,
            patience: Patience::default(),
            marked: None,
            waits: 0,
        };
        self.work(&mut session).await;
        self.let_go(&mut session).await;
    }

    async fn work(&self, session: &mut Session) {
        let mut sweep = Instant::now();
        loop {
            let outcome = if sweep <= Instant::now() {
                let begun = Instant::now();
                let swept = self.sweep(session).await;
                let took = swept.as_ref().ok().map(|_| begun.elapsed());
                sweep = Instant::now() + jittered(until_next_sweep(self.broker.config.republish_after, took));
                swept
            } else {
                self.round(session).await
            };
            if matches!(outcome, Err(Failed::Database(_))) {
                // It may have marked rows and not lived to say so.
                sweep = sweep.min(Instant::now() + self.broker.config.republish_after);
            }
            match outcome {
                Ok(Round::Again) if !self.stop.is_cancelled() => {}
                Ok(Round::Full) => {
                    let pause = LOOK * (1 << session.waits.min(4));
                    session.waits += 1;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Ok(_) => {
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.wake.woken() => {}
                        () = tokio::time::sleep_until(sweep.into()) => {}
                    }
                }
                Err(Failed::Broker(error)) => {
                    self.let_go(session).await;
                    session.channel = None;
                    session.failures += 1;
                    if session.failures == 1 && self.broker.publishing.sight() != Sight::Away {
                        warn!(%error, lane = self.lane, "publishing jobs failed; trying again");
                    }
                    if !rest(session.failures, &self.stop).await {
                        return;
                    }
                }
                Err(Failed::Database(error)) => {
                    if !session.patience.failed("publishing jobs", &error, &self.stop).await {
                        return;
                    }
                }
            }
        }
    }

    async fn channel<'s>(&self, session: &'s mut Session) -> Result<&'s Channel, BrokerError> {
        if session.channel.as_ref().is_none_or(|channel| !channel.status().connected()) {
            session.channel = None;
            let channel = self.broker.publishing.channel().await?;
            super::link::reply(channel.confirm_select(ConfirmSelectOptions::default())).await?;
            topology::declare(&channel, &session.names, &self.lane).await?;
            let depth = topology::depth(&channel, &session.names, &self.lane).await?;
            session.channel = Some(channel);
            session.pace = Pace { depth, ..Pace::new() };
        }
        Ok(session.channel.as_ref().expect("just made"))
    }

    async fn round(&self, session: &mut Session) -> Result<Round, Failed> {
        if self.broker.publishing.sight() == Sight::Blocked {
            self.let_go(session).await;
            return Ok(Round::Full);
        }
        let names = session.names.clone();
        let channel = self.channel(session).await?.clone();
        if session.marked.is_none() && session.pace.room() == 0 {
            let depth = topology::depth(&channel, &names, &self.lane).await?;
            session.pace.looked(depth, Instant::now());
            if session.pace.room() == 0 {
                return Ok(Round::Full);
            }
        }
        let batch = match session.marked.take() {
            Some(batch) => batch,
            None => self.mark(session).await?,
        };
        if batch.notices.is_empty() {
            session.failures = 0;
            return Ok(if batch.more { Round::Again } else { Round::Idle });
        }
        session.waits = 0;
        // The next batch is marked while the broker writes this one.
        let goes_on = batch.more && session.pace.room() > 0;
        let (published, marked) =
            futures::future::join(self.publish(&channel, &names, &batch.notices), async {
                if goes_on { self.mark(session).await.map(Some) } else { Ok(None) }
            })
            .await;
        if let Err((unconfirmed, error)) = published {
            session.marked = marked.ok().flatten();
            self.take_back(unconfirmed, batch.notices[0].published).await;
            return Err(Failed::Broker(error));
        }
        session.failures = 0;
        session.marked = marked?;
        Ok(if batch.more { Round::Again } else { Round::Idle })
    }

    async fn mark(&self, session: &mut Session) -> Result<Batch, sqlx::Error> {
        // Whether there is a backlog, and whose, is found out with few jobs.
        let most = if session.busy { BATCH } else { self.concurrency };
        let room = session.pace.room().min(most);
        let by_turns = session.turns.several();
        let wanted =
            if by_turns { Wanted::ByTurns(session.turns.share(room)) } else { Wanted::InOrder(room) };
        let lane = self.lane.clone();
        let notices = self
            .plumbing
            .run(move |connection| Box::pin(async move { outbox::mark(connection, &lane, &wanted).await }))
            .await?;
        session.patience.reset();
        session.pace.published += notices.len();
        session.turns.served(notices.iter().map(|notice| notice.organization.unwrap_or(NOBODY)));
        let full = notices.len() == room;
        session.busy = full || by_turns;
        if !full && by_turns {
            // Somebody had less than its share; what is left for others comes with the next round.
            session.turns.forget();
        } else if full && session.turns.look(Instant::now(), self.wake.news()) {
            self.see_who_waits(&mut session.turns).await;
        }
        Ok(Batch { notices, more: full || by_turns })
    }

    /// Best effort: what stays marked and has no message, the sweep finds.
    async fn take_back(&self, ids: Vec<Uuid>, published: DateTime<Utc>) {
        let done = self
            .plumbing
            .run(move |connection| Box::pin(async move { outbox::unmark(connection, &ids, published).await }))
            .await;
        if let Err(error) = done {
            tracing::debug!(%error, lane = self.lane, "marks of what was not published stay until the sweep");
        }
    }

    /// What was marked and will not be published now.
    async fn let_go(&self, session: &mut Session) {
        if let Some(batch) = session.marked.take()
            && let Some(first) = batch.notices.first()
        {
            self.take_back(batch.notices.iter().map(|notice| notice.id).collect(), first.published).await;
        }
    }

    /// Best effort, as in a claim.
    async fn see_who_waits(&self, turns: &mut Turns) {
        let (lane, from, asked) = (self.lane.clone(), turns.from(), Instant::now());
        self.wake.looked();
        let heads = self
            .plumbing
            .run(move |connection| Box::pin(async move { outbox::heads(connection, &lane, from).await }))
            .await;
        match heads {
            Ok(heads) => turns.found(&heads, Instant::now(), asked.elapsed()),
            Err(error) => tracing::debug!(%error, lane = self.lane, "it is unknown whose jobs wait"),
        }
    }

    /// All at once, then all confirmations. Answers which were not confirmed, and why.
    async fn publish(
        &self,
        channel: &Channel,
        names: &Names,
        notices: &[Notice],
    ) -> Result<(), (Vec<Uuid>, BrokerError)> {
        let started = Instant::now();
        let until = tokio::time::Instant::now() + CONFIRM;
        let each = notices.iter().map(|notice| {
            let (exchange, lane) = (names.exchange(), self.lane.as_str());
            async move {
                let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let publish = async {
                    let sent = channel
                        .basic_publish(exchange, lane.into(), mandatory, &notice.body(), notice.properties())
                        .await?;
                    sent.await
                };
                match tokio::time::timeout_at(until, publish).await {
                    Ok(Ok(Confirmation::Ack(None))) => Ok(()),
                    Ok(Ok(Confirmation::Ack(Some(_)))) => Err(BrokerError::NotTaken("no queue for it")),
                    Ok(Ok(_)) => Err(BrokerError::NotTaken("refused")),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(BrokerError::Silent(CONFIRM)),
                }
            }
        });
        let answers = futures::future::join_all(each).await;
        metrics::AMQP_CONFIRM.observe(started.elapsed().as_secs_f64());
        let mut failed: Option<(Vec<Uuid>, BrokerError)> = None;
        for (notice, answer) in notices.iter().zip(answers) {
            if let Err(error) = answer {
                failed.get_or_insert((Vec::new(), error)).0.push(notice.id);
            }
        }
        let lost = failed.as_ref().map_or(0, |(ids, _)| ids.len());
        let count = |outcome, n: usize| {
            metrics::AMQP_PUBLISHED.with_label_values(&[self.lane.as_str(), outcome]).inc_by(n as u64);
        };
        count("confirmed", notices.len() - lost);
        count("failed", lost);
        failed.map_or(Ok(()), Err)
    }

    /// Finds what was published and never arrived.
    async fn sweep(&self, session: &mut Session) -> Result<Round, Failed> {
        if self.broker.publishing.sight() == Sight::Blocked {
            return Ok(Round::Full);
        }
        let names = session.names.clone();
        let channel = self.channel(session).await?;
        let depth = topology::depth(channel, &names, &self.lane).await?;
        let head = (depth > 0).then(|| self.head.published());
        let (lane, after) = (self.lane.clone(), self.broker.config.republish_after);
        let lost = self
            .plumbing
            .run(move |connection| {
                Box::pin(async move { outbox::unmark_lost(connection, &lane, head, after).await })
            })
            .await?;
        if lost > 0 {
            metrics::AMQP_REPUBLISHED.with_label_values(&[self.lane.as_str()]).inc_by(lost);
            warn!(
                jobs = lost,
                lane = self.lane,
                "messages of waiting jobs are gone; they are published again"
            );
        }
        Ok(Round::Again)
    }
}

/// Looking at a million rows takes its time; then it is done more rarely. How long one without an answer took says nothing: what a
/// silent database kept from us is looked for as soon as it is back.
fn until_next_sweep(republish_after: Duration, took: Option<Duration>) -> Duration {
    (republish_after / 3).max(took.unwrap_or_default() * 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sweep_is_done_more_rarely_and_one_without_an_answer_is_not() {
        let after = Duration::from_secs(15);
        assert_eq!(until_next_sweep(after, Some(Duration::from_millis(20))), Duration::from_secs(5));
        assert_eq!(until_next_sweep(after, Some(Duration::from_secs(2))), Duration::from_secs(40));
        assert_eq!(until_next_sweep(after, None), Duration::from_secs(5));
    }

    #[test]
    fn as_much_is_published_ahead_as_is_consumed() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut pace = Pace { looked: begun, ..Pace::new() };
        assert_eq!(pace.room(), 64);
        pace.published = 64;
        // Gone at once: more.
        pace.looked(0, after(20));
        assert_eq!(pace.room(), 640);
        pace.published = 640;
        pace.looked(100, after(40));
        assert_eq!((pace.window, pace.room()), (4000, 3900), "27,000 a second are more than the limit");
        // Slow jobs: 16 a second.
        pace.published = 3900;
        pace.looked(3984, after(1040));
        assert_eq!((pace.window, pace.room()), (64, 0));
        pace.looked(40, after(250_000));
        assert_eq!(pace.room(), 24);
    }
}
