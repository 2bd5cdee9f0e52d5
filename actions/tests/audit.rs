//! The chain over the audit log: nobody who writes waits for it, and whatever somebody does to the log afterwards is found.

use domain::{Actor, OrganizationId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use std::time::Duration;
use store::audit_chain::{self, Fault, Head, Report, entry_digest, seal_hash};
use testkit::TestDb;
use uuid::Uuid;

struct World {
    test: TestDb,
    organization: OrganizationId,
    other: OrganizationId,
    owner: PgConnection,
}

impl World {
    async fn new() -> World {
        let test = testkit::database().await;
        let organization = testkit::organization(&test, "acme").await.id;
        let other = testkit::organization(&test, "globex").await.id;
        let owner = test.owner().await;
        World { test, organization, other, owner }
    }

    /// So many entries of the organization, with others' between them.
    async fn write(&self, count: usize) {
        for number in 0..count {
            for organization in [self.organization, self.other] {
                let mut tx = self.test.db.begin(organization).await.unwrap();
                let actor = Actor::system(organization, "test");
                let details = json!({"number": number, "words": "a value that may be personal"});
                actions::audit::security(&mut tx, &actor, "test.happened", None, details).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }

    async fn seal(&self) -> u64 {
        actions::audit::seal(&self.test.db, || false).await.unwrap().unwrap()
    }

    async fn verify(&self, head: Option<&Head>) -> Report {
        audit_chain::verify(&self.test.db, self.organization, head).await.unwrap()
    }

    /// As the owner of the database, who may do everything.
    async fn execute(&mut self, sql: &str) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.owner).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    async fn seqs(&mut self) -> Vec<i64> {
        sqlx::query_scalar("select seq from audit_entries where organization_id = $1 order by seq")
            .bind(self.organization.0)
            .fetch_all(&mut self.owner)
            .await
            .unwrap()
    }

    /// Makes digests and hashes fit again, as somebody would who knows how they are made.
    async fn forge(&mut self) {
        let mut tx = self.test.db.begin_system().await.unwrap();
        let seals = audit_chain::seals(&mut tx, self.organization, 0, 1000).await.unwrap();
        let mut previous = audit_chain::anchor(&mut tx, self.organization).await.unwrap().unwrap().hash;
        let mut after = i64::MIN;
        for seal in seals {
            let last = *seal.seqs.last().unwrap();
            let entries =
                audit_chain::entries(&mut tx, self.organization, after, last, 10_000).await.unwrap();
            after = last;
            let seqs: Vec<i64> = entries.iter().map(|entry| entry.seq).collect();
            let digests: Vec<_> =
                entries.iter().map(|entry| entry_digest(self.organization, entry)).collect();
            let hash = seal_hash(self.organization, seal.position, &previous, &seqs, &digests);
            sqlx::query(
                "update audit_seals set seqs = $3, digests = $4, previous = $5, hash = $6
                  where organization_id = $1 and position = $2",
            )
            .bind(self.organization.0)
            .bind(seal.position)
            .bind(&seqs)
            .bind(digests.concat())
            .bind(previous)
            .bind(hash)
            .execute(&mut self.owner)
            .await
            .unwrap();
            previous = hash;
        }
    }
}

/// What was written long ago, some time ago and just now, in several seals; the oldest is pruned, and some values are erased.
async fn a_long_life() -> World {
    let mut world = World::new().await;
    world.write(20).await;
    world.execute("update audit_entries set at = at - interval '200 days'").await;
    world.seal().await;
    for _ in 0..6 {
        world.write(10).await;
        world.seal().await;
    }
    let (organization, person) = (world.organization, Uuid::now_v7());
    let mut tx = world.test.db.begin(organization).await.unwrap();
    let long_ago = tx.now() - chrono::TimeDelta::days(100);
    assert!(audit_chain::prune(&mut tx, long_ago, 10_000).await.unwrap() > 20);
    tx.commit().await.unwrap();
    let seqs = world.seqs().await;
    let mut tx = world.test.db.begin(organization).await.unwrap();
    assert_eq!(audit_chain::erase(&mut tx, &seqs[5..9], person).await.unwrap(), 4);
    tx.commit().await.unwrap();
    world.write(3).await;
    world.seal().await;
    world.write(2).await;
    world
}

const ENTRY: &str = "update audit_entries set";

/// One change of somebody who may change everything, as SQL.
fn mutation(random: &mut impl Rng, organization: OrganizationId, seqs: &[i64], sealed: usize) -> String {
    let seqs = &seqs[..sealed];
    let seq = *seqs.choose(random).unwrap();
    let here = format!("where organization_id = '{organization}' and seq = {seq}");
    let last = seqs[sealed - random.random_range(1..=8)];
    let seal = random.random_range(0..7);
    let a_seal = format!(
        "where organization_id = '{organization}' and position = \
         (select position from audit_seals where organization_id = '{organization}' order by position offset {seal} limit 1)"
    );
    match random.random_range(0..26) {
        0 => format!("{ENTRY} at = at + interval '1 microsecond' {here}"),
        1 => format!("{ENTRY} noun = 'tickets' {here}"),
        2 => format!("{ENTRY} verb = 'delete' {here}"),
        3 => format!("{ENTRY} category = 'change' {here}"),
        4 => format!("{ENTRY} object_id = gen_random_uuid() {here}"),
        5 => format!("{ENTRY} parent_id = gen_random_uuid() {here}"),
        6 => format!("{ENTRY} actor_kind = 'user' {here}"),
        7 => format!("{ENTRY} actor_id = gen_random_uuid() {here}"),
        8 => format!("{ENTRY} real_actor_id = gen_random_uuid() {here}"),
        9 => format!("{ENTRY} actor_label = coalesce(actor_label, '') || ' ' {here}"),
        10 => format!("{ENTRY} address = '192.0.2.1' {here}"),
        11 => format!("{ENTRY} request_id = '' {here}"),
        12 => format!("{ENTRY} trace_id = 'x', job_id = gen_random_uuid() {here}"),
        // Also of one that was erased: what is there then is not what was.
        13 => format!(
            "{ENTRY} changes = coalesce(changes, '{{}}') || '{{\"number\": 1000}}', salt = coalesce(salt, gen_random_uuid()), \
             erased_digest = null {here}"
        ),
        14 => format!(
            "{ENTRY} salt = gen_random_uuid(), changes = coalesce(changes, '{{}}'), erased_digest = null {here}"
        ),
        // Erased, with the right digest, but nobody was told.
        15 => format!(
            "{ENTRY} erased_digest = audit.values_digest(audit_entries), changes = null, salt = null \
             where (organization_id, seq) = (select organization_id, seq from audit_entries \
               where organization_id = '{organization}' and seq >= {seq} and seq <= {} and changes is not null limit 1)",
            seqs[sealed - 1]
        ),
        16 => format!("delete from audit_entries {here}"),
        17 => format!("delete from audit_entries where organization_id = '{organization}' and seq >= {last}"),
        // With the seals that tell of them.
        18 => format!(
            "delete from audit_entries where organization_id = '{organization}' and seq >= {last}; \
             delete from audit_seals where organization_id = '{organization}' and last_seq >= {last}"
        ),
        // Between two others: positions of other organizations leave gaps.
        19 => format!(
            "delete from audit_entries where organization_id <> '{organization}'; \
             insert into audit_entries overriding system value select organization_id, seq + 1, at, category, noun, verb, object_id, parent_id, \
                 actor_kind, actor_id, real_actor_id, actor_label, address, request_id, trace_id, job_id, '{{}}', gen_random_uuid(), null \
               from audit_entries e where organization_id = '{organization}' and seq >= {} and seq < {} \
                and not exists (select from audit_entries n where n.organization_id = e.organization_id and n.seq = e.seq + 1) \
              order by abs(seq - {seq}) limit 1",
            seqs[0],
            seqs[sealed - 1]
        ),
        20 => {
            let other =
                *seqs.iter().filter(|other| **other != seq).collect::<Vec<_>>().choose(random).unwrap();
            format!(
                "update audit_entries set seq = -1 {here}; \
                 update audit_entries set seq = {seq} where organization_id = '{organization}' and seq = {other}; \
                 update audit_entries set seq = {other} where organization_id = '{organization}' and seq = -1"
            )
        }
        21 => format!("update audit_seals set hash = sha256(hash) {a_seal}"),
        22 => format!("update audit_seals set previous = sha256(previous) {a_seal}"),
        23 => {
            format!("update audit_seals set digests = overlay(digests placing '\\x00ff00' from 3) {a_seal}")
        }
        24 => format!("delete from audit_seals {a_seal}"),
        _ => format!(
            "update audit_anchors set position = position + 1, hash = sha256(hash) where organization_id = '{organization}'"
        ),
    }
}

#[tokio::test]
async fn whatever_the_owner_of_the_database_does_to_the_log_is_found() {
    let mut world = a_long_life().await;
    let report = world.verify(None).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.erased, report.unsealed), (4, 2), "{report:?}");
    assert!(report.sealed > 60 && report.seals == 7 && report.pruned_to == 1, "{report:?}");
    let head = report.head.clone().unwrap();
    let seqs = world.seqs().await;
    let sealed = usize::try_from(report.sealed).unwrap();
    for table in ["audit_entries", "audit_seals", "audit_anchors"] {
        world.execute(&format!("create table public.kept_{table} as table {table}")).await;
    }
    // The identity column takes no positions by itself.
    world.execute("alter table audit_entries alter seq drop identity").await;

    let mut random = StdRng::seed_from_u64(27);
    let mut missed = Vec::new();
    for number in 0..1000 {
        let sql = mutation(&mut random, world.organization, &seqs, sealed);
        world.execute(&sql.replace("overriding system value ", "")).await;
        // Every other change of entries by somebody who makes the seals fit again, as far as they can be.
        let forges = number % 2 == 1 && !sql.starts_with("update audit_seals");
        if forges {
            world.forge().await;
        }
        let report = world.verify(Some(&head)).await;
        if report.is_whole() {
            missed.push(format!("forged: {forges}; {sql}"));
        }
        for table in ["audit_entries", "audit_seals", "audit_anchors"] {
            world.execute(&format!("delete from {table}; insert into {table} table kept_{table}")).await;
        }
    }
    assert!(missed.is_empty(), "{} not found:\n{}", missed.len(), missed.join("\n"));
    assert!(world.verify(Some(&head)).await.is_whole());
}

