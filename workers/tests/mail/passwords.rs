//! Forgotten passwords: who asks gets a mail, whoever is known, and not too many.

use crate::desk::Desk;
use actions::passwords::{self, Policy};
use chrono::TimeDelta;
use queue::Drain;

async fn asked(desk: &Desk, email: &str) {
    passwords::ask_for_reset(&desk.db.db, email, None, Some("192.0.2.1")).await.unwrap();
    desk.run().await;
}

/// The token of the link in the last mail.
fn token(desk: &Desk) -> String {
    let text = desk.sink.mails().pop().unwrap().text().replace("=\r\n", "").replace("=3D", "=");
    let (_, rest) = text.split_once("#reset=").unwrap_or_else(|| panic!("no link in {text}"));
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_the_mail_sets_the_password() {
    let desk = Desk::open().await;
    asked(&desk, "agent@acme.example").await;
    let mails = desk.sink.mails();
    assert_eq!((mails.len(), &mails[0].to[..]), (1, &["agent@acme.example".to_owned()][..]));
    assert_eq!(mails[0].header("Auto-Submitted").unwrap(), "auto-generated");
    let token = token(&desk);
    passwords::reset(&desk.db.db, &Policy::default(), &token, &"an entirely new one".into(), None)
        .await
        .unwrap();

    // H28: the token was in the mail and nowhere else.
    let mut owner = desk.db.owner().await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select d::text from deliveries d union all select e::text from events e union all select r::text from password_resets r
         union all select j::text from queue.jobs j union all select h::text from queue.history h",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(rows.len() > 3 && !rows.iter().any(|row| row.contains(&token)), "the token lies in the database");
    let kinds: Vec<String> =
        sqlx::query_scalar("select kind from events where kind like 'auth.password_reset%' order by seq")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    assert_eq!(kinds, ["auth.password_reset_asked", "auth.password_reset_used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_locked_or_a_program_gets_nothing() {
    let desk = Desk::open().await;
    let mut owner = desk.db.owner().await;
    for sql in [
        "update users set locked_at = now() where role = 'agent'",
        "update users set is_active = false where role = 'end_user'",
    ] {
        sqlx::query(sql).execute(&mut owner).await.unwrap();
    }
    for email in ["nobody@acme.example", "agent@acme.example", "end-user@acme.example", "nonsense"] {
        asked(&desk, email).await;
    }
    assert_eq!(desk.sink.mails().len(), 0);
}

/// H19: nobody's mailbox is flooded.
#[tokio::test(flavor = "multi_thread")]
async fn three_mails_an_hour() {
    let desk = Desk::open().await;
    for n in 0..40 {
        let from = format!("192.0.2.{n}");
        passwords::ask_for_reset(&desk.db.db, "Agent@ACME.example", None, Some(&from)).await.unwrap();
    }
    desk.run().await;
    assert_eq!(desk.sink.mails().len(), 3);
    desk.db.db.clock().shift(TimeDelta::minutes(59));
    asked(&desk, "agent@acme.example").await;
    assert_eq!(desk.sink.mails().len(), 3);
    desk.db.db.clock().shift(TimeDelta::minutes(2));
    asked(&desk, "agent@acme.example").await;
    assert_eq!(desk.sink.mails().len(), 4);
}

/// What the relay did not take is sent again, with a link that is good from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_waited_has_a_fresh_link() {
    let desk = Desk::open().await;
    desk.sink.refuse(["451 later"]);
    asked(&desk, "agent@acme.example").await;
    assert_eq!(desk.sink.mails().len(), 0);
    desk.db.db.clock().shift(TimeDelta::minutes(50));
    desk.run().await;
    let token = token(&desk);
    desk.db.db.clock().shift(TimeDelta::minutes(29));
    let new = "an entirely new one".into();
    passwords::reset(&desk.db.db, &Policy::default(), &token, &new, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_waited_too_long_is_given_up() {
    let desk = Desk::open().await;
    desk.sink.refuse(["451 later"]);
    asked(&desk, "admin@acme.example").await;
    desk.db.db.clock().shift(TimeDelta::hours(2));
    let drain = Drain::new(workers::registry(), desk.shared.clone());
    let dead = drain.clock(desk.db.db.clock().shift_handle()).run(desk.db.db.pool()).await.unwrap_err();
    assert!(dead.to_string().contains("it was asked for too long ago"), "{dead}");
    assert_eq!(desk.sink.mails().len(), 0);
    let given_up: i64 = sqlx::query_scalar("select count(*) from deliveries where status = 'given_up'")
        .fetch_one(&mut desk.db.owner().await)
        .await
        .unwrap();
    assert_eq!(given_up, 1);
}
