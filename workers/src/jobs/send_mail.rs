//! One e-mail to one recipient.

use crate::delivering::{self, Claim};
use crate::outward::DeliverMail;
use crate::{Shared, event_message, organization_of};
use actions::jobs::SendMail;
use actions::passwords;
use chrono::{DateTime, TimeDelta, Utc};
use connectors::mail::outgoing::{File, Outgoing, Refused};
use connectors::sending::{Attempt, Outcome as Sending};
use domain::mail::message_id;
use domain::{DeliveryId, EmailAddress, OrganizationId, UserId};
use queue::remote::NotPerformed;
use queue::{JobResult, Outcome, Run, Running};
use secrecy::ExposeSecret;
use std::time::Duration;
use store::Tx;
use store::channels::Channel;
use store::deliveries::{Delivery, Words};
use store::mail_messages::{Direction, NewMessage};
use templates::event::MailTest;
use templates::mail::PasswordReset;

/// How often it is looked whether a relay has been configured meanwhile.
const NO_RELAY: Duration = Duration::from_secs(600);
/// Nobody waits that long for a link, and it should not come as a surprise.
const STALE_RESET: TimeDelta = TimeDelta::hours(1);

impl Run<Shared> for SendMail {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let is_remote = shared.remote.as_ref().is_some_and(|remote| remote.has(&job.lane));
        if shared.mailer.is_none() && !is_remote {
            return wait_for_relay(shared, job, organization, self.delivery).await;
        }
        let (delivery, made) = match delivering::claim(shared, job, organization, self.delivery).await? {
            Claim::Over(outcome) => return Ok(outcome),
            Claim::Impossible(delivery, why) => (delivery, Err(why)),
            Claim::Ready(delivery, channel) => {
                let made = make(shared, organization, &delivery, channel).await;
                (delivery, delivering::unless_passing(made)?)
            }
        };
        let (subject, attempt) = match made {
            Ok(mail) => {
                let subject = mail.subject.clone();
                let answer = match shared.outward(job, DeliverMail(mail)).await {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(NotPerformed::NotBegun("the remote worker has no mail relay".into())),
                    Err(error) => Err(error),
                };
                let attempt = match answer {
                    Ok(Ok(accepted)) => {
                        Attempt::new(Sending::Sent).answered(accepted.code, accepted.response)
                    }
                    Ok(Err(refused)) => failed(&refused),
                    Err(error) => {
                        return delivering::not_performed(shared, job, organization, &delivery, error).await;
                    }
                };
                (Some(subject), attempt)
            }
            Err(why) => (None, Attempt::new(Sending::GiveUp(why))),
        };
        delivering::settle(shared, job, organization, &delivery, subject.as_deref(), attempt).await
    }
}

fn failed(refused: &Refused) -> Attempt {
    let why = refused.to_string();
    let attempt =
        Attempt::new(if refused.is_permanent() { Sending::GiveUp(why) } else { Sending::Retry(why) });
    match refused {
        Refused::Transient { code, response } | Refused::Permanent { code, response } => {
            attempt.answered(*code, response.clone())
        }
        Refused::Unreachable(_) | Refused::Unsendable(_) => attempt,
    }
}

/// Without a relay nothing is attempted; the ledger says what it waits for.
async fn wait_for_relay(
    shared: &Shared,
    job: &Running,
    organization: OrganizationId,
    id: DeliveryId,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    if let Err(why) = delivering::open(&mut tx, job, id).await? {
        return Ok(Outcome::Cancelled(why));
    }
    let next = tx.now() + NO_RELAY;
    let why = "no mail relay is configured (RELAYDESK_MAIL_URL)";
    store::deliveries::wait(&mut tx, id, next, why).await?;
    tx.commit().await?;
    Ok(Outcome::Snooze(NO_RELAY))
}

async fn make(
    shared: &Shared,
    organization: OrganizationId,
    delivery: &Delivery,
    channel: Option<Channel>,
) -> anyhow::Result<Outgoing> {
    let mut tx = shared.db.begin(organization).await?;
    let words = words(&mut tx, shared, delivery, channel).await?;
    let files = files(&mut tx, delivery).await?;
    let mail = outgoing(shared, organization, delivery, words, files).map_err(anyhow::Error::msg)?;
    remember(&mut tx, delivery, &mail).await?;
    tx.commit().await?;
    Ok(mail)
}

