//! One mail, one decision, one transaction.

use super::facts;
use crate::Result;
use crate::people;
use crate::tickets::{self, NewComment, NewTicket, StoredAttachment};
use domain::mail::automatic::{self, Automatic, ReturnPath};
use domain::mail::{Decision, Ignored, Mail, Person, decide, quote};
use domain::ticket::{LinkKind, Source, Visibility};
use domain::{Actor, CommentId, EmailAddress, InboxId, TicketId, UserId};
use store::Tx;
use store::inbox::{Entry, Status};
use store::mail_messages::{Direction, NewMessage};
use store::mailboxes::Mailbox;
use store::users::User;

#[derive(Debug)]
pub struct Incoming<'a> {
    pub entry: &'a Entry,
    pub mailbox: &'a Mailbox,
    pub mail: &'a Mail,
    pub return_path: ReturnPath<'a>,
    /// On disk already.
    pub files: Vec<StoredAttachment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Opened {
        ticket: TicketId,
        number: String,
        /// A receipt may go to this address; whether its sender was known before.
        answer: Option<(EmailAddress, bool)>,
    },
    Commented {
        ticket: TicketId,
        comment: CommentId,
    },
    Ignored {
        why: &'static str,
        label: &'static str,
        ticket: Option<TicketId>,
    },
}

impl Outcome {
    /// For `mail_ingest_total{outcome}`.
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Opened { .. } => "opened",
            Outcome::Commented { .. } => "commented",
            Outcome::Ignored { label, .. } => label,
        }
    }
}

/// Does what the mail asks for and says so in its inbox row. The caller completes the job and commits.
pub async fn take_in(tx: &mut Tx, actor: &Actor, incoming: Incoming<'_>) -> Result<Outcome> {
    let own = store::mailboxes::addresses(tx).await?;
    let sender = store::users::find_by_email(tx, &incoming.mail.from.address).await?;
    let facts = facts::gather(tx, incoming.mail, &own, incoming.return_path, sender.as_ref()).await?;
    let (id, from) = (incoming.entry.id, &incoming.mail.from.address);
    let organization = store::organizations::current(tx).await?;
    let is_deleted = sender.is_none() && store::users::is_deleted_address(tx, from).await?;
    match decide(&facts) {
        Decision::Ignore { why, about } => {
            store::inbox::finish(tx, id, Status::Ignored, Some(&reason(why, incoming.mail)), about).await?;
            Ok(Outcome::Ignored { why: why.reason(), label: why.outcome(), ticket: about })
        }
        Decision::Comment { .. } | Decision::Open { .. } if sender.is_none() && is_deleted => {
            refuse(tx, id, "refused: the sender's account was deleted: restore it, then replay this").await
        }
        Decision::Open { .. }
            if sender.is_none() && !organization.sender_policy.admits(&organization.sender_domains, from) =>
        {
            refuse(tx, id, organization.sender_policy.refusal()).await
        }
        Decision::Comment { ticket, visibility, stranger } => {
            let from = Writer { user: sender.filter(|_| !stranger).map(|user| user.id), stranger };
            comment(tx, actor, incoming, ticket, visibility, from).await
        }
        Decision::Open { follows } => {
            let outcome = open(tx, actor, &incoming, &own, sender, follows, facts.automatic.as_ref()).await?;
            if let Outcome::Opened { ticket, .. } = &outcome {
                remember(tx, &incoming, *ticket, None, false).await?;
                attach(tx, actor, *ticket, None, incoming.files).await?;
                store::inbox::finish(tx, id, Status::Processed, None, Some(*ticket)).await?;
            }
            Ok(outcome)
        }
    }
}

/// Kept where people see it and can replay it. Whoever is named as the sender hears nothing: they may not have written it.
async fn refuse(tx: &mut Tx, id: InboxId, why: &'static str) -> Result<Outcome> {
    store::inbox::finish(tx, id, Status::Ignored, Some(why), None).await?;
    Ok(Outcome::Ignored { why, label: "refused", ticket: None })
}

async fn open(
    tx: &mut Tx,
    actor: &Actor,
    incoming: &Incoming<'_>,
    own: &[EmailAddress],
    sender: Option<User>,
    follows: Option<TicketId>,
    automatic: Option<&Automatic>,
) -> Result<Outcome> {
    let mail = incoming.mail;
    let was_known = sender.is_some();
    let requester = match sender {
        Some(user) => user.id,
        None => {
            people::requester_for_email(tx, actor, mail.from.address.as_str(), Some(&mail.from.name)).await?
        }
    };
    let mut new = NewTicket::incident(title(mail, follows.is_some()), Source::Email);
    new.description = mail.text.clone();
    new.requester = Some(requester);
    new.team = incoming.mailbox.team;
    new.watchers = watchers(tx, mail, own, requester).await?;
    let ticket = tickets::open(tx, actor, new).await?;
    if let Some(earlier) = follows {
        tickets::link(tx, actor, ticket.id, LinkKind::RelatesTo, earlier).await?;
    }
    let answer = automatic::may_answer(mail, automatic).then(|| (mail.from.address.clone(), was_known));
    Ok(Outcome::Opened { ticket: ticket.id, number: ticket.number, answer })
}