/// What is wrong has its name.
#[tokio::test]
async fn what_was_done_is_named() {
    let mut world = World::new().await;
    world.write(10).await;
    world.seal().await;
    let (seqs, organization) = (world.seqs().await, world.organization);
    let one = seqs[seqs.len() - 3];
    world.execute(&format!("update audit_entries set verb = 'x' where seq = {one}")).await;
    assert_eq!(world.verify(None).await.faults, [Fault::EntryChanged { entry: one }]);
    world.execute(&format!("update audit_entries set verb = 'happened' where seq = {one}")).await;
    assert!(world.verify(None).await.is_whole());
    world.execute(&format!("delete from audit_entries where seq = {one}")).await;
    assert_eq!(world.verify(None).await.faults, [Fault::EntryRemoved { entry: one }]);
    // Another chain in place of this one fits in itself, and not to what was kept elsewhere.
    let head = world.verify(None).await.head.unwrap();
    world.execute("delete from audit_seals").await;
    world.seal().await;
    assert!(world.verify(None).await.is_whole());
    let faults = world.verify(Some(&head)).await.faults;
    assert_eq!(faults, [Fault::AnotherHead { seal: head.position }]);
    // The beginning is not taken for pruned because somebody says so.
    world.write(5).await;
    world.seal().await;
    world
        .execute(&format!(
            "insert into audit_anchors select organization_id, position, last_seq, hash, 10, now() from audit_seals \
              where organization_id = '{organization}' and position = 1; \
             delete from audit_entries where organization_id = '{organization}' and seq <= (select max(last_seq) from audit_anchors); \
             delete from audit_seals where organization_id = '{organization}' and position = 1"
        ))
        .await;
    let faults = world.verify(None).await.faults;
    assert!(faults.contains(&Fault::BeginningRemoved { seal: 1 }), "{faults:?}");
}

