//! One event to one webhook. An attempt is counted and committed before anything is sent, what came of it after; in between nothing is held.
//!
//! What is sent is made of the event each time: the same bytes at every attempt, for as long as its owner may hear the same of it.

use crate::outward::{NO_KEY, NO_WORKER, SendWebhook};
use crate::{Shared, organization_of, webhook_notice};
use actions::hearing::{self, Heard};
use actions::jobs::DeliverWebhook;
use actions::webhooks;
use chrono::{DateTime, Utc};
use connectors::sending::{Attempt, Outcome as Sending};
use domain::{Actor, OrganizationId, WebhookDeliveryId, WebhookOff, WebhookStatus, webhook};
use prometheus::{
    Histogram, IntCounterVec, exponential_buckets, register_histogram, register_int_counter_vec,
};
use queue::remote::NotPerformed;
use queue::{JobResult, Outcome, Run, Running};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use store::Tx;
use store::webhook_deliveries::{self as deliveries, Answer, WebhookDelivery};
use store::webhooks::Webhook;

/// A message with more than this is sent without what it would say; the receiver can ask for it.
const LARGEST: usize = 64 * 1024;

#[expect(clippy::expect_used, reason = "the name is registered once")]
static ATTEMPTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "relaydesk_webhook_attempts_total",
        "Attempts to deliver an event to a webhook, by how they ended (delivered, retry, failed)",
        &["outcome"]
    )
    .expect("a metric that can be registered")
});

#[expect(clippy::expect_used, reason = "the name is registered once")]
static SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(0.005, 2.0, 13).expect("buckets");
    register_histogram!(
        "relaydesk_webhook_attempt_seconds",
        "How long receivers of webhooks take to answer",
        buckets
    )
    .expect("a metric that can be registered")
});

#[expect(clippy::expect_used, reason = "the name is registered once")]
static SWITCHED_OFF: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "relaydesk_webhooks_switched_off_total",
        "Webhooks that were switched off by themselves, by reason (gone, failing)",
        &["reason"]
    )
    .expect("a metric that can be registered")
});

/// An attempt that is counted.
struct Counted {
    delivery: WebhookDelivery,
    number: i32,
    request: SendWebhook,
}

/// Whose fault it is when an attempt fails.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Receiver,
    /// The receiver may not even have been called.
    Ours,
}

impl Run<Shared> for DeliverWebhook {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let counted = match claim(shared, job, organization, self.delivery).await? {
            Ok(counted) => counted,
            Err(over) => return Ok(over),
        };
        let Counted { delivery, number, request } = counted;
        let begin = Instant::now();
        let (whose, attempt) = match shared.outward(job, request).await {
            Ok(attempt) => (Whose::Receiver, attempt),
            Err(NotPerformed::Stopped) => return Err(NotPerformed::Stopped.into()),
            Err(NotPerformed::NotBegun(why)) => {
                let mut tx = shared.db.begin(organization).await?;
                let next = tx.now() + NO_WORKER;
                deliveries::not_begun(&mut tx, delivery.id, (job.id.0, job.run), number, next, &why).await?;
                tx.commit().await?;
                tracing::warn!(webhook.id = %delivery.webhook, delivery.id = %delivery.id, why, "not told yet");
                return Ok(Outcome::Snooze(NO_WORKER));
            }
            Err(NotPerformed::Failed(why)) => (Whose::Ours, Attempt::new(Sending::Retry(why))),
            Err(NotPerformed::Impossible(why)) => (Whose::Ours, Attempt::new(Sending::GiveUp(why))),
        };
        let took = begin.elapsed();
        SECONDS.observe(took.as_secs_f64());
        settle(shared, job, organization, &delivery, number, took, (whose, attempt)).await
    }
}

