//! Story: a network falls over, and hundreds of clients are gone in the middle of what they asked for. Those who are still there are
//! served as if nothing had been: no connection to the database is lost, stuck in a transaction, or left with somebody else's rows in view.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{App, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const INCIDENTS: &str = "/api/v1/incidents";
const WAIT: Duration = Duration::from_secs(120);

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A tenant with what its clients ask for.
#[derive(Clone)]
struct Desk {
    name: &'static str,
    admin: Client,
    hook: String,
    ticket: String,
}

impl Desk {
    async fn open(name: &'static str, admin: Client) -> Desk {
        let source = json!({"kind": "generic", "name": "probe"});
        let source = admin.post("/api/v1/alert-sources", source).await.expect(201);
        let ticket = admin.post(INCIDENTS, json!({"title": format!("{name} first")})).await.expect(201);
        Desk {
            name,
            hook: format!("/hooks/generic/{}", source["token"].as_str().unwrap()),
            ticket: ticket["number"].as_str().unwrap().to_owned(),
            admin,
        }
    }

    fn request(&self, dice: &mut Dice, n: usize) -> (String, Option<Value>) {
        let name = self.name;
        match dice.below(6) {
            0 | 1 => (format!("POST {INCIDENTS}"), Some(json!({"title": format!("{name} storm {n}")}))),
            2 => (
                format!("POST {INCIDENTS}/{}/comments", self.ticket),
                Some(json!({"body": format!("{name} {n} {}", "x".repeat(2000)), "visibility": "public"})),
            ),
            3 => (
                format!("POST {}", self.hook),
                Some(json!({"dedup_key": format!("{name}-{}", n % 5), "title": name})),
            ),
            4 => (format!("GET {INCIDENTS}?page_size=100"), None),
            _ => ("GET /api/v1/events/stream".to_owned(), None),
        }
    }

    /// A client that does not stay. Answers the title of the incident when it was told that it is open.
    async fn come_and_go(&self, n: usize) -> Option<String> {
        let mut dice = Dice(n as u64);
        let (line, body) = self.request(&mut dice, n);
        let body_text = body.as_ref().map(Value::to_string).unwrap_or_default();
        let address = self.admin.base.trim_start_matches("http://");
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.admin.token,
            body_text.len()
        );
        let whole = [head.as_bytes(), body_text.as_bytes()].concat();
        let Ok(mut socket) = TcpStream::connect(address).await else { return None };
        // Half of them are torn off (RST), the others hang up (FIN).
        if dice.below(2) == 0 {
            socket.set_zero_linger().unwrap();
        }
        let upto = match dice.below(6) {
            0 => 1 + dice.below(head.len() as u64 - 1) as usize,
            1 => head.len() + dice.below(body_text.len() as u64 + 1) as usize,
            _ => whole.len(),
        };
        if socket.write_all(&whole[..upto]).await.is_err() || upto < whole.len() {
            return None;
        }
        let mut answer = vec![0; 64 * 1024];
        match dice.below(4) {
            0 => {}
            1 => tokio::time::sleep(Duration::from_millis(dice.below(60))).await,
            2 => {
                let _ =
                    tokio::time::timeout(Duration::from_millis(200), socket.read(&mut answer[..20])).await;
            }
            _ => {
                let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut answer)).await;
                if let Ok(Ok(read)) = read {
                    let is_open = answer[..read].starts_with(b"HTTP/1.1 201") && line.ends_with(INCIDENTS);
                    return is_open.then(|| body.unwrap()["title"].as_str().unwrap().to_owned());
                }
            }
        }
        None
    }

    async fn titles(&self) -> BTreeSet<String> {
        let all = self.admin.all(INCIDENTS).await;
        all.iter().map(|incident| incident["title"].as_str().unwrap().to_owned()).collect()
    }
}

async fn count(app: &App, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&mut app.db.owner().await).await.unwrap()
}

async fn until_none(app: &App, what: &str, sql: &'static str) {
    let begun = Instant::now();
    loop {
        let left = count(app, sql).await;
        if left == 0 {
            return;
        }
        assert!(begun.elapsed() < WAIT, "{left} {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn sockets(app: &App) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", app.process.pid())).unwrap().count()
}