#[tokio::test]
async fn nobody_waits_for_the_chain_and_it_waits_for_those_who_write() {
    let world = World::new().await;
    world.write(3).await;
    // Takes its position now and commits later than those who come after it.
    let mut slow = world.test.db.begin(world.organization).await.unwrap();
    let actor = Actor::system(world.organization, "slow");
    actions::audit::security(&mut slow, &actor, "test.slow", None, json!({})).await.unwrap();
    world.write(3).await;
    let db = world.test.db.clone();
    let sealing = tokio::spawn(async move { actions::audit::seal(&db, || false).await.unwrap().unwrap() });
    // Writers go on, in every organization.
    tokio::time::timeout(Duration::from_secs(30), world.write(5)).await.expect("nobody waits");
    assert!(!sealing.is_finished(), "what the slow one writes must be among it");
    slow.commit().await.unwrap();
    let sealed = sealing.await.unwrap();
    assert!(sealed > 0);
    world.seal().await;
    let report = world.verify(None).await;
    assert!(report.is_whole() && report.unsealed == 0, "{report:?}");
}

#[tokio::test]
async fn many_who_seal_at_once_make_one_chain() {
    let world = World::new().await;
    world.write(40).await;
    let sealing = (0..8).map(|_| {
        let db = world.test.db.clone();
        async move { actions::audit::seal(&db, || false).await.unwrap() }
    });
    futures::future::join_all(sealing).await;
    world.seal().await;
    let report = world.verify(None).await;
    assert!(report.is_whole() && report.unsealed == 0, "{report:?}");
}