/// Counts an attempt, or says why there must not be one.
async fn claim(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    id: WebhookDeliveryId,
) -> anyhow::Result<Result<Counted, Outcome>> {
    let over = |why: String| Ok(Err(Outcome::Cancelled(why)));
    let mut tx = shared.db.begin(organization).await?;
    let delivery = match deliveries::lock(&mut tx, id).await {
        Ok(delivery) => delivery,
        Err(store::Error::NotFound) => return over("the delivery is gone".into()),
        Err(error) => return Err(error.into()),
    };
    match (delivery.job, delivery.job_run) {
        _ if delivery.status != WebhookStatus::Pending => return over("it is over".into()),
        (Some(named), _) if named != job.id.0 => return over(format!("job {named} sends it")),
        (Some(_), Some(run)) if run > job.run => return over("a later run of this job sends it".into()),
        _ => {}
    }
    let webhook = store::webhooks::get(&mut tx, delivery.webhook).await?;
    let body = match body(&mut tx, &webhook, &delivery).await? {
        Ok(body) => body,
        Err(why) => {
            deliveries::give_up(&mut tx, id, &why).await?;
            job.complete_in(&mut tx).await?;
            tx.commit().await?;
            ATTEMPTS.with_label_values(&["failed"]).inc();
            return Ok(Err(Outcome::Done));
        }
    };
    let secrets = match webhooks::secrets(&mut tx, &shared.secrets, &webhook).await {
        Ok(secrets) => secrets,
        Err(why) => {
            let next = tx.now() + NO_KEY;
            deliveries::put_off(&mut tx, id, (job.id.0, job.run), next, &why).await?;
            tx.commit().await?;
            tracing::error!(webhook.id = %webhook.id, why, "a webhook cannot be signed");
            return Ok(Err(Outcome::Snooze(NO_KEY)));
        }
    };
    let message_id = format!("msg_{}", id.0.simple());
    let timestamp = tx.now().timestamp();
    let secrets = secrets.iter().map(Vec::as_slice);
    let request = SendWebhook {
        signature: connectors::webhook::signature(secrets, &message_id, timestamp, &body),
        url: webhook.url,
        message_id,
        timestamp,
        body,
        trace_parent: queue::trace::current().map(|context| context.child().to_string()),
    };
    let number = deliveries::begin_attempt(&mut tx, id, job.id.0, job.run).await?;
    tx.commit().await?;
    Ok(Ok(Counted { delivery, number, request }))
}

/// What is sent; `Err`: nothing is, and why.
async fn body(
    tx: &mut Tx,
    webhook: &Webhook,
    delivery: &WebhookDelivery,
) -> anyhow::Result<Result<String, String>> {
    if !webhook.is_active {
        return Ok(Err("the webhook is switched off".into()));
    }
    let Some(actor) = webhooks::listener(tx, webhook).await? else {
        return Ok(Err("the owner of the webhook may not enter any more".into()));
    };
    let organization = store::organizations::current(tx).await?;
    let envelope = |id: String, timestamp: DateTime<Utc>, data: Value| {
        let organization = json!({"id": organization.id, "slug": organization.slug});
        json!({"id": id, "type": delivery.event_type, "timestamp": timestamp, "organization": organization, "data": data})
            .to_string()
    };
    let Some(event) = delivery.event else {
        let data = json!({"webhook": webhook.id});
        return Ok(Ok(envelope(delivery.id.to_string(), delivery.created_at, data)));
    };
    let event = store::events::get(tx, event).await?;
    let data = match hearing::of(tx, &actor, &event).await? {
        Heard::Nothing => return Ok(Err("the owner of the webhook may not see it any more".into())),
        Heard::Outline => json!({"position": event.seq, "ticket": event.ticket}),
        Heard::Whole => {
            json!({"position": event.seq, "ticket": event.ticket, "actor": event.actor, "payload": event.payload})
        }
    };
    let whole = envelope(event.id.to_string(), event.created_at, data);
    if whole.len() <= LARGEST {
        return Ok(Ok(whole));
    }
    let data = json!({"position": event.seq, "ticket": event.ticket, "is_truncated": true});
    Ok(Ok(envelope(event.id.to_string(), event.created_at, data)))
}

