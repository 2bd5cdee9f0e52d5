//! What hooks have put into the broker is moved into the inbox: in batches, once, whoever dies in between.

use actions::alert_sources::{self, NewAlertSource};
use actions::credentials::hash_token;
use actions::hooks::{Door, Letter, Moved, Sought, move_in, queues};
use actions::inbox::{MAIL, identity};
use actions::mailboxes::{self, NewMailbox};
use domain::alert::AlertSourceKind;
use domain::{AlertSourceId, EmailAddress};
use queue::BrokerConfig;
use queue::messages::{Depth, Message, Publisher};
use serde_json::json;
use std::time::{Duration, Instant};
use store::Db;
use testkit::{Organization, Proxy, Server, TestDb, count_statements, statements_sent};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct House {
    db: TestDb,
    acme: Organization,
    source: AlertSourceId,
    token: String,
    mailbox_token: String,
    mailbox: Uuid,
}

async fn house(db: TestDb) -> House {
    let acme = testkit::organization(&db, "acme").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let new = NewAlertSource::new(AlertSourceKind::Generic, "backups");
    let made = alert_sources::create(&mut tx, &acme.admin, new).await.unwrap();
    let address = EmailAddress::parse("support@acme.example").unwrap();
    let new = NewMailbox { address, name: "Support".into(), team: None };
    let (mailbox, mailbox_token) = mailboxes::create(&mut tx, &acme.admin, new).await.unwrap();
    tx.commit().await.unwrap();
    House { db, acme, source: made.source.id, token: made.token, mailbox_token, mailbox: mailbox.id.0 }
}

impl House {
    fn alert(&self, n: usize) -> Letter {
        let whose = (self.acme.id, self.source.0);
        self.letter(Some(whose), &self.token, n)
    }

    fn letter(&self, whose: Option<(domain::OrganizationId, Uuid)>, token: &str, n: usize) -> Letter {
        let raw = json!({"dedup_key": n.to_string(), "title": "backup failed"}).to_string().into_bytes();
        let now = self.db.db.clock().estimate();
        let mut letter = Letter::new("generic", whose, &hash_token(token), now, raw);
        letter.about.content_type = "application/json".into();
        letter.about.headers = json!({});
        letter
    }

    fn mail(&self, text: &str) -> Letter {
        let whose = (self.acme.id, self.mailbox);
        let raw = format!("From: a@b.example\nMessage-ID: <{text}@b.example>\n\n{text}").into_bytes();
        let now = self.db.db.clock().estimate();
        let mut letter = Letter::new(MAIL, Some(whose), &hash_token(&self.mailbox_token), now, raw);
        letter.about.unique_key = identity(&letter.raw);
        letter.about.content_type = "message/rfc822".into();
        letter.about.headers = json!({"via": "hook"});
        letter
    }

    async fn count(&self, what: &'static str) -> i64 {
        sqlx::query_scalar(what).fetch_one(&mut self.db.owner().await).await.unwrap()
    }

