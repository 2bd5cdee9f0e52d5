//! What the database knows about a mail: the tickets it refers to, and how its sender stands to them.

use crate::{Result, tickets};
use domain::mail::{Facts, Hit, Mail, automatic, message_id};
use domain::ticket::TicketNumber;
use domain::{Actor, EmailAddress, Permission, Rights, TicketId};
use store::Tx;
use store::mail_messages::Known;
use store::users::User;

pub async fn gather(
    tx: &mut Tx,
    mail: &Mail,
    own: &[EmailAddress],
    return_path: automatic::ReturnPath<'_>,
    sender: Option<&User>,
) -> Result<Facts> {
    let mut ids = message_id::candidates(mail);
    ids.extend(mail.report.iter().filter_map(|report| report.original_message_id.clone()));
    let known = store::mail_messages::known(tx, &ids).await?;
    let sender = match sender {
        Some(user) => store::rights::of(tx, user.id).await?.filter(|sender| sender.may_enter),
        None => None,
    };
    let sender = sender.map(|sender| Actor::user(tx.organization(), sender.id, sender.name, sender.rights));
    let sender = sender.as_ref();
    let mut referenced = Vec::new();
    for id in &ids {
        // Several: the same mail in several tickets, or one id under which we and somebody else wrote.
        let mut of_id: Vec<&Known> = known.iter().filter(|k| &k.message_id == id).collect();
        of_id.sort_by_key(|k| (!k.ours, k.ticket));
        for found in of_id {
            referenced.push(hit(tx, found.ticket, Some(found), mail, sender).await?);
        }
    }
    let numbered = match TicketNumber::find_in(&mail.subject) {
        Some(number) => match store::tickets::by_number(tx, number).await {
            Ok(ticket) => Some(hit(tx, ticket.id, None, mail, sender).await?),
            Err(store::Error::NotFound) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let answers_us = !referenced.is_empty() || numbered.is_some();
    let automatic = automatic::recognise(mail, tx.organization(), own, return_path, answers_us);
    Ok(Facts { automatic, referenced, numbered })
}

async fn hit(
    tx: &mut Tx,
    id: TicketId,
    found: Option<&Known>,
    mail: &Mail,
    sender: Option<&Actor>,
) -> Result<Hit> {
    let ticket = store::tickets::get(tx, id).await?;
    let ours = found.is_some_and(|known| known.ours);
    let addressee = ours && found.is_some_and(|known| known.address == mail.from.address.as_str());
    // A mail may do what its sender may; to who may not write to the ticket it is a stranger's.
    let takes_part = match sender {
        Some(actor) => tickets::decision(tx, actor, Permission::TicketsCommentPublic, &ticket).await?.allowed,
        None => false,
    };
    let staff = takes_part && sender.and_then(Actor::rights).is_some_and(Rights::is_staff);
    Ok(Hit {
        ticket: id,
        status: ticket.status,
        ours,
        addressee,
        internal: found.is_some_and(|known| known.is_internal),
        participant: takes_part || addressee,
        staff,
    })
}
