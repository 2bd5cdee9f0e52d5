//! One message to one chat channel.

use crate::delivering::{self, Claim};
use crate::outward::{ChatAddress, SendChat};
use crate::{Shared, event_message, organization_of};
use actions::jobs::NotifyChannel;
use connectors::sending::{Attempt, Outcome as Sending};
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
                match delivering::unless_passing(made)? {
                    Ok(Ok(message)) => (delivery, Ok(message)),
                    // With the key it goes out: no attempt was made.
                    Ok(Err(why)) => {
                        return delivering::no_key(shared, job, organization, &delivery, why).await;
                    }
                    Err(why) => (delivery, Err(why)),
                }
            }
        };
        let (subject, attempt) = match made {
            Ok(message) => {
                let attempt = match request(&delivery, message.config, message.payload) {
                    Some(request) => match shared.outward(job, request).await {
                        Ok(attempt) => attempt,
                        Err(error) => {
                            return delivering::not_performed(shared, job, organization, &delivery, error)
                                .await;
                        }
                    },
                    None => Attempt::new(Sending::GiveUp("mail is no chat".into())),
                };
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

/// The message, or why the secret of its channel cannot be opened.
async fn make(
    shared: &Shared,
    organization: OrganizationId,
    delivery: &Delivery,
    channel: Option<Channel>,
) -> anyhow::Result<Result<Message, String>> {
    let channel = channel.ok_or_else(|| anyhow::anyhow!("it goes to no channel"))?;
    let mut tx = shared.db.begin(organization).await?;
    let config = match actions::channels::opened(&mut tx, &shared.secrets, &channel).await? {
        Ok(config) => config,
        Err(why) => {
            tracing::error!(channel.id = %channel.id, why, "a channel cannot be written to");
            return Ok(Err(why));
        }
    };
    let (subject, payload) = render(&mut tx, shared, delivery, &channel).await?;
    // Maybe the secret was sealed with the present key.
    tx.commit().await?;
    Ok(Ok(Message { config, subject, payload }))
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

fn request(delivery: &Delivery, config: ChannelConfig, payload: Value) -> Option<SendChat> {
    let to = match config {
        ChannelConfig::SlackWebhook { webhook_url } => ChatAddress::SlackWebhook { url: webhook_url },
        ChannelConfig::SlackBot { bot_token, channel, api_url } => {
            ChatAddress::SlackBot { token: bot_token, channel, api_url }
        }
        ChannelConfig::Teams { webhook_url } => ChatAddress::Teams { url: webhook_url },
        ChannelConfig::Email { .. } => return None,
    };
    let trace_parent = queue::trace::current().map(|context| context.child().to_string());
    Some(SendChat { to, key: delivery.id.0, payload, trace_parent })
}
