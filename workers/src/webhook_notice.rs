//! The owner of a webhook hears by mail that it was switched off.

use crate::Shared;
use actions::deliveries::{NewMail, queue_mail};
use domain::{WebhookId, WebhookOff};
use store::Tx;
use store::deliveries::{Mail, Words};
use templates::mail::WebhookOff as Template;

/// A service account has no mailbox: whoever answers for it hears of it.
pub async fn mail(tx: &mut Tx, shared: &Shared, id: WebhookId, why: WebhookOff) -> anyhow::Result<()> {
    let webhook = store::webhooks::get(tx, id).await?;
    let owner = store::users::get(tx, webhook.owner).await?;
    let person = match owner.owner {
        Some(answers) => store::users::get(tx, answers).await?,
        None => owner,
    };
    let Some((at, _)) = webhook.disabled.filter(|_| person.may_enter()) else { return Ok(()) };
    let organization = store::organizations::current(tx).await?;
    let words = shared.templates.render_mail(&Template {
        name: person.name.clone(),
        organization: organization.name,
        // What comes after the host may be a secret of the receiver's.
        host: host_of(&webhook.url).to_owned(),
        webhook: id.to_string(),
        is_gone: why == WebhookOff::Gone,
        failing_since: webhook.failing_since.unwrap_or(at).format("%F %T UTC").to_string(),
        failures: webhook.failures,
    })?;
    let mail = NewMail {
        key: format!("webhook_off:{id}:{}", at.timestamp_micros()),
        to: person.email.to_string(),
        message_kind: "webhook_off".into(),
        mail: Mail {
            to_name: Some(person.name),
            auto_submitted: Some("auto-generated".into()),
            words: Some(Words { subject: words.subject, text: words.text, html: Some(words.html) }),
            ..Mail::default()
        },
        ..NewMail::default()
    };
    let organization = tx.organization();
    queue_mail(tx, organization, mail).await?;
    Ok(())
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}
