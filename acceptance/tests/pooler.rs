//! Story: a company puts PgBouncer between Relaydesk and PostgreSQL, in transaction mode and with two sessions only. Everything works as before,
//! no tenant sees another one's rows, and whoever forgets the second address is told so.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::sinks::{Answer, HttpSink};
use testkit::{App, Client, Pooler, TestDb};
use tokio::task::JoinSet;

const INCIDENTS: &str = "/api/v1/incidents";
const WAIT: Duration = Duration::from_secs(60);

/// Channel, rule, mailbox and alert source. Answers the path of the hook.
async fn furnish(desk: &Client, slack: &HttpSink, support: &str) -> String {
    let channel =
        json!({"kind": "slack", "name": "slack", "config": {"webhook_url": slack.url("/services/T/B/x")}});
    let channel = desk.post("/api/v1/notification-channels", channel).await.expect(201);
    let rule = json!({"event": "incident.opened", "channel": channel["id"]});
    desk.post("/api/v1/notification-rules", rule).await.expect(201);
    desk.post("/api/v1/mailboxes", json!({"address": support, "name": "support"})).await.expect(201);
    let source =
        desk.post("/api/v1/alert-sources", json!({"kind": "generic", "name": "probe"})).await.expect(201);
    format!("/hooks/generic/{}", source["token"].as_str().unwrap())
}