/// A log that is held stays whatever its age; without a hold what is over its time goes, and nothing younger.
#[tokio::test]
async fn a_legal_hold_stops_pruning() {
    let mut world = World::new().await;
    world.write(10).await;
    world.execute("update audit_entries set at = at - interval '200 days'").await;
    world.seal().await;
    world.write(10).await;
    world.seal().await;
    let hold = |hold: Option<&str>| {
        let (db, organization, hold) = (world.test.db.clone(), world.organization, hold.map(str::to_owned));
        async move {
            let mut tx = db.begin(organization).await.unwrap();
            let version = store::audit::policy(&mut tx).await.unwrap().version;
            let policy = store::audit::Policy { hold, version, ..Default::default() };
            assert!(store::audit::set_policy(&mut tx, &policy).await.unwrap());
            tx.commit().await.unwrap();
            let mut tx = db.begin(organization).await.unwrap();
            let now = tx.now();
            // Whatever is asked for: 90 days stay.
            let gone = audit_chain::prune(&mut tx, now, 10_000).await.unwrap();
            tx.commit().await.unwrap();
            gone
        }
    };
    assert_eq!(hold(Some("case 4711")).await, 0);
    assert!(hold(None).await >= 10);
    world.seal().await;
    let report = world.verify(None).await;
    assert!(report.is_whole() && report.pruned_to == 1, "{report:?}");
}

/// What is handed out can be verified by those who have nothing but the file.
#[tokio::test]
async fn an_export_is_verified_without_the_database() {
    let world = a_long_life().await;
    let mut file = Vec::new();
    let entries = audit_chain::export(&world.test.db, world.organization, &mut file).await.unwrap();
    let report = audit_chain::verify_export(&*file, None).unwrap();
    assert_eq!(report, world.verify(None).await);
    assert_eq!(entries, report.sealed + report.unsealed);
    // Each line but the first and the last: without it, and with another word in it.
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for number in 1..lines.len() - 1 {
        let is_unsealed = lines[number].contains("\"unsealed\":true");
        let mut without = lines.clone();
        without.remove(number);
        let report = audit_chain::verify_export(without.join("\n").as_bytes(), None);
        assert!(report.is_err() || !report.unwrap().is_whole(), "{}", lines[number]);
        let changed =
            lines[number].replacen("\"test\"", "\"tets\"", 1).replacen("\"hash\":\"", "\"hash\":\"0", 1);
        if changed != lines[number] && !is_unsealed {
            let mut others = lines.clone();
            others[number] = &changed;
            let report = audit_chain::verify_export(others.join("\n").as_bytes(), None);
            assert!(!report.unwrap().is_whole(), "{changed}");
        }
    }
}
