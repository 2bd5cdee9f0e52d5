//! Mails to a ticket's requester and watchers, about what concerns them: a public answer of staff, and the end of it.

use crate::Shared;
use actions::mail::{About, Words, about_ticket};
use domain::{CommentId, EmailAddress, UserId};
use futures::future::BoxFuture;
use store::Tx;
use store::events::Event;
use store::tickets::Ticket;
use templates::mail::{PublicReply, Resolved};

/// A public comment of staff goes to the requester and the watchers, except to who wrote it.
pub fn public_reply<'a>(
    tx: &'a mut Tx,
    shared: &'a Shared,
    event: &'a Event,
) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(async move {
        let told = &event.payload["comment"];
        let is_answer = told["visibility"] == "public" && told["from_staff"] == true;
        let id = told["id"].as_str().and_then(|id| id.parse::<CommentId>().ok());
        let (Some(ticket), Some(id), true) = (event.ticket, id, is_answer) else {
            return Ok(());
        };
        let ticket = store::tickets::get(tx, ticket).await?;
        let comment = store::ticket_comments::get(tx, id).await?;
        let author = match comment.author {
            Some(author) => {
                store::ticket_people::names(tx, &[author]).await?.remove(&author).map(|person| person.name)
            }
            None => None,
        };
        let words = shared.templates.render_mail(&PublicReply {
            number: ticket.number.clone(),
            title: ticket.title.clone(),
            author: author.unwrap_or_default(),
            body: comment.body.trim().to_owned(),
        })?;
        let about = |user: UserId| About {
            key: format!("comment:{id}:mail:{user}"),
            kind: "public_reply",
            ticket: ticket.id,
            auto_submitted: None,
        };
        send(tx, &ticket, comment.author, about, words).await
    })
}

/// The requester hears that it is done, and that an answer opens it again.
pub fn resolved<'a>(
    tx: &'a mut Tx,
    shared: &'a Shared,
    event: &'a Event,
) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(async move {
        let Some(ticket) = event.ticket else { return Ok(()) };
        let ticket = store::tickets::get(tx, ticket).await?;
        let words = shared.templates.render_mail(&Resolved {
            number: ticket.number.clone(),
            title: ticket.title.clone(),
            resolution: ticket.resolution.clone(),
        })?;
        let about = |user: UserId| About {
            key: format!("event:{}:mail:{user}", event.id),
            kind: "resolved",
            ticket: ticket.id,
            auto_submitted: Some("auto-generated"),
        };
        send(tx, &ticket, event.actor, about, words).await
    })
}

async fn send<'a>(
    tx: &mut Tx,
    ticket: &Ticket,
    except: Option<UserId>,
    about: impl Fn(UserId) -> About<'a>,
    words: templates::MailWords,
) -> anyhow::Result<()> {
    let mut people: Vec<UserId> = ticket.requester.into_iter().collect();
    people.extend(store::ticket_watchers::list(tx, ticket.id).await?.into_iter().map(|watcher| watcher.user));
    people.sort();
    people.dedup();
    people.retain(|user| Some(*user) != except);
    for user in people {
        let Some(person) = store::users::find(tx, user).await?.filter(|person| person.is_active) else {
            continue;
        };
        let address = store::contact_ways::mail_address(tx, user, &person.email).await?;
        let Ok(address) = EmailAddress::parse(&address) else {
            continue;
        };
        let words = Words {
            subject: words.subject.clone(),
            text: words.text.clone(),
            html: Some(words.html.clone()),
        };
        about_ticket(tx, &about(user), &address, &person.name, words).await?;
    }
    Ok(())
}
