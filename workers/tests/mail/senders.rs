//! Who becomes known by writing, and what becomes of the mail of somebody who does not.

use crate::desk::{Desk, FIRST};
use actions::organizations::{self, TenantChanges};
use actions::{inbox, removals};
use domain::EmailAddress;
use domain::mail::SenderPolicy;
use store::inbox::Status;

async fn set(desk: &Desk, policy: SenderPolicy, domains: &[&str]) {
    let changes = TenantChanges {
        sender_policy: Some(policy),
        sender_domains: Some(domains.iter().map(|&domain| domain.to_owned()).collect()),
        ..TenantChanges::default()
    };
    let admin = desk.organization.admin.clone();
    desk.act(async |tx| organizations::update(tx, &admin, &changes).await).await;
}

async fn people(desk: &Desk) -> i64 {
    sqlx::query_scalar("select count(*) from users").fetch_one(&mut desk.db.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn known_domains_let_their_people_in_and_nobody_else() {
    let desk = Desk::open().await;
    set(&desk, SenderPolicy::KnownDomains, &["Example.org", "*.corp.example"]).await;
    desk.receives(FIRST).await;
    desk.receives("From: bob@berlin.corp.example\nSubject: VPN\n\nNo network.\n").await;
    assert_eq!(desk.tickets().await.len(), 2);
    let (known, sent) = (people(&desk).await, desk.sink.mails().len());
    for from in
        ["eve@evil.example", "eve@example.org.evil.example", "eve@corp.example", "eve@sub.example.org"]
    {
        desk.receives(&format!("From: {from}\nTo: support@desk.example\nSubject: Hello\n\nhi {from}\n"))
            .await;
    }
    assert_eq!((desk.tickets().await.len(), people(&desk).await), (2, known));
    assert_eq!(desk.sink.mails().len(), sent, "who is refused hears nothing");
    let inbox = desk.inbox().await;
    assert_eq!(inbox.len(), 6);
    for entry in &inbox[2..] {
        assert_eq!(entry.status, Status::Ignored);
        assert!(entry.reason.as_deref().unwrap().contains("sender_policy known_domains"), "{entry:?}");
    }

    // Made known by name, or their domain let in: what was kept is worked after all.
    set(&desk, SenderPolicy::KnownDomains, &["example.org", "evil.example"]).await;
    let (admin, id) = (desk.organization.admin.clone(), inbox[2].id);
    desk.act(async |tx| inbox::replay(tx, &admin, id).await).await;
    let tickets = desk.tickets().await;
    assert_eq!((tickets.len(), &*tickets[2].title), (3, "Hello"));
    let told = desk.sink.mails().pop().unwrap();
    assert_eq!(told.to, ["eve@evil.example"], "and now there is a receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_desk_takes_mail_of_its_people_and_answers_no_storm() {
    let desk = Desk::open().await;
    set(&desk, SenderPolicy::Closed, &[]).await;
    let known = people(&desk).await;
    desk.receives("From: end-user@acme.example\nSubject: Printer\n\nIt burns.\n").await;
    assert_eq!(desk.tickets().await.len(), 1);
    let sent = desk.sink.mails().len();
    // Forged senders, one each: what we sent them would be backscatter.
    for n in 0..60 {
        let from = format!("victim{n}@innocent.example");
        let raw = format!("From: {from}\r\nTo: support@desk.example\r\nSubject: Buy\r\n\r\nnow {n}\r\n");
        desk.sends(&from, &["support@desk.example"], raw).await.expect("taken, and no bounce");
    }
    desk.run().await;
    assert_eq!(desk.sink.mails().len(), sent);
    assert_eq!((desk.tickets().await.len(), people(&desk).await), (1, known));
    let refused = desk.inbox().await.into_iter().filter(|entry| entry.status == Status::Ignored);
    assert_eq!(refused.filter(|entry| entry.reason.as_deref().unwrap().contains("closed")).count(), 60);
    let queued: i64 = sqlx::query_scalar("select count(*) from deliveries where recipient like '%innocent%'")
        .fetch_one(&mut desk.db.owner().await)
        .await
        .unwrap();
    assert_eq!(queued, 0);
}

/// Whoever was deleted is not made anew by their next mail, and does not write to their old tickets either.
#[tokio::test(flavor = "multi_thread")]
async fn mail_of_a_deleted_person_waits_for_their_return() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    let threads = desk.last_message_id().await;
    let (admin, ada) = (desk.organization.admin.clone(), ticket.requester.unwrap());
    desk.act(async |tx| {
        let before = removals::lock(tx, ada).await?;
        removals::delete(tx, &admin, before).await
    })
    .await;
    let known = people(&desk).await;
    desk.receives(&format!("From: ada@example.org\nSubject: Re\nIn-Reply-To: {threads}\n\nStill.\n")).await;
    desk.receives("From: ada@example.org\nSubject: Another\n\nThing.\n").await;
    assert_eq!((desk.tickets().await.len(), desk.comments(ticket.id).await.len()), (1, 0));
    assert_eq!(people(&desk).await, known);
    let inbox = desk.inbox().await;
    for entry in &inbox[1..] {
        assert!(entry.reason.as_deref().unwrap().contains("was deleted"), "{entry:?}");
    }

    desk.act(async |tx| {
        let before = removals::lock(tx, ada).await?;
        removals::restore(tx, &admin, before).await
    })
    .await;
    let answer = inbox[1].id;
    desk.act(async |tx| inbox::replay(tx, &admin, answer).await).await;
    assert_eq!(desk.comments(ticket.id).await, [("public".to_owned(), "Still.".to_owned())]);

    // Deleted, and their address is somebody else's by now: that one writes for themselves.
    desk.act(async |tx| {
        let before = removals::lock(tx, ada).await?;
        removals::delete(tx, &admin, before).await
    })
    .await;
    let new = actions::users::NewPerson {
        email: "ada@example.org".into(),
        name: "Another Ada".into(),
        role: domain::Role::EndUser,
        password_hash: None,
        department: None,
        manager: None,
        time_zone: None,
        locale: None,
        phone: None,
    };
    let other = desk.act(async |tx| actions::users::create(tx, &admin, new.clone()).await).await;
    desk.receives("From: ada@example.org\nSubject: Mine\n\nNew here.\n").await;
    let tickets = desk.tickets().await;
    assert_eq!((tickets.len(), tickets[1].requester), (2, Some(other.id)));
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    let address = EmailAddress::parse("ada@example.org").unwrap();
    assert_eq!(store::users::find_by_email(&mut tx, &address).await.unwrap().unwrap().id, other.id);
}

/// Mail about tickets goes where its reader wants it; mail from there is not theirs by that.
#[tokio::test(flavor = "multi_thread")]
async fn answers_go_to_the_preferred_address() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    let (admin, ada) = (desk.organization.admin.clone(), ticket.requester.unwrap());
    let way = domain::ContactWay {
        kind: domain::ContactKind::Email,
        value: "ada@home.example".into(),
        label: None,
        is_preferred: true,
    };
    desk.act(async |tx| {
        let person = store::users::lock(tx, ada).await?;
        actions::contact_ways::replace(tx, &admin, &person, vec![way.clone()]).await
    })
    .await;
    let reply = actions::tickets::NewComment::public("Switch it off.", domain::ticket::Source::Console);
    desk.act(async |tx| actions::tickets::comment(tx, &admin, ticket.id, reply.clone()).await).await;
    assert_eq!(desk.sink.mails().pop().unwrap().to, ["ada@home.example"]);
    desk.receives("From: ada@home.example\nSubject: Mine?\n\nhi\n").await;
    assert_ne!(desk.tickets().await[1].requester, Some(ada));
}
