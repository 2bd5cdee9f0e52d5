//! One message to one chat channel.

use crate::delivering::{self, Claim};
use crate::{Shared, event_message, organization_of};
use actions::jobs::NotifyChannel;
use connectors::sending::{Attempt, Outcome as Sending};
use connectors::{slack, teams};
use domain::{ChannelConfig, OrganizationId};
use queue::{JobResult, Run, Running};
use serde_json::Value;
use store::Tx;
use store::channels::Channel;
use store::deliveries::Delivery;

impl Run<Shared> for NotifyChannel {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let (delivery, made) = match delivering::claim(shared, job, organization, self.delivery).await? {
            Claim::Over(outcome) => return Ok(outcome),
            Claim::Impossible(delivery, why) => (delivery, Err(why)),
            Claim::Ready(delivery, channel) => {
                let made = make(shared, organization, &delivery, channel).await;
                (delivery, delivering::unless_passing(made)?)
            }
        };
        let (subject, attempt) = match made {
            Ok(message) => {
                let attempt = send(shared, &delivery, &message.config, &message.payload).await;
                (Some(message.subject), attempt)
            }
            Err(why) => (None, Attempt::new(Sending::GiveUp(why))),
        };
        delivering::settle(shared, job, organization, &delivery, subject.as_deref(), attempt).await
    }
}

struct Message {
    config: ChannelConfig,
    subject: String,
    payload: Value,
}

async fn make(
    shared: &Shared,
    organization: OrganizationId,
    delivery: &Delivery,
    channel: Option<Channel>,
) -> anyhow::Result<Message> {
    let channel = channel.ok_or_else(|| anyhow::anyhow!("it goes to no channel"))?;
    let mut tx = shared.db.begin(organization).await?;
    let (subject, payload) = render(&mut tx, shared, delivery, &channel).await?;
    tx.rollback().await?;
    Ok(Message { config: channel.config, subject, payload })
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