/// When it is tried again; `None`: not.
fn next_wait(
    job: &Running,
    delivery: &WebhookDelivery,
    outcome: &Sending,
    status: Option<u16>,
) -> Option<Duration> {
    // A test is for somebody who looks.
    if delivery.event.is_none() || job.attempt >= job.max_attempts {
        return None;
    }
    let chance = (delivery.id.0.as_u128() % 1_000) as f64 / 1_000.0;
    let usual = webhook::wait(job.attempt, chance)?;
    match outcome {
        Sending::Sent => None,
        // Answers of 4xx too: receivers are changed and mended. Without an answer it is the address that is refused.
        Sending::GiveUp(_) if status.is_none() || status == Some(GONE) => None,
        Sending::RetryAfter(asked, _) => Some(usual.max(*asked)),
        _ => Some(usual),
    }
}

const GONE: u16 = 410;

async fn settle(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    delivery: &WebhookDelivery,
    number: i32,
    took: Duration,
    (whose, attempt): (Whose, Attempt),
) -> JobResult {
    let error = match &attempt.outcome {
        Sending::Sent => None,
        Sending::RetryAfter(_, why)
        | Sending::SlowDown(why)
        | Sending::Unreachable(why)
        | Sending::Retry(why)
        | Sending::GiveUp(why) => Some(why.as_str()),
    };
    let answer = Answer {
        number,
        duration_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
        status: attempt.status.map(i32::from),
        response: attempt.response.as_deref(),
        error,
    };
    let run = (job.id.0, job.run);
    let wait = next_wait(job, delivery, &attempt.outcome, attempt.status);
    let mut tx = shared.db.begin(organization).await?;
    let next = wait.map(|wait| tx.now() + wait);
    let counted = deliveries::end_attempt(&mut tx, delivery.id, run, &answer, next).await?;
    if error.is_none() {
        store::webhooks::note_success(&mut tx, delivery.webhook).await?;
    } else if counted && delivery.event.is_some() && whose == Whose::Receiver {
        note_failure(&mut tx, shared, delivery, attempt.status).await?;
    }
    ATTEMPTS
        .with_label_values(&[match (error, wait) {
            (None, _) => "delivered",
            (_, Some(_)) => "retry",
            _ => "failed",
        }])
        .inc();
    if let Some(why) = error {
        tracing::info!(webhook.id = %delivery.webhook, delivery.id = %delivery.id, wait_ms = wait.map(|w| w.as_millis() as u64), why, "a webhook did not take its message");
    }
    let Some(wait) = wait else {
        // Whoever wants it once more asks for another job.
        match job.complete_in(&mut tx).await {
            Ok(()) => {}
            // The lease was lost meanwhile, but what was delivered was delivered.
            Err(queue::CompleteError::Fenced) if error.is_none() => {
                tx.rollback().await?;
                tx = shared.db.begin(organization).await?;
                deliveries::end_attempt(&mut tx, delivery.id, run, &answer, None).await?;
            }
            Err(error) => return Err(error.into()),
        }
        tx.commit().await?;
        return Ok(Outcome::Done);
    };
    tx.commit().await?;
    Err(queue::JobError::RetryIn(wait, anyhow::Error::msg(error.unwrap_or_default().to_owned())))
}

/// Counts it against the webhook, and switches that off when it is gone or fails for too long.
async fn note_failure(
    tx: &mut Tx,
    shared: &Shared,
    delivery: &WebhookDelivery,
    status: Option<u16>,
) -> anyhow::Result<()> {
    let Some((since, failures)) = store::webhooks::note_failure(tx, delivery.webhook).await? else {
        return Ok(());
    };
    let why = if status == Some(GONE) {
        WebhookOff::Gone
    } else if webhook::has_failed_for_good(tx.now(), since, failures) {
        WebhookOff::Failing
    } else {
        return Ok(());
    };
    let actor = Actor::system(tx.organization(), "deliver_webhook");
    if webhooks::switch_off(tx, &actor, delivery.webhook, why).await? {
        webhook_notice::mail(tx, shared, delivery.webhook, why).await?;
        SWITCHED_OFF.with_label_values(&[why.as_str()]).inc();
        tracing::warn!(webhook.id = %delivery.webhook, reason = %why, "a webhook was switched off");
    }
    Ok(())
}
