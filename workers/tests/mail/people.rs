//! Who may write to a ticket, and who hears of it.

use crate::desk::{Desk, FIRST};
use actions::tickets::{self, NewComment};
use domain::ticket::{Source, Status};

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_forgers_get_nowhere() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    let receipt = desk.last_message_id().await;
    let number = &ticket.number;
    // The number alone, from a stranger: a ticket of their own.
    desk.receives(&format!("From: mallory@evil.example\nSubject: Re: [{number}]\n\nlet me in\n")).await;
    assert_eq!(desk.tickets().await.len(), 2);
    // A forged id of ours is nothing.
    desk.receives("From: mallory@evil.example\nSubject: x\nIn-Reply-To: <relaydesk.00000000000000000000000000000000@desk.example>\n\nx\n").await;
    assert_eq!(desk.tickets().await.len(), 3);
    // The real one, forwarded to somebody: a note that only staff see.
    desk.receives(&format!(
        "From: colleague@example.org\nSubject: x\nReferences: {receipt}\n\nI know more\n"
    ))
    .await;
    // Somebody who says to be the agent and knows the number.
    desk.receives(&format!("From: agent@acme.example\nSubject: [{number}]\n\nsend your password\n")).await;
    // The requester, by the number alone.
    desk.receives(&format!("From: ada@example.org\nCc: eve@evil.example, end-user@acme.example\nSubject: {number} again\n\nhello?\n")).await;
    let comments = desk.comments(ticket.id).await;
    let visibility: Vec<&str> = comments.iter().map(|(visibility, _)| visibility.as_str()).collect();
    assert_eq!(visibility, ["internal", "internal", "public"], "{comments:?}");
    assert!(comments[0].1.starts_with("colleague@example.org wrote, who is not part of this ticket:"));
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    assert!(store::ticket_watchers::list(&mut tx, ticket.id).await.unwrap().is_empty());
    let eve = "eve@evil.example".parse().unwrap();
    assert!(store::users::find_by_email(&mut tx, &eve).await.unwrap().is_none());
    let told: Vec<String> = desk.sink.mails().iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(told, ["ada@example.org", "mallory@evil.example", "mallory@evil.example"], "receipts only");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_answer_and_closed_tickets_stay_closed() {
    let desk = Desk::open().await;
    let known = "From: end-user@acme.example\nTo: support@desk.example\nCc: agent@acme.example, new@example.org\nSubject: Printer\nMessage-ID: <k@acme.example>\n\nIt burns.\n";
    desk.receives(known).await;
    let ticket = desk.tickets().await.remove(0);
    assert_eq!(ticket.requester, desk.organization.end_user.user_id());
    assert_eq!(desk.sink.mails()[0].header("Subject").unwrap(), format!("Re: Printer [{}]", ticket.number));

    let (agent, id) = (desk.organization.agent.clone(), ticket.id);
    let reply = NewComment::public("Switch it off.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &agent, id, reply).await).await;
    let internal = NewComment::internal("Not again.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &agent, id, internal).await).await;
    let mails = desk.sink.mails();
    assert_eq!(mails.len(), 2, "the receipt and the public answer");
    assert_eq!(mails[1].to, ["end-user@acme.example"]);
    assert_eq!(mails[1].header("In-Reply-To").as_deref(), Some("<k@acme.example>"));
    assert!(mails[1].header("References").unwrap().starts_with("<k@acme.example> <relaydesk."));
    assert_eq!(mails[1].from, "support@desk.example");
    assert_eq!(mails[1].header("Auto-Submitted"), None);
    assert!(mails[1].text().contains("Switch it off."));

    // An agent's own answer by mail, to a mail that we sent them as a watcher: public and from them.
    let other = desk.organization.admin.clone();
    let more = NewComment::public("Ask the agent.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &other, id, more).await).await;
    let to_agent = desk.sink.mails().into_iter().find(|mail| mail.to == ["agent@acme.example"]).unwrap();
    let by_mail = format!(
        "From: agent@acme.example\nSubject: Re\nIn-Reply-To: {}\n\nDone by mail.\n",
        to_agent.header("Message-ID").unwrap()
    );
    desk.receives(&by_mail).await;
    let comments = desk.comments(id).await;
    assert_eq!(comments.last().unwrap(), &("public".to_owned(), "Done by mail.".to_owned()));
    let last = desk.sink.mails().pop().unwrap();
    assert_eq!(last.to, ["end-user@acme.example"]);

    // Resolved: told, and an answer opens it again. Closed: an answer is a new ticket, linked.
    desk.act(async |tx| tickets::resolve(tx, &agent, id, "Replaced.").await).await;
    let told = desk.sink.mails().pop().unwrap();
    assert!(told.text().contains("Replaced."));
    let answer = |id: &str, n: u8| {
        format!(
            "From: end-user@acme.example\nSubject: Re: Printer [{}]\nMessage-ID: <r{n}@acme.example>\nIn-Reply-To: {id}\n\nno!\n",
            ticket.number
        )
    };
    desk.receives(&answer(&told.header("Message-ID").unwrap(), 1)).await;
    assert!(desk.tickets().await[0].status.is_open());
    desk.act(async |tx| tickets::resolve(tx, &agent, id, "Really.").await).await;
    desk.act(async |tx| tickets::close(tx, &agent, id, None).await).await;
    desk.receives(&answer(&told.header("Message-ID").unwrap(), 2)).await;
    let tickets = desk.tickets().await;
    assert_eq!((tickets.len(), tickets[0].status), (2, Status::Closed));
    assert_eq!(tickets[1].title, "Printer");
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    assert_eq!(store::ticket_links::list(&mut tx, tickets[1].id).await.unwrap().len(), 1);
}
