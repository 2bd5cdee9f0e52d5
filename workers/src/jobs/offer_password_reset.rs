//! Somebody forgot their password. Each account with that address that may log in gets a mail from its own organization; the link is made
//! when that mail is sent.

use crate::Shared;
use actions::deliveries::{self, NewMail};
use actions::jobs::OfferPasswordReset;
use actions::{events, throttle};
use domain::{Actor, EmailAddress, OrganizationId, UserId};
use queue::{JobId, JobResult, Outcome, Run, Running};
use serde_json::json;
use store::deliveries::Mail;

impl Run<Shared> for OfferPasswordReset {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let Ok(email) = EmailAddress::parse(&self.email) else {
            return Ok(Outcome::Cancelled("no e-mail address".into()));
        };
        let mut tx = shared.db.begin_presenting(email.as_str()).await?;
        let mut found = store::users::login_candidates(&mut tx, &email).await?;
        tx.rollback().await?;
        if let Some(slug) = &self.organization {
            let mut system = shared.db.begin_system().await?;
            let wanted = store::organizations::find_by_slug(&mut system, slug).await?;
            system.rollback().await?;
            found.retain(|candidate| Some(candidate.organization) == wanted);
        }
        let mut mails = 0;
        for candidate in found {
            let asked = Asked { email: &email, address: self.address.as_deref(), job: job.id };
            mails += usize::from(offer(shared, candidate.organization, candidate.user, &asked).await?);
        }
        Ok(Outcome::DoneWith(json!({"mails": mails})))
    }
}

struct Asked<'a> {
    email: &'a EmailAddress,
    address: Option<&'a str>,
    job: JobId,
}

/// Once, however often the job runs. Answers whether there is a mail.
async fn offer(
    shared: &Shared,
    organization: OrganizationId,
    user: UserId,
    asked: &Asked<'_>,
) -> anyhow::Result<bool> {
    let mut tx = shared.db.begin(organization).await?;
    let person = store::users::get(&mut tx, user).await?;
    tx.rollback().await?;
    if !person.may_enter() || person.owner.is_some() {
        return Ok(false);
    }
    if !throttle::reset_mail(&shared.db, asked.email).await? {
        tracing::info!(user.id = %user, "a mail for a new password was held back: that address got enough of them");
        return Ok(false);
    }
    let mail = NewMail {
        key: format!("password_reset:{}:{user}", asked.job),
        to: asked.email.to_string(),
        message_kind: "password_reset".into(),
        mail: Mail {
            to_name: Some(person.name),
            auto_submitted: Some("auto-generated".into()),
            password_reset: Some(user),
            ..Mail::default()
        },
        ..NewMail::default()
    };
    let mut tx = shared.db.begin(organization).await?;
    let queued = deliveries::queue_mail(&mut tx, organization, mail).await?;
    if queued.job.is_some() {
        let actor = Actor::system(organization, "offer_password_reset");
        let payload = json!({"user": user, "address": asked.address});
        events::record(&mut tx, &actor, "auth.password_reset_asked", None, payload).await?;
    }
    tx.commit().await?;
    Ok(queued.job.is_some())
}