    async fn until(&self, what: &'static str, expected: i64) {
        let begun = Instant::now();
        loop {
            let found = self.count(what).await;
            if found == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {found} instead of {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

const ROWS: &str = "select count(*) from inbox";
const JOBS: &str = "select count(*) from queue.jobs where kind in ('ingest_alert', 'ingest_mail')";

async fn door(db: &Db, broker: &BrokerConfig) -> Door {
    let publisher = Publisher::open(broker, "test", "hooks", queues().into());
    let door = Door::new(db.clone(), publisher);
    door.opened().await;
    door
}

/// The messages as a consumer gets them.
fn messages(letters: impl IntoIterator<Item = Letter>) -> Vec<Message> {
    letters.into_iter().map(Letter::into_message).collect()
}

struct Mover {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Mover {
    fn start(db: &Db, broker: &BrokerConfig) -> Mover {
        let stop = CancellationToken::new();
        let task = workers::hooks::run(db.clone(), broker.clone(), "test".into(), stop.clone());
        Mover { stop, task: tokio::spawn(task) }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// One that can be killed.
struct Mortal {
    mover: Mover,
    way: Proxy,
}

impl Mortal {
    async fn start(db: &Db, broker: &BrokerConfig) -> Mortal {
        let (way, url) = Proxy::to_broker(&broker.url).await;
        let mover = Mover::start(db, &BrokerConfig { url, ..broker.clone() });
        Mortal { mover, way }
    }

    /// As kill -9 does it: whatever it was at, and its sockets are closed. (A task that is dropped leaves its connection to the broker to a
    /// thread, and what the broker has sent there already.)
    fn kill(self) {
        self.mover.task.abort();
        drop(self.way);
    }
}

async fn broker() -> Option<BrokerConfig> {
    let broker = testkit::broker().await?;
    Some(BrokerConfig { prefix: broker.prefix, ..BrokerConfig::new(broker.url) })
}

#[tokio::test]
async fn two_hundred_letters_cost_the_statements_of_one() {
    let house = house(testkit::database().await).await;
    count_statements();
    let mut costs = Vec::new();
    // The first opens the connection.
    for letters in [1, 1, 200] {
        let batch = messages((0..letters).map(|n| house.alert(n)));
        let before = statements_sent();
        let moved = move_in(&house.db.db, &batch).await.unwrap();
        assert!(moved.iter().all(|moved| *moved == Moved::Kept), "{moved:?}");
        costs.push(statements_sent() - before);
    }
    assert_eq!(costs[1], costs[2]);
    assert!((3..=6).contains(&costs[2]), "begin, tokens, rows, jobs, commit: {costs:?}");
    let transactions = "select count(distinct xmin::text) from inbox";
    assert_eq!((house.count(ROWS).await, house.count(transactions).await), (202, 3));
    assert_eq!(house.count(JOBS).await, 202);
}

/// A storm that the API took while nobody moved it: the database sees the batches, not the letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_becomes_few_transactions() {
    let Some(broker) = broker().await else { return };
    let house = house(testkit::database().await).await;
    let door = door(&house.db.db, &broker).await;
    let source = door.source(&hash_token(&house.token)).await.unwrap();
    assert!(matches!(source, Sought::Known(source) if source.id == house.source));
    let kept = (0..1000).map(|n| door.keep(house.alert(n)));
    for kept in futures::future::join_all(kept).await {
        kept.unwrap();
    }
    assert_eq!(house.count(ROWS).await, 0, "nothing of it has touched the database");
    let mover = Mover::start(&house.db.db, &broker);
    house.until(ROWS, 1000).await;
    house.until(JOBS, 1000).await;
    let transactions = house.count("select count(distinct xmin::text) from inbox").await;
    assert!(transactions <= 25, "{transactions} transactions for 1,000 letters");
    mover.stop().await;
    door.close().await;
}

#[tokio::test]
async fn what_comes_twice_is_kept_once() {
    let house = house(testkit::database().await).await;
    let batch = messages([house.alert(1), house.mail("one"), house.mail("one"), house.mail("two")]);
    let moved = move_in(&house.db.db, &batch).await.unwrap();
    assert_eq!(moved.iter().filter(|moved| **moved == Moved::Kept).count(), 3, "{moved:?}");
    // As after a consumer died between its commit and its acknowledgement.
    let again = move_in(&house.db.db, &batch).await.unwrap();
    assert!(again.iter().all(|moved| *moved == Moved::Again), "{again:?}");
    assert_eq!((house.count(ROWS).await, house.count(JOBS).await), (3, 3));
    // Also when the first is worked already.
    sqlx::query("delete from queue.jobs").execute(&mut house.db.owner().await).await.unwrap();
    move_in(&house.db.db, &batch).await.unwrap();
    assert_eq!(house.count(JOBS).await, 0);
}

#[tokio::test]
async fn tokens_are_judged_again() {
    let house = house(testkit::database().await).await;
    let now = house.db.db.clock().estimate();
    let known = house.alert(1);
    let unknown = house.letter(None, &house.token, 2);
    let stranger = house.letter(None, "rda_nobody", 3);
    let mut refused = house.alert(4);
    refused.about.refused = Some("it is no JSON".into());
    let mut early = house.alert(5);
    early.about.received_at = now - chrono::TimeDelta::hours(3);
    let early_id = early.id;
    let batch = messages([known, unknown, stranger, refused, early]);
    let moved = move_in(&house.db.db, &batch).await.unwrap();
    assert_eq!(moved, [Moved::Kept, Moved::Kept, Moved::Nobody, Moved::Kept, Moved::Kept]);
    assert_eq!((house.count(ROWS).await, house.count(JOBS).await), (4, 3));
    assert_eq!(
        house.count("select count(*) from inbox where status = 'failed' and reason = 'it is no JSON'").await,
        1
    );
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let entry = store::inbox::entry(&mut tx, early_id).await.unwrap();
    assert_eq!(entry.received_at.timestamp(), (now - chrono::TimeDelta::hours(3)).timestamp(), "as it came");

    let late = house.alert(6);
    alert_sources::rotate_token(&mut tx, &house.acme.admin, house.source).await.unwrap();
    tx.commit().await.unwrap();
    let moved = move_in(&house.db.db, &messages([late])).await.unwrap();
    assert_eq!(moved, [Moved::Revoked]);
    let revoked =
        "select count(*) from inbox where status = 'failed' and reason like 'its token was replaced%'";
    assert_eq!((house.count(revoked).await, house.count(JOBS).await), (1, 3));
}

#[tokio::test]
async fn a_mail_with_a_revoked_token_does_not_swallow_its_repetition() {
    let mut house = house(testkit::database().await).await;
    let late = messages([house.mail("one")]);
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let (_, token) =
        mailboxes::rotate_hook_token(&mut tx, &house.acme.admin, house.mailbox.into()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(move_in(&house.db.db, &late).await.unwrap(), [Moved::Revoked]);
    assert_eq!(move_in(&house.db.db, &late).await.unwrap(), [Moved::Again]);
    house.mailbox_token = token;
    assert_eq!(move_in(&house.db.db, &messages([house.mail("one")])).await.unwrap(), [Moved::Kept]);
    assert_eq!((house.count(ROWS).await, house.count(JOBS).await), (2, 1));
}

/// A database that answers and cannot write is as good as away: the broker takes what would go to the database first, and
/// nothing becomes a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_only_reads_loses_nothing() {
    let Some(broker) = broker().await else { return };
    let house = house(testkit::database().await).await;
    let door = door(&house.db.another_pool(), &broker).await;
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut house.db.owner().await).await.unwrap();
    let set = |what| format!("alter database \"{name}\" set default_transaction_read_only = {what}");
    let on = sqlx::AssertSqlSafe(set("on"));
    sqlx::query(on).execute(&mut house.db.owner().await).await.unwrap();
    let mut large = house.alert(1);
    large.raw.resize(300 << 10, b' ');
    door.keep(large).await.unwrap();
    door.keep(house.alert(2)).await.unwrap();
    let mover = Mover::start(&house.db.another_pool(), &broker);
    // Both have been taken out and cannot be kept.
    let (depth, begun) = (Depth::of(&broker), Instant::now());
    while depth.messages("hooks").await != Ok(Some(0)) || depth.messages("hooks.large").await != Ok(Some(0)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "they are taken out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    mover.stop().await;
    door.close().await;
    let closed = door.keep(house.alert(3)).await;
    assert!(matches!(closed, Err(actions::Error::Busy(_))), "neither takes it: {closed:?}");
    let mut owner = house.db.owner().await;
    sqlx::query("set default_transaction_read_only = off").execute(&mut owner).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(set("off"))).execute(&mut owner).await.unwrap();
    let mover = Mover::start(&house.db.another_pool(), &broker);
    house.until(ROWS, 2).await;
    assert_eq!(depth.messages("hooks.dead").await, Ok(Some(0)));
    depth.close().await;
    mover.stop().await;
}

/// The sender is told that it cannot be used, and it is kept all the same.
#[tokio::test]
async fn a_fault_that_quotes_a_nul_is_kept() {
    let house = house(testkit::database().await).await;
    let mut refused = house.alert(1);
    refused.about.refused = Some("/labels/x\0: expected a text".into());
    assert_eq!(move_in(&house.db.db, &messages([refused])).await.unwrap(), [Moved::Kept]);
    let reason = "select count(*) from inbox where reason like '/labels/x_: expected%'";
    assert_eq!(house.count(reason).await, 1);
}

/// Killed again and again at whatever it is at, with the database stopped in between: each letter has one row and one job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_twice_whoever_dies() {
    let Some(broker) = broker().await else { return };
    let mut server = Server::start().await;
    let house = house(server.database().await).await;
    let door = door(&house.db.db, &broker).await;
    assert!(matches!(door.source(&hash_token(&house.token)).await.unwrap(), Sought::Known(_)));
    let mut kept = 0;
    for round in 0..6u64 {
        let mover = Mortal::start(&house.db.another_pool(), &broker).await;
        for n in 0..100 {
            door.keep(house.alert(n)).await.unwrap();
            kept += 1;
        }
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        mover.kill();
        if round == 3 {
            server.go_away().await;
            // A token that was never asked for, and one that was.
            assert!(matches!(door.source(&hash_token(&house.token)).await.unwrap(), Sought::Known(_)));
            assert_eq!(door.source(&hash_token("rda_other")).await.unwrap(), Sought::Unknown);
            for n in 0..100 {
                door.keep(house.alert(n)).await.unwrap();
                kept += 1;
            }
            let mover = Mortal::start(&house.db.another_pool(), &broker).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            mover.kill();
            server.come_back().await;
        }
    }
    let mover = Mover::start(&house.db.db, &broker);
    house.until(ROWS, kept).await;
    house.until(JOBS, kept).await;
    assert_eq!(house.count("select count(distinct args->>'inbox') from queue.jobs").await, kept);
    mover.stop().await;
    door.close().await;
}

/// Its organization is gone, or it is no letter: it does not hold up the others, and somebody can look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_kept_is_a_dead_letter() {
    let Some(broker) = broker().await else { return };
    let house = house(testkit::database().await).await;
    let door = door(&house.db.db, &broker).await;
    let nowhere = (domain::OrganizationId::new(), house.source.0);
    door.keep(house.letter(Some(nowhere), &house.token, 1)).await.unwrap();
    for n in 2..5 {
        door.keep(house.alert(n)).await.unwrap();
    }
    let publisher = Publisher::open(&broker, "stranger", "test", queues().into());
    publisher.opened().await;
    let about = "no letter".to_owned();
    let foreign = Message { id: Uuid::now_v7(), kind: "generic".into(), about, body: vec![], expires: None };
    publisher.publish("hooks", &foreign).await.unwrap();
    let mover = Mover::start(&house.db.db, &broker);
    house.until(ROWS, 3).await;
    let (depth, begun) = (Depth::of(&broker), Instant::now());
    while depth.messages("hooks.dead").await.unwrap() != Some(2) {
        assert!(begun.elapsed() < Duration::from_secs(20), "two dead letters");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(house.count(ROWS).await, 3);
    depth.close().await;
    mover.stop().await;
    publisher.close().await;
    door.close().await;
}
