//! The two ends of an attempt to deliver something: before it (count it, in a transaction of its own) and after it
//! (record the answer). In between nothing is held, and a crash repeats the call under the same key.

use crate::Shared;
use connectors::sending::{Attempt, Outcome as Sending};
use domain::{DeliveryId, OrganizationId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use queue::{JobError, JobResult, Outcome, Running};
use std::sync::LazyLock;
use std::time::Duration;
use store::Tx;
use store::deliveries::{self, Answer, Delivery, Status};

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
pub enum Claim<T> {
    /// Nothing to do, and why.
    Settled(String),
    /// It cannot be sent at all, and why.
    Impossible(Delivery, String),
    Ready(Delivery, T),
}

/// Holds the row for an attempt, or says why there must not be one.
pub async fn open(tx: &mut Tx, id: DeliveryId) -> anyhow::Result<Result<Delivery, String>> {
    match deliveries::lock(tx, id).await {
        Ok(delivery) if delivery.status == Status::Sent => Ok(Err("it was sent before".into())),
        Ok(delivery) => Ok(Ok(delivery)),
        Err(store::Error::NotFound) => Ok(Err("the delivery is gone".into())),
        Err(error) => Err(error.into()),
    }
}

/// Records what came of the attempt and ends the job accordingly.
pub async fn settle(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    attempt: Attempt,
) -> JobResult {
    let answer = Answer {
        status: attempt.status.map(i32::from),
        response: attempt.response.as_deref(),
        error: match &attempt.outcome {
            Sending::Sent => None,
            Sending::RetryAfter(_, why) | Sending::Retry(why) | Sending::GiveUp(why) => Some(why),
        },
    };
    let wait = match &attempt.outcome {
        Sending::Sent => return sent(shared, job, organization, delivery, &answer).await,
        Sending::RetryAfter(wait, _) => Some(*wait),
        Sending::Retry(_) => Some(backoff(job.attempt, delivery.id)),
        Sending::GiveUp(_) => None,
    };
    // The last run that the queue grants: after it nobody would come back to this delivery.
    let wait = wait.filter(|_| job.attempt < job.max_attempts);
    let mut tx = shared.db.begin(organization).await?;
    let next = wait.map(|wait| tx.now() + wait);
    deliveries::record_failed(&mut tx, delivery.id, &answer, next).await?;
    tx.commit().await?;
    count(delivery, if wait.is_some() { "retry" } else { "given_up" });
    let why = answer.error.unwrap_or_default().to_owned();
    tracing::warn!(delivery.id = %delivery.id, channel = %delivery.channel, wait_ms = wait.map(|w| w.as_millis() as u64), why, "not delivered");
    match wait {
        Some(wait) => Err(JobError::RetryIn(wait, anyhow::Error::msg(why))),
        None => Err(JobError::GiveUp(anyhow::Error::msg(why))),
    }
}

async fn sent(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &Delivery,
    answer: &Answer<'_>,
) -> JobResult {
    count(delivery, "sent");
    let mut tx = shared.db.begin(organization).await?;
    deliveries::record_sent(&mut tx, delivery.id, answer).await?;
    match job.complete_in(&mut tx).await {
        Ok(()) => tx.commit().await?,
        // The lease was lost meanwhile, but it was sent: whoever has the job now must know.
        Err(queue::CompleteError::Fenced) => {
            tx.rollback().await?;
            let mut tx = shared.db.begin(organization).await?;
            deliveries::record_sent(&mut tx, delivery.id, answer).await?;
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
