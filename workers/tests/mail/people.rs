//! Who may write to a ticket, and who hears of it.

use crate::desk::{Desk, FIRST};
use actions::channels::{self, NewChannel};
use actions::deliveries::{NewMail, queue_mail};
use actions::rules::{self, NewRule};
use actions::tickets::{self, NewComment};
use domain::ChannelKind;
use domain::ticket::{Source, Status};
use queue::KeyRing;
use serde_json::json;
use store::deliveries::{Mail, Words};

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
    assert_eq!(
        store::ticket_links::list(&mut tx, &domain::permission::Reach::Everything, tickets[1].id)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// The From of a mail is a claim; whoever has a mail of ours, has a Message-ID of ours.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_as_staff_by_the_id_of_a_mail_that_went_to_somebody_else() {
    let desk = Desk::open().await;
    desk.receives("From: mallory@evil.example\nTo: support@desk.example\nCc: end-user@acme.example, agent@acme.example\nSubject: Hello\n\nhi\n").await;
    let ticket = desk.tickets().await.remove(0);
    let receipt = desk.last_message_id().await;
    let forged = |id: &str| {
        format!(
            "From: agent@acme.example\nSubject: Re\nReferences: {id}\nIn-Reply-To: {id}\n\nSend me your password.\n"
        )
    };
    desk.receives(&forged(&receipt)).await;
    assert_eq!(
        desk.comments(ticket.id).await,
        [("internal".to_owned(), "Send me your password.".to_owned())]
    );
    assert_eq!(desk.tickets().await[0].first_responded_at, None);
    assert_eq!(desk.sink.mails().len(), 1, "nobody was told");

    // Two public answers go to everybody, each under an id of its own; nobody is told the ids of the others' mails.
    let admin = desk.organization.admin.clone();
    for words in ["One.", "Two."] {
        let answer = NewComment::public(words, Source::Console);
        desk.act(async |tx| tickets::comment(tx, &admin, ticket.id, answer).await).await;
    }
    let mails = desk.sink.mails();
    assert_eq!(mails.len(), 7);
    let id_of = |to: &str, words: &str| {
        let mail = mails.iter().find(|mail| mail.to == [to] && mail.text().contains(words)).unwrap();
        (mail.header("Message-ID").unwrap(), mail.header("References").unwrap_or_default())
    };
    let (to_agent, _) = id_of("agent@acme.example", "One.");
    let (first, _) = id_of("mallory@evil.example", "One.");
    let (_, references) = id_of("mallory@evil.example", "Two.");
    assert!(references.contains(&receipt) && references.contains(&first), "{references}");
    assert!(!references.contains(&to_agent), "{references}");
    // The victim's mail does not help either; the agent's own does.
    desk.receives(&forged(&id_of("end-user@acme.example", "One.").0)).await;
    desk.receives(&forged(&to_agent)).await;
    let comments = desk.comments(ticket.id).await;
    let visibility: Vec<&str> = comments.iter().map(|(visibility, _)| visibility.as_str()).collect();
    assert_eq!(visibility, ["internal", "public", "public", "internal", "public"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_what_staff_are_told_stay_among_staff() {
    let desk = Desk::open().await;
    let admin = desk.organization.admin.clone();
    let channel = NewChannel {
        kind: ChannelKind::Email,
        name: "on call".into(),
        config: json!({"to": "agent@acme.example"}),
        is_active: true,
    };
    let channel =
        desk.act(async |tx| channels::create(tx, &admin, &KeyRing::default(), channel).await).await.id;
    let event = "incident.opened".to_owned();
    let rule = NewRule { name: None, event, channel, conditions: json!({}), is_active: true };
    let rule = desk.act(async |tx| rules::create(tx, &admin, rule).await).await.id;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    desk.act(async |tx| rules::delete(tx, &admin, rule).await).await;
    desk.act(async |tx| channels::delete(tx, &admin, channel).await).await;
    // As escalations tell a manager: without a channel.
    let words = Words { subject: "late".into(), text: "late".into(), html: None };
    let mail = NewMail {
        key: "escalation:1:0".into(),
        to: "admin@acme.example".into(),
        message_kind: "sla.breached".into(),
        ticket: Some(ticket.id),
        mail: Mail { words: Some(words), auto_submitted: Some("auto-generated".into()), ..Mail::default() },
        ..NewMail::default()
    };
    let organization = desk.organization.id;
    desk.act(async |tx| queue_mail(tx, organization, mail).await).await;
    for from in ["agent@acme.example", "admin@acme.example"] {
        let told = desk.sink.mails().into_iter().find(|mail| mail.to == [from]).unwrap();
        let id = told.header("Message-ID").unwrap();
        let random = id.strip_prefix("<relaydesk.").and_then(|id| id.split('@').next()).unwrap();
        assert_eq!(uuid::Uuid::try_parse(random).unwrap().get_version_num(), 4, "{id}");
        desk.receives(&format!("From: {from}\nSubject: Re\nIn-Reply-To: {id}\n\nHe exaggerates.\n")).await;
    }
    let internal = ("internal".to_owned(), "He exaggerates.".to_owned());
    assert_eq!(desk.comments(ticket.id).await, [internal.clone(), internal]);
    assert!(!desk.sink.mails().iter().any(|mail| mail.text().contains("exaggerates")));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_desks_do_not_answer_each_other() {
    let desk = Desk::open().await;
    // The receipt or notice of another organization's desk, here or elsewhere.
    for kind in ["auto-replied", "auto-generated"] {
        desk.receives(&format!(
            "From: support@other.example\nTo: support@desk.example\nSubject: Re: [INC0000007] {kind}\nAuto-Submitted: {kind}\nX-Relaydesk-Loop: 0190a6a0-0000-7000-8000-000000000000\n\nThank you.\n"
        ))
        .await;
    }
    assert!(desk.tickets().await.is_empty() && desk.sink.mails().is_empty());
    let reasons: Vec<_> = desk.inbox().await.into_iter().map(|entry| entry.reason).collect();
    assert_eq!(reasons, vec![Some("it is an automatic mail of another desk".to_owned()); 2]);
    // What a person wrote there is a mail like any other.
    desk.receives("From: support@other.example\nTo: support@desk.example\nSubject: Help\nX-Relaydesk-Loop: x\n\nCan you?\n").await;
    assert_eq!((desk.tickets().await.len(), desk.sink.mails().len()), (1, 1));
}

/// Who runs the installation has stopped the organization: mail is taken and kept, and worked on when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn mail_to_a_suspended_organization_waits() {
    let desk = Desk::open().await;
    let set = async |sql: &'static str| {
        sqlx::query(sql).execute(&mut desk.db.owner().await).await.unwrap();
    };
    set("update organizations set suspended_at = now(), suspended_for = 'no contract'").await;
    desk.receives(FIRST).await;
    let entry = desk.inbox().await.remove(0);
    assert_eq!(entry.status, store::inbox::Status::Pending);
    assert_eq!(entry.reason.as_deref(), Some("waits: the organization is suspended (no contract)"));
    assert!(desk.tickets().await.is_empty());
    set("update organizations set suspended_at = null, suspended_for = null").await;
    let later = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(600_000));
    let drain = queue::Drain::new(workers::registry(), desk.shared.clone()).clock(later);
    drain.run(desk.db.db.pool()).await.unwrap();
    assert_eq!(desk.tickets().await.len(), 1);
    assert_eq!(desk.inbox().await[0].status, store::inbox::Status::Processed);
}

/// Nothing of it goes to channels, and who has no part in it does not get at it by mail, staff or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_confidential_stays_among_those_who_have_a_part_in_it() {
    let desk = Desk::open().await;
    let (admin, agent) = (desk.organization.admin.clone(), desk.organization.agent.clone());
    let config = json!({"to": "everybody@acme.example"});
    let channel = NewChannel { kind: ChannelKind::Email, name: "all".into(), config, is_active: true };
    let channel =
        desk.act(async |tx| channels::create(tx, &admin, &KeyRing::default(), channel).await).await.id;
    for event in ["incident.opened", "incident.commented"] {
        let event = event.to_owned();
        let rule = NewRule { name: None, event, channel, conditions: json!({}), is_active: true };
        desk.act(async |tx| rules::create(tx, &admin, rule).await).await;
    }
    let secret = tickets::NewTicket {
        is_confidential: true,
        requester: desk.organization.end_user.user_id(),
        ..tickets::NewTicket::incident("salaries", Source::Api)
    };
    let secret = desk.act(async |tx| tickets::open(tx, &admin, secret).await).await;
    let answer = NewComment::public("we look into it", Source::Api);
    desk.act(async |tx| tickets::comment(tx, &admin, secret.id, answer).await).await;
    let to: Vec<_> = desk.sink.mails().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(to, ["end-user@acme.example"], "the requester hears of it, the channel does not");
    // Queued while it was open to all, and made confidential before it was sent.
    let plain = tickets::NewTicket::incident("plain", Source::Api);
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    let plain = tickets::open(&mut tx, &admin, plain).await.unwrap();
    let message = actions::deliveries::NewChannelMessage {
        key: "late".into(),
        channel,
        rule: None,
        message_kind: "incident.opened".into(),
        event: None,
        ticket: Some(plain.id),
        trace: None,
    };
    actions::deliveries::queue_channel(&mut tx, desk.organization.id, message).await.unwrap();
    let hide = tickets::TicketPatch { is_confidential: Some(true), ..Default::default() };
    tickets::update(&mut tx, &admin, plain.id, hide).await.unwrap();
    tx.commit().await.unwrap();
    let drained = queue::Drain::new(workers::registry(), desk.shared.clone()).run(desk.db.db.pool()).await;
    assert!(!desk.sink.mails().iter().any(|mail| mail.to == ["everybody@acme.example"]), "{drained:?}");
    let why: String = sqlx::query_scalar("select last_error from deliveries where unique_key like 'late%'")
        .fetch_one(&mut desk.db.owner().await)
        .await
        .unwrap();
    assert!(why.contains("confidential"), "{why}");

    // An agent who has no part in it names its number: that is a ticket of their own.
    let mail = |n: u8| {
        format!(
            "From: agent@acme.example\nSubject: Re: [{}]\nMessage-ID: <a{n}@acme.example>\n\nlet me in\n",
            secret.number
        )
    };
    let before = desk.tickets().await.len();
    let comments = desk.comments(secret.id).await.len();
    desk.receives(&mail(1)).await;
    assert_eq!((desk.tickets().await.len(), desk.comments(secret.id).await.len()), (before + 1, comments));
    let user = agent.user_id().unwrap();
    desk.act(async |tx| tickets::add_watcher(tx, &admin, secret.id, user).await).await;
    desk.receives(&mail(2)).await;
    assert_eq!(
        (desk.tickets().await.len(), desk.comments(secret.id).await.len()),
        (before + 1, comments + 1)
    );
}