/// So that an answer finds its ticket, and whom it was sent to.
async fn remember(tx: &mut Tx, delivery: &Delivery, mail: &Outgoing) -> store::Result<()> {
    let (Some(ticket), Some(message_id)) = (delivery.ticket, message_id::normalise(&mail.message_id)) else {
        return Ok(());
    };
    let message = NewMessage {
        message_id: &message_id,
        direction: Direction::Out(Some(delivery.id)),
        ticket,
        comment: None,
        address: &mail.to,
        is_internal: delivery.is_internal,
    };
    store::mail_messages::insert(tx, &message).await
}

async fn words(
    tx: &mut Tx,
    shared: &Shared,
    delivery: &Delivery,
    channel: Option<Channel>,
) -> anyhow::Result<Words> {
    if let Some(words) = delivery.mail.as_ref().and_then(|mail| mail.words.clone()) {
        return Ok(words);
    }
    if let Some(user) = delivery.mail.as_ref().and_then(|mail| mail.password_reset) {
        return password_reset(tx, shared, delivery, user).await;
    }
    let words = match (delivery.message_kind.as_str(), channel) {
        ("test", Some(channel)) => {
            shared.templates.render_mail(&MailTest(event_message::test(tx, &channel).await?))?
        }
        _ => event_message::of(tx, shared, delivery).await?.mail(&shared.templates)?,
    };
    Ok(Words { subject: words.subject, text: words.text, html: Some(words.html) })
}

/// The token of the link is made now: it stands nowhere but in the mail. A second attempt makes another one; both are good.
async fn password_reset(
    tx: &mut Tx,
    shared: &Shared,
    delivery: &Delivery,
    user: UserId,
) -> anyhow::Result<Words> {
    if delivery.created_at < tx.now() - STALE_RESET {
        anyhow::bail!("it was asked for too long ago");
    }
    let person = store::users::get(tx, user).await?;
    if !person.may_enter() {
        anyhow::bail!("the person may not log in any more");
    }
    let organization = store::organizations::current(tx).await?;
    let token = passwords::offer_reset(tx, user).await?;
    let words = shared.templates.render_mail(&PasswordReset {
        name: person.name,
        organization: organization.name,
        link: format!("{}/#reset={}", shared.settings.base_url, token.expose_secret()),
        minutes: passwords::RESET_LIFETIME.num_minutes(),
    })?;
    Ok(Words { subject: words.subject, text: words.text, html: Some(words.html) })
}

async fn files(tx: &mut Tx, delivery: &Delivery) -> anyhow::Result<Vec<File>> {
    let Some(report) = delivery.mail.as_ref().and_then(|mail| mail.report) else { return Ok(Vec::new()) };
    let csv = store::report_executions::csv(tx, report).await?;
    Ok(vec![File { name: csv.file_name, media_type: "text/csv".into(), bytes: csv.bytes }])
}

fn outgoing(
    shared: &Shared,
    organization: OrganizationId,
    delivery: &Delivery,
    words: Words,
    files: Vec<File>,
) -> Result<Outgoing, String> {
    let mail = delivery.mail.clone().unwrap_or_default();
    let (from, from_name) = match &mail.from {
        Some(from) => (from.as_str(), mail.from_name.as_deref().unwrap_or("Relaydesk")),
        None => sender(&shared.settings.mail_from),
    };
    let address = |text: &str| EmailAddress::parse(text).map_err(|error| format!("{text:?}: {error}"));
    let date: DateTime<Utc> = delivery.created_at;
    Ok(Outgoing {
        from: address(from)?,
        from_name: from_name.to_owned(),
        to: address(&delivery.recipient)?,
        to_name: mail.to_name,
        subject: words.subject,
        text: words.text,
        html: words.html,
        message_id: delivery.message_id.clone().unwrap_or_default(),
        in_reply_to: mail.in_reply_to,
        references: mail.references,
        auto_submitted: mail.auto_submitted,
        loop_mark: Some(organization.to_string()),
        date,
        files,
    })
}

/// `Name <address>`, or an address alone.
fn sender(configured: &str) -> (&str, &str) {
    match configured.trim().strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (address, name.trim().trim_matches('"')),
        None => (configured.trim(), "Relaydesk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_the_sender() {
        assert_eq!(sender("Relaydesk <relaydesk@localhost>"), ("relaydesk@localhost", "Relaydesk"));
        assert_eq!(sender("\"Help, Desk\" <h@x.y>"), ("h@x.y", "Help, Desk"));
        assert_eq!(sender("h@x.y"), ("h@x.y", "Relaydesk"));
    }
}