/// Connections of the process's pool that are in use.
async fn used(app: &App) -> i64 {
    let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    let used =
        metrics.lines().find_map(|line| line.strip_prefix("relaydesk_db_pool_connections{state=\"used\"} "));
    used.expect("the gauge of the pool").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_leave_nothing_behind() {
    let many = if testkit::in_full() { 10_000 } else { 400 };
    let app = App::start().await;
    // Transactions take long enough for somebody to go away in the middle.
    sqlx::raw_sql(
        "create function linger() returns trigger language plpgsql as $$ begin perform pg_sleep(random() * 0.01); return null; end $$;
         create trigger linger after insert on events for each row execute function linger()",
    )
    .execute(&mut app.db.owner().await)
    .await
    .unwrap();
    let other = testkit::organization(&app.db, "globex").await;
    let stranger = app.client.with_token(&testkit::token(&app.db, &other.admin).await);
    let desks = [Desk::open("acme", app.client.clone()).await, Desk::open("globex", stranger).await];
    let before = sockets(&app);

    // Two who stay, and are answered all the time.
    let is_over = Arc::new(AtomicBool::new(false));
    let mut staying = JoinSet::new();
    for desk in desks.clone() {
        let is_over = is_over.clone();
        staying.spawn(async move {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let page = desk.admin.get(&format!("{INCIDENTS}?page_size=50")).await.expect(200);
                for incident in page["items"].as_array().unwrap() {
                    assert!(incident["title"].as_str().unwrap().starts_with(desk.name), "{incident}");
                }
                asked += 1;
            }
            asked
        });
    }
    let (mut storm, turns) = (JoinSet::new(), Arc::new(Semaphore::new(48)));
    for n in 0..many {
        let (desk, turns) = (desks[n % 2].clone(), turns.clone());
        storm.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            desk.come_and_go(n).await
        });
    }
    let told: BTreeSet<String> = storm.join_all().await.into_iter().flatten().collect();
    is_over.store(true, Ordering::Relaxed);
    let asked: usize = staying.join_all().await.into_iter().sum();

    // What was begun is ended, and nothing is held.
    until_none(
        &app,
        "jobs are still to be done",
        "select count(*) from queue.jobs where state in ('ready', 'limited') or state = 'scheduled' and attempt > 0",
    )
    .await;
    until_none(
        &app,
        "connections are left in a transaction",
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
           and (state like 'idle in transaction%' or state = 'active' and now() - xact_start > interval '5 seconds')",
    )
    .await;
    let begun = Instant::now();
    while used(&app).await > 0 || sockets(&app) > before + 16 {
        assert!(
            begun.elapsed() < WAIT,
            "{} connections of the pool in use, {} sockets of {before}",
            used(&app).await,
            sockets(&app)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // All connections of the pool work, each for whoever has it.
    let mut asking = JoinSet::new();
    for n in 0..60 {
        let desk = desks[n % 2].clone();
        asking.spawn(async move {
            (desk.name, desk.admin.get(&format!("{INCIDENTS}?page_size=200")).await.expect(200))
        });
    }
    for (name, page) in asking.join_all().await {
        let items = page["items"].as_array().unwrap();
        assert!(
            !items.is_empty() && items.iter().all(|item| item["title"].as_str().unwrap().starts_with(name)),
            "{name}"
        );
    }
    let (ours, theirs) = (desks[0].titles().await, desks[1].titles().await);
    let titles: BTreeSet<String> = ours.into_iter().chain(theirs).collect();
    let lost: Vec<_> = told.difference(&titles).collect();
    assert!(lost.is_empty(), "told to be open, and are not there: {lost:?}");
    // Whole or not at all.
    let halves = "select count(*) from tickets t where (select count(*) from events e where e.ticket_id = t.id and e.kind = 'incident.opened') <> 1";
    assert_eq!(count(&app, halves).await, 0, "incidents without their event, or with two");
    testkit::report(
        "clients that go away in the middle: the pool stays clean",
        &format!(
            "{many} requests of two tenants cut at random moments, {} of them read to the end",
            told.len()
        ),
        format!(
            "0 connections in a transaction or in use afterwards, 0 rows of others seen, {asked} requests beside them answered"
        ),
    );
    assert_eq!(app.process.terminate().await, Some(0));
}
