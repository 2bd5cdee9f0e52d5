//! One message to one chat channel.

use crate::delivering::{self, Claim};
use crate::{Shared, event_message, organization_of};
use actions::jobs::NotifyChannel;
use connectors::sending::{Attempt, Outcome as Sending};
use connectors::{slack, teams};
use domain::{ChannelConfig, DeliveryId, OrganizationId};
use queue::{JobResult, Outcome, Run, Running};
use serde_json::Value;
use store::Tx;
use store::channels::Channel;
use store::deliveries::Delivery;

impl Run<Shared> for NotifyChannel {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        match claim(shared, organization, self.delivery).await? {
            Claim::Settled(why) => Ok(Outcome::Cancelled(why)),
            Claim::Impossible(delivery, why) => {
                delivering::settle(shared, job, organization, &delivery, Attempt::new(Sending::GiveUp(why)))
                    .await
            }
            Claim::Ready(delivery, (config, payload)) => {
                let attempt = send(shared, &delivery, &config, &payload).await;
                delivering::settle(shared, job, organization, &delivery, attempt).await
            }
        }
    }
}

/// Counts the attempt and renders the message; committed before anything leaves the house.
async fn claim(
    shared: &Shared,
    organization: OrganizationId,
    id: DeliveryId,
) -> anyhow::Result<Claim<(ChannelConfig, Value)>> {
    let mut tx = shared.db.begin(organization).await?;
    let delivery = match delivering::open(&mut tx, id).await? {
        Ok(delivery) => delivery,
        Err(why) => return Ok(Claim::Settled(why)),
    };
    let claim = match channel_of(&mut tx, &delivery).await? {
        Err(why) => {
            store::deliveries::begin_attempt(
                &mut tx,
                id,
                None,
                delivery.subject.as_deref().unwrap_or_default(),
            )
            .await?;
            Claim::Impossible(delivery, why)
        }
        Ok(channel) => {
            let (subject, payload) = render(&mut tx, shared, &delivery, &channel).await?;
            store::deliveries::begin_attempt(&mut tx, id, None, &subject).await?;
            Claim::Ready(delivery, (channel.config, payload))
        }
    };
    tx.commit().await?;
    Ok(claim)
}

async fn channel_of(tx: &mut Tx, delivery: &Delivery) -> anyhow::Result<Result<Channel, String>> {
    let Some(id) = delivery.channel_id else { return Ok(Err("its channel was deleted".into())) };
    let channel = store::channels::get(tx, id).await?;
    Ok(if channel.is_active { Ok(channel) } else { Err("its channel is switched off".into()) })
}

/// The headline and what goes over the wire.
async fn render(
    tx: &mut Tx,
    shared: &Shared,
    delivery: &Delivery,
    channel: &Channel,
) -> anyhow::Result<(String, Value)> {
    let templates = &shared.templates;
    let teams = matches!(channel.config, ChannelConfig::Teams { .. });
    if delivery.message_kind == "test" {
        let test = event_message::test(tx, channel).await?;
        let payload = templates.render_json(&test, if teams { "teams" } else { "slack" })?;
        return Ok(("Test message from Relaydesk".into(), payload));
    }
    let event = event_message::of(tx, shared, delivery).await?;
    let payload = if teams { event.teams(templates)? } else { event.slack(templates)? };
    Ok((event.headline(templates)?, payload))
}

async fn send(shared: &Shared, delivery: &Delivery, config: &ChannelConfig, payload: &Value) -> Attempt {
    let trace = queue::trace::current().map(|context| context.child().to_string());
    let message = slack::Message { key: delivery.id.0, payload, trace_parent: trace.as_deref() };
    match config {
        ChannelConfig::SlackWebhook { webhook_url } => {
            slack::send_webhook(&shared.http, webhook_url, message).await
        }
        ChannelConfig::SlackBot { bot_token, channel, api_url } => {
            slack::post_message(&shared.http, api_url.as_deref(), bot_token, channel, message).await
        }
        ChannelConfig::Teams { webhook_url } => {
            teams::send(&shared.http, webhook_url, delivery.id.0, payload, trace.as_deref()).await
        }
        ChannelConfig::Email { .. } => Attempt::new(Sending::GiveUp("mail is no chat".into())),
    }
}