/// Whose words a comment is made of.
struct Writer {
    user: Option<UserId>,
    stranger: bool,
}

async fn comment(
    tx: &mut Tx,
    actor: &Actor,
    incoming: Incoming<'_>,
    ticket: TicketId,
    visibility: Visibility,
    from: Writer,
) -> Result<Outcome> {
    let (mail, id) = (incoming.mail, incoming.entry.id);
    // Before looking: the same mail through another of our mailboxes waits here for its twin.
    store::tickets::lock(tx, ticket).await?;
    if store::mail_messages::is_on_ticket(tx, ticket, &incoming.entry.unique_key).await? {
        let why = "the same mail is on the ticket already, through another mailbox";
        store::inbox::finish(tx, id, Status::Ignored, Some(why), Some(ticket)).await?;
        return Ok(Outcome::Ignored { why, label: "duplicate", ticket: Some(ticket) });
    }
    let (fresh, _) = quote::split(&mail.text);
    let (fresh, name) = (fresh.trim(), signature(&mail.from));
    let body = match from {
        Writer { stranger: true, .. } => format!("{name} wrote, who is not part of this ticket:\n\n{fresh}"),
        Writer { user: None, .. } => format!("{name} wrote:\n\n{fresh}"),
        Writer { user: Some(_), .. } => fresh.to_owned(),
    };
    let is_internal = visibility == Visibility::Internal;
    let new = NewComment {
        body_html: mail.html.clone(),
        author: from.user,
        visibility,
        ..NewComment::public(body, Source::Email)
    };
    let comment = tickets::comment(tx, actor, ticket, new).await?;
    remember(tx, &incoming, ticket, Some(comment), is_internal).await?;
    attach(tx, actor, ticket, Some(comment), incoming.files).await?;
    store::inbox::finish(tx, id, Status::Processed, None, Some(ticket)).await?;
    Ok(Outcome::Commented { ticket, comment })
}

/// Who else was addressed and is known here. Nobody becomes known by being named in a mail.
async fn watchers(tx: &mut Tx, mail: &Mail, own: &[EmailAddress], requester: UserId) -> Result<Vec<UserId>> {
    let mut watchers = Vec::new();
    for person in mail.cc.iter().chain(&mail.to).filter(|person| !own.contains(&person.address)).take(50) {
        if let Some(user) = store::users::find_by_email(tx, &person.address).await?
            && user.is_active
            && user.id != requester
            && !watchers.contains(&user.id)
        {
            watchers.push(user.id);
        }
    }
    Ok(watchers)
}

async fn attach(
    tx: &mut Tx,
    actor: &Actor,
    ticket: TicketId,
    comment: Option<CommentId>,
    files: Vec<StoredAttachment>,
) -> Result<()> {
    for file in files {
        tickets::attach_stored(tx, actor, ticket, comment, file).await?;
    }
    Ok(())
}

async fn remember(
    tx: &mut Tx,
    incoming: &Incoming<'_>,
    ticket: TicketId,
    comment: Option<CommentId>,
    is_internal: bool,
) -> Result<()> {
    let made_up = format!("{}@message-id.invalid", incoming.entry.unique_key);
    let message = NewMessage {
        message_id: incoming.mail.message_id.as_deref().unwrap_or(&made_up),
        direction: Direction::In(Some(incoming.entry.id)),
        ticket,
        comment,
        address: &incoming.mail.from.address,
        is_internal,
    };
    Ok(store::mail_messages::insert(tx, &message).await?)
}

/// A new ticket in place of a closed one must not carry its number: later answers would find the old one.
fn title(mail: &Mail, follows: bool) -> String {
    let title = mail.title();
    match domain::ticket::TicketNumber::find_in(&title) {
        Some(number) if follows => {
            let number = number.to_string();
            let bare = title.replace(&format!("[{number}]"), "").replace(&number, "");
            let bare = bare.split_whitespace().collect::<Vec<_>>().join(" ");
            if domain::ticket::text::is_visible(&bare) { bare } else { title }
        }
        _ => title,
    }
}

fn reason(why: Ignored, mail: &Mail) -> String {
    let report = mail.report.as_ref().filter(|_| why == Ignored::Bounce);
    let Some(report) = report else {
        return why.reason().to_owned();
    };
    let about: Vec<&str> = [&report.action, &report.status, &report.recipient]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if about.is_empty() { why.reason().to_owned() } else { format!("{}: {}", why.reason(), about.join(", ")) }
}

fn signature(person: &Person) -> String {
    if person.name.is_empty() {
        person.address.to_string()
    } else {
        format!("{} <{}>", person.name, person.address)
    }
}
