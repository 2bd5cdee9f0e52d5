//! The two ends of an attempt to deliver something: before it (count it, in a transaction of its own) and after it
//! (record the answer). In between nothing is held, and a crash repeats the call under the same key.

use crate::Shared;
use crate::outward::{NO_KEY, NO_WORKER, no_key_came};
use chrono::{DateTime, TimeDelta, Utc};
use connectors::sending::{Attempt, Outcome as Sending};
use domain::gate::{self, Entry};
use domain::mail::message_id;
use domain::{ChannelId, ChannelKind, DeliveryId, OrganizationId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use queue::remote::NotPerformed;
use queue::{JobError, JobResult, Outcome, Running};
use std::sync::LazyLock;
use std::time::Duration;
use store::channels::Channel;
use store::deliveries::{self, Answer, Delivery, Run, Status};
use store::{Tx, channel_gates};
use uuid::Uuid;

#[expect(clippy::expect_used, reason = "the name is registered once")]
static DELIVERIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "relaydesk_delivery_total",
        "Attempts to deliver a message, by channel and how they ended (sent, retry, given_up)",
        &["channel", "outcome"]
    )
    .expect("a metric that can be registered")
});

/// What the transaction before an attempt found.
#[derive(Debug)]
pub enum Claim {
    /// The run is over before it began.
    Over(Outcome),
    /// The attempt is counted; it cannot be sent at all, and why.
    Impossible(Box<Delivery>, String),
    /// The attempt is counted. The channel is there if the delivery goes to one.
    Ready(Box<Delivery>, Option<Channel>),
}

fn run_of(job: &Running) -> Run {
    Run { job: job.id.0, run: job.run }
}

/// Holds the row for an attempt of this run, or says why there must not be one.
pub async fn open(tx: &mut Tx, job: &Running, id: DeliveryId) -> anyhow::Result<Result<Delivery, String>> {
    let delivery = match deliveries::lock(tx, id).await {
        Ok(delivery) => delivery,
        Err(store::Error::NotFound) => return Ok(Err("the delivery is gone".into())),
        Err(error) => return Err(error.into()),
    };
    if delivery.status == Status::Sent {
        return Ok(Err("it was sent before".into()));
    }
    Ok(match (delivery.job, delivery.job_run) {
        (Some(named), _) if named != job.id.0 => Err(format!("job {named} sends it")),
        (Some(_), Some(run)) if run > job.run => Err("a later run of this job sends it".into()),
        _ => Ok(delivery),
    })
}

/// Counts an attempt and commits that, before anything is read, rendered or sent. Messages to a channel pass its gate
/// first.
pub async fn claim(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    id: DeliveryId,
) -> anyhow::Result<Claim> {
    let mut tx = shared.db.begin(organization).await?;
    let delivery = match open(&mut tx, job, id).await? {
        Ok(delivery) => delivery,
        Err(why) => return Ok(Claim::Over(Outcome::Cancelled(why))),
    };
    let channel = channel_of(&mut tx, &delivery).await?;
    if let Ok(Some(channel)) = &channel
        && delivery.channel != ChannelKind::Email
        && let Some(turn) = pass(&mut tx, channel.id, &delivery).await?
    {
        // The last chance is the turn before the time is over.
        if turn <= delivery.give_up_at.max(tx.now()) {
            let wait = until(turn, tx.now());
            tx.commit().await?;
            return Ok(Claim::Over(Outcome::Snooze(wait)));
        }
        tx.rollback().await?;
        tx = shared.db.begin(organization).await?;
        let why = format!("not taken within {} hours", gate::PATIENCE.num_hours());
        let why = delivery.last_error.as_ref().map_or(why.clone(), |error| format!("{why}: {error}"));
        return count_attempt(tx, shared, job, delivery, Err(why)).await;
    }
    count_attempt(tx, shared, job, delivery, channel).await
}

async fn count_attempt(
    mut tx: Tx,
    shared: &Shared,
    job: &Running,
    mut delivery: Delivery,
    channel: Result<Option<Channel>, String>,
) -> anyhow::Result<Claim> {
    if delivery.channel == ChannelKind::Email && delivery.message_id.is_none() {
        let id = message_id::outgoing(Uuid::new_v4(), &shared.settings.mail_domain);
        delivery.message_id = Some(format!("<{id}>"));
    }
    deliveries::begin_attempt(&mut tx, delivery.id, run_of(job), delivery.message_id.as_deref()).await?;
    tx.commit().await?;
    let delivery = Box::new(delivery);
    Ok(match channel {
        Ok(channel) => Claim::Ready(delivery, channel),
        Err(why) => Claim::Impossible(delivery, why),
    })
}