/// Asks through the pooler, on whatever session it gives, again and again: no session has anybody's rows in view.
async fn look_for_leftovers(url: String, is_over: Arc<AtomicBool>) -> (usize, usize) {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut connection =
        PgConnection::connect_with(&options.extra_float_digits(None).statement_cache_capacity(0))
            .await
            .unwrap();
    let (mut looks, mut sessions) = (0, std::collections::BTreeSet::new());
    while !is_over.load(Ordering::Relaxed) {
        // One message, so one session answers all of it.
        let row = sqlx::raw_sql(
            "select coalesce(current_setting('app.organization_id', true), '') || coalesce(current_setting('app.system', true), '') \
                    || coalesce(current_setting('app.presented_key', true), '') as scope, current_setting('lock_timeout') as bounds, \
                    (select count(*) from tickets)::text as seen, pg_backend_pid()::text as session",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        let text = |name: &str| row.get::<String, _>(name);
        assert_eq!((text("scope"), text("bounds"), text("seen")), (String::new(), "0".into(), "0".into()));
        sessions.insert(text("session"));
        looks += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (looks, sessions.len())
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler_with_two_sessions() {
    if !testkit::has_pooler() {
        return;
    }
    let db = testkit::database().await;
    let pooler = Pooler::start(&db, 2, &[]).await;
    let direct = db.app_url.clone();
    let app =
        App::start_on(db, &[("DATABASE_URL", &pooler.url), ("RELAYDESK_DATABASE_DIRECT_URL", &direct)]).await;
    let globex = testkit::organization(&app.db, "globex").await;
    let stranger = app.client.with_token(&testkit::token(&app.db, &globex.admin).await);
    let (slack, others) = (HttpSink::start().await, HttpSink::start().await);
    for sink in [&slack, &others] {
        sink.otherwise(Answer::status(200).body("ok"));
    }
    let hook = furnish(&app.client, &slack, "support@acme.example").await;
    let their_hook = furnish(&stranger, &others, "support@globex.example").await;
    let mut stream = app.client.follow(None).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let leftovers = tokio::spawn(look_for_leftovers(pooler.url.clone(), is_over.clone()));

    // Mails, alerts and people, of both tenants at once, many more than there are sessions.
    let mut busy = JoinSet::new();
    for n in 0..10 {
        for (name, desk, hook) in
            [("acme", app.client.clone(), hook.clone()), ("globex", stranger.clone(), their_hook.clone())]
        {
            let smtp = app.smtp;
            busy.spawn(async move {
                let to = format!("support@{name}.example");
                let (from, subject) = (format!("eve{n}@kunde.example"), format!("{name} mail {n}"));
                testkit::send_mail(smtp, &from, &to, &subject, "hello").await;
                let alert = json!({"dedup_key": format!("{n}"), "title": format!("{name} alert {n}")});
                desk.post(&hook, alert).await.expect(202);
                let opened =
                    desk.post(INCIDENTS, json!({"title": format!("{name} call {n}")})).await.expect(201);
                let number = opened["number"].as_str().unwrap();
                let comment = json!({"body": format!("{name} {n}"), "visibility": "public"});
                desk.post(&format!("{INCIDENTS}/{number}/comments"), comment).await.expect(201);
                for item in desk.all(INCIDENTS).await {
                    assert!(item["title"].as_str().unwrap().starts_with(name), "{item}");
                }
            });
        }
    }
    busy.join_all().await;
    for (desk, sink, name) in [(&app.client, &slack, "acme"), (&stranger, &others, "globex")] {
        let full = |page: &Value| page["items"].as_array().unwrap().len() == 30;
        let page = desk.until(&format!("{INCIDENTS}?page_size=200"), full).await;
        assert!(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|item| item["title"].as_str().unwrap().starts_with(name))
        );
        let messages = sink.wait_for(30, WAIT).await;
        assert!(messages.iter().all(|message| message.json()["text"].as_str().unwrap().contains(name)));
    }
    // The stream told of each of them, once, and of nobody else's.
    for _ in 0..30 {
        let told = stream.until(|message| message.event == "incident.opened").await;
        let ticket = format!("{INCIDENTS}/{}", told.data["ticket"].as_str().unwrap());
        assert!(app.client.get(&ticket).await.expect(200)["title"].as_str().unwrap().starts_with("acme"));
    }

    // The command line goes the same way.
    let lanes: Value = serde_json::from_str(&said(&app.run(&["lanes", "list", "--json"]).await)).unwrap();
    assert!(lanes.as_array().unwrap().iter().any(|lane| lane["name"] == "outbound"), "{lanes}");
    let list = ["jobs", "list", "--state", "done", "--organization", "acme", "--kind", "react", "--json"];
    let jobs: Value = serde_json::from_str(&said(&app.run(&list).await)).unwrap();
    let job = jobs[0]["id"].as_str().unwrap().to_owned();
    assert!(said(&app.run(&["jobs", "show", &job]).await).contains("react"));
    assert!(said(&app.run(&["tenants", "weight", "globex", "2"]).await).contains("globex"));
    let none = said(&app.run(&["jobs", "retry", "--all", "--kind", "react", "--because", "a test"]).await);
    assert_eq!(none.trim(), "0 jobs are retried");
    let doctor = app.run(&["doctor"]).await;
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains("ok    database without the pooler") && doctor.contains("ok    vacuum"),
        "{doctor}"
    );

    let migrate = app.run(&["migrate"]).await;
    let why = String::from_utf8_lossy(&migrate.stderr).into_owned();
    assert!(!migrate.status.success() && why.contains("leads to a pooler"), "{why}");

    is_over.store(true, Ordering::Relaxed);
    let (looks, sessions) = leftovers.await.unwrap();
    // One that a client has left in the middle of a transaction is ended and another made.
    assert!(looks > 50 && sessions > 0, "{looks} looks at {sessions} sessions");
    // The program goes on meanwhile: transactions come and go, and none stays.
    let sessions = "select count(*), count(*) filter (where state like 'idle in transaction%' \
                                                       and state_change < clock_timestamp() - interval '5 seconds') \
                    from pg_stat_activity where usename = $1";
    let begun = Instant::now();
    loop {
        let (all, stuck): (i64, i64) =
            sqlx::query_as(sessions).bind(&pooler.role).fetch_one(&mut app.db.owner().await).await.unwrap();
        if (1..=2).contains(&all) && stuck == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{all} sessions, {stuck} left in a transaction");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = std::fs::read_to_string(app.folder.path().join("relaydesk.log")).unwrap();
    assert!(!log.contains("prepared statement"), "{log}");
    assert_eq!(app.process.terminate().await, Some(0));
}

/// `relaydesk serve` with these addresses, which ends at once and says why.
async fn refused(database: &str, direct: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(testkit::executable());
    command
        .arg("serve")
        .env("DATABASE_URL", database)
        .env("RELAYDESK_HTTP_LISTEN", "127.0.0.1:0")
        .env("RELAYDESK_JWT_SECRET", "a secret for tests that is long enough")
        .current_dir(folder.path())
        .kill_on_drop(true);
    if let Some(direct) = direct {
        command.env("RELAYDESK_DATABASE_DIRECT_URL", direct);
    }
    let ended = tokio::time::timeout(WAIT, command.output()).await.expect("it ends by itself").unwrap();
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_where_the_server_should_be_is_found_out_at_the_start() {
    if !testkit::has_pooler() {
        return;
    }
    let db: TestDb = testkit::database().await;
    let strict = Pooler::start(&db, 2, &[]).await;
    let lenient = Pooler::start(&db, 2, &["ignore_startup_parameters = extra_float_digits,options"]).await;
    for pooler in [&strict, &lenient] {
        for direct in [None, Some(pooler.url.as_str())] {
            let error = refused(&pooler.url, direct).await;
            assert!(
                error.contains("goes through a pooler") && error.contains("RELAYDESK_DATABASE_DIRECT_URL"),
                "{error}"
            );
        }
    }
    let other = testkit::database().await;
    let error = refused(&strict.url, Some(&other.app_url)).await;
    assert!(error.contains("both must lead to one database") && !error.contains("@"), "{error}");
}