/// The channel it goes to, or why it cannot go there.
async fn channel_of(tx: &mut Tx, delivery: &Delivery) -> anyhow::Result<Result<Option<Channel>, String>> {
    let Some(id) = delivery.channel_id else {
        // A mail may belong to a ticket alone.
        let is_mail = delivery.channel == ChannelKind::Email;
        return Ok(if is_mail { Ok(None) } else { Err("its channel was deleted".into()) });
    };
    Ok(match unless_passing(store::channels::get(tx, id).await.map_err(Into::into))? {
        Ok(channel) if channel.is_active => Ok(Some(channel)),
        Ok(_) => Err("its channel is switched off".into()),
        Err(why) => Err(why),
    })
}

/// Through the gate of the channel; `Some`: not now, but at that turn.
async fn pass(tx: &mut Tx, channel: ChannelId, delivery: &Delivery) -> anyhow::Result<Option<DateTime<Utc>>> {
    let now = tx.now();
    if channel_gates::find(tx, channel).await?.is_none_or(|gate| gate.is_open(now)) {
        return Ok(None);
    }
    let mut gate = channel_gates::hold(tx, channel).await?;
    let entry = gate.enter(now, delivery.turn_at);
    channel_gates::update(tx, channel, &gate).await?;
    let Entry::Wait(turn) = entry else { return Ok(None) };
    let why = match gate.failing_since {
        Some(since) if gate.is_resting() => {
            format!(
                "the channel cannot be reached since {}: it is tried now and then",
                since.format("%F %T UTC")
            )
        }
        _ => "the channel takes its messages one after the other".to_owned(),
    };
    deliveries::wait(tx, delivery.id, turn, &why).await?;
    Ok(Some(turn))
}

fn until(turn: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (turn - now).to_std().unwrap_or_default()
}

/// What could not be read or rendered will not be the next time either; only the database's own troubles pass.
pub fn unless_passing<T>(result: anyhow::Result<T>) -> anyhow::Result<Result<T, String>> {
    match result {
        Ok(made) => Ok(Ok(made)),
        Err(error) if matches!(error.downcast_ref(), Some(store::Error::Database(_))) => Err(error),
        Err(error) => Ok(Err(format!("the message cannot be made: {error:#}"))),
    }
}

/// Ends the run of a delivery for which a remote worker gave no answer.
pub async fn not_performed(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    error: NotPerformed,
) -> JobResult {
    match error {
        NotPerformed::NotBegun(why) => {
            let mut tx = shared.db.begin(organization).await?;
            let next = tx.now() + NO_WORKER;
            deliveries::not_begun(&mut tx, delivery.id, run_of(job), next, &why).await?;
            tx.commit().await?;
            tracing::warn!(delivery.id = %delivery.id, why, "not delivered yet");
            Ok(Outcome::Snooze(NO_WORKER))
        }
        NotPerformed::Failed(why) => {
            settle(shared, job, organization, delivery, None, Attempt::new(Sending::Retry(why))).await
        }
        NotPerformed::Impossible(why) => {
            settle(shared, job, organization, delivery, None, Attempt::new(Sending::GiveUp(why))).await
        }
        NotPerformed::Stopped => Err(error.into()),
    }
}

/// Ends the run of a delivery whose secret does not open here. The key may be on its way: it is waited for as long as for a channel that is away.
pub async fn no_key(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    why: String,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    let next = tx.now() + NO_KEY;
    if next > delivery.give_up_at {
        tx.rollback().await?;
        let attempt = Attempt::new(Sending::GiveUp(no_key_came(&why)));
        return settle(shared, job, organization, delivery, None, attempt).await;
    }
    deliveries::not_begun(&mut tx, delivery.id, run_of(job), next, &why).await?;
    tx.commit().await?;
    tracing::error!(delivery.id = %delivery.id, give_up_at = %delivery.give_up_at, why, "not delivered yet: its secret cannot be opened");
    Ok(Outcome::Snooze(NO_KEY))
}

/// Records what came of the attempt and ends the job accordingly. `subject`: as it was rendered.
pub async fn settle(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    subject: Option<&str>,
    attempt: Attempt,
) -> JobResult {
    let answer = Answer {
        status: attempt.status.map(i32::from),
        response: attempt.response.as_deref(),
        error: match &attempt.outcome {
            Sending::Sent => None,
            Sending::RetryAfter(_, why)
            | Sending::SlowDown(why)
            | Sending::Unreachable(why)
            | Sending::Retry(why)
            | Sending::GiveUp(why) => Some(why),
        },
    };
    let mut tx = shared.db.begin(organization).await?;
    let turn = tell_gate(&mut tx, delivery, &attempt.outcome).await?;
    if attempt.outcome == Sending::Sent {
        return sent(tx, shared, job, organization, delivery, (&answer, subject)).await;
    }
    let why = answer.error.unwrap_or_default().to_owned();
    let put_off = turn.filter(|turn| *turn <= delivery.give_up_at);
    // The last run that the queue grants: after it nobody would come back to this delivery.
    let again = match &attempt.outcome {
        Sending::GiveUp(_) => None,
        _ if turn.is_some() => None,
        _ => Some(backoff(job.attempt, delivery.id)).filter(|_| job.attempt < job.max_attempts),
    };
    let next = put_off.or(again.map(|wait| tx.now() + wait));
    deliveries::record_failed(&mut tx, delivery.id, run_of(job), &answer, subject, next).await?;
    if let Some(turn) = put_off {
        deliveries::set_turn(&mut tx, delivery.id, turn).await?;
    }
    let wait = next.map(|next| until(next, tx.now()));
    tx.commit().await?;
    count(delivery, if wait.is_some() { "retry" } else { "given_up" });
    tracing::warn!(delivery.id = %delivery.id, channel = %delivery.channel, wait_ms = wait.map(|w| w.as_millis() as u64), why, "not delivered");
    match wait {
        Some(wait) if put_off.is_some() => Ok(Outcome::Snooze(wait)),
        Some(wait) => Err(JobError::RetryIn(wait, anyhow::Error::msg(why))),
        None => Err(JobError::GiveUp(anyhow::Error::msg(why))),
    }
}

/// What the attempt says about the channel. Answers the turn of this delivery when the attempt is not to count: the
/// peer put it off, or cannot be reached for a while already.
async fn tell_gate(
    tx: &mut Tx,
    delivery: &Delivery,
    outcome: &Sending,
) -> Result<Option<DateTime<Utc>>, store::Error> {
    let Some(channel) = delivery.channel_id.filter(|_| delivery.channel != ChannelKind::Email) else {
        return Ok(None);
    };
    let now = tx.now();
    if !matches!(outcome, Sending::RetryAfter(..) | Sending::SlowDown(_) | Sending::Unreachable(_))
        && channel_gates::find(tx, channel).await?.is_none_or(|gate| gate.failures == 0)
    {
        return Ok(None);
    }
    let mut gate = channel_gates::hold(tx, channel).await?;
    let turn = match outcome {
        Sending::RetryAfter(wait, _) => {
            gate.slow_down(now, TimeDelta::from_std(*wait).unwrap_or(gate::PATIENCE));
            Some(gate.line_up(now))
        }
        Sending::SlowDown(_) => {
            gate.slow_down(now, gate::LEAST_WAIT);
            None
        }
        Sending::Unreachable(_) => {
            gate.unreachable(now);
            gate.is_resting().then(|| gate.line_up(now))
        }
        Sending::Sent | Sending::Retry(_) | Sending::GiveUp(_) => {
            gate.reached(now);
            None
        }
    };
    channel_gates::update(tx, channel, &gate).await?;
    Ok(turn)
}

async fn sent(
    mut tx: Tx,
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    (answer, subject): (&Answer<'_>, Option<&str>),
) -> JobResult {
    count(delivery, "sent");
    deliveries::record_sent(&mut tx, delivery.id, answer, subject).await?;
    match job.complete_in(&mut tx).await {
        Ok(()) => tx.commit().await?,
        // The lease was lost meanwhile, but it was sent: whoever has the job now must know.
        Err(queue::CompleteError::Fenced) => {
            tx.rollback().await?;
            let mut tx = shared.db.begin(organization).await?;
            deliveries::record_sent(&mut tx, delivery.id, answer, subject).await?;
            tx.commit().await?;
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(delivery.id = %delivery.id, channel = %delivery.channel, "delivered");
    Ok(Outcome::Done)
}

fn count(delivery: &Delivery, outcome: &str) {
    DELIVERIES.with_label_values(&[delivery.channel.as_str(), outcome]).inc();
}

/// About 1 s, 2 s, 4 s … up to 10 min. Up to a quarter more, by the delivery's id, so that what failed together does not
/// come back together.
fn backoff(attempt: i16, id: DeliveryId) -> Duration {
    let seconds = 2f64.powi(i32::from(attempt.clamp(1, 16)) - 1).min(600.0);
    let jitter = (id.0.as_u128() % 1_000) as f64 / 4_000.0;
    Duration::from_secs_f64(seconds * (1.0 + jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_up_to_ten_minutes() {
        let id = DeliveryId::new();
        for (attempt, least) in [(0, 1.0), (1, 1.0), (2, 2.0), (5, 16.0), (12, 600.0), (i16::MAX, 600.0)] {
            let wait = backoff(attempt, id).as_secs_f64();
            assert!((least..=least * 1.25).contains(&wait), "{attempt}: {wait}");
        }
    }
}
