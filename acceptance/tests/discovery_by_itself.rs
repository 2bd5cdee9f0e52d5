//! Story: an inventory is read by the clock, with a header that nobody gets to see again; and a run that died stops nobody.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::App;
use testkit::sinks::{Answer, HttpSink};

const SOURCES: &str = "/api/v1/discovery-sources";
const ITEMS: &str = "/api/v1/configuration-items";
const SECRET: &str = "Bearer s3cret-of-the-inventory";

fn path(source: &Value) -> String {
    format!("{SOURCES}/{}", source["id"].as_str().unwrap())
}

fn inventory(sink: &HttpSink) -> Value {
    json!({
        "name": "data centre", "format": "json", "location": sink.url("/hosts.json"), "identification_keys": ["serial"],
        "auth_header": {"name": "X-Inventory-Key", "value": SECRET},
    })
}

fn hosts() -> Answer {
    Answer::status(200).json(&json!([{"name": "db1", "serial": "S1"}, {"name": "db2", "serial": "S2"}]))
}

async fn ended(app: &App, source: &Value, run: &Value) -> Value {
    let path = format!("{}/runs/{}", path(source), run.as_str().unwrap());
    app.client.until(&path, |run| ["succeeded", "failed"].contains(&run["status"].as_str().unwrap())).await
}

/// The next minute that leaves time to ask for it, and the cron expression of it in a zone that is no whole hours off.
async fn a_moment(app: &App) -> (DateTime<Utc>, String) {
    sqlx::query_as(
        "with due as (select date_trunc('minute', now() + interval '65 seconds') as at)
         select at, to_char(at at time zone 'Asia/Kolkata', 'FMMI FMHH24 FMDD FMMM') || ' *' from due",
    )
    .fetch_one(&mut app.db.owner().await)
    .await
    .unwrap()
}

/// The shortest rhythm of cron is a minute, so this takes up to one.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_read_at_its_moment_and_keeps_its_secret() {
    let app = App::start().await;
    let sink = HttpSink::start().await;
    sink.otherwise(hosts());
    let source = app.client.post(SOURCES, inventory(&sink)).await.expect(201);
    let masked = json!({"name": "X-Inventory-Key", "value": domain::MASK});
    let path = path(&source);

    // A schedule that is wrong is refused, one that is right is taken; neither shows or loses the header.
    let wrong = app.client.patch(&path, json!({"schedule": "at noon"})).await.expect(422);
    assert_eq!(wrong["errors"][0]["pointer"], "/schedule");
    let (due, cron) = a_moment(&app).await;
    let by_the_clock = json!({"schedule": cron, "time_zone": "Asia/Kolkata"});
    let scheduled = app.client.patch(&path, by_the_clock).await.expect(200);

    // Whoever fetches it and sends it back as it was shown changes nothing of it.
    let shown = app.client.get(&path).await;
    let etag = shown.headers["etag"].clone();
    let mut body = shown.expect(200);
    let listed = app.client.get(SOURCES).await.expect(200);
    for seen in [&source, &scheduled, &body, &listed["items"][0]] {
        assert_eq!(seen["auth_header"], masked);
        assert!(!seen.to_string().contains("s3cret"), "{seen}");
    }
    for derived in ["id", "created_at", "updated_at"] {
        body.as_object_mut().unwrap().remove(derived);
    }
    body["name"] = json!("data centre west");
    let request = app.client.request(Method::PATCH, &path).header("if-match", etag).json(&body);
    let changed = app.client.send(request).await.expect(200);
    assert_eq!((&changed["auth_header"], &changed["name"]), (&masked, &json!("data centre west")));
    // But not to be sent to somebody else.
    let elsewhere = json!({"location": "http://elsewhere.example/hosts.json", "auth_header": masked});
    let refused = app.client.patch(&path, elsewhere).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/auth_header/value");
    let refused =
        app.client.patch(&path, json!({"location": "http://elsewhere.example/hosts.json"})).await.expect(422);
    assert!(!refused.to_string().contains("s3cret"), "{refused}");

    let requests = sink.wait_for(1, Duration::from_secs(100)).await;
    assert_eq!(requests[0].header("x-inventory-key"), Some(SECRET));
    let runs =
        app.client.until(&format!("{path}/runs"), |runs| runs["items"][0]["status"] == "succeeded").await;
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    let run = &runs["items"][0];
    assert_eq!((&run["mode"], &run["counts"]["created"]), (&json!("run"), &json!(2)));
    let created: DateTime<Utc> = run["created_at"].as_str().unwrap().parse().unwrap();
    assert!(created >= due && created < due + TimeDelta::seconds(20), "due at {due}, made at {created}");
    assert_eq!(app.agent.all(ITEMS).await.len(), 2);
    let asked = app.client.get("/api/v1/jobs?kind=start_discovery").await.expect(200);
    assert_eq!(asked["items"].as_array().unwrap().len(), 1);
    let job: DateTime<Utc> = asked["items"][0]["due_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(job, due, "the tick itself");

    // Null takes the header away; then none is sent.
    let without = app.client.patch(&path, json!({"auth_header": null, "schedule": null})).await.expect(200);
    assert_eq!((&without["auth_header"], &without["schedule"]), (&json!(null), &json!(null)));
    let started = app.client.post(&format!("{path}/run"), json!({})).await.expect(202);
    assert_eq!(ended(&app, &source, &started["run"]).await["counts"]["unchanged"], 2);
    assert_eq!(sink.requests()[1].header("x-inventory-key"), None);
    let schedules: i64 =
        sqlx::query_scalar("select count(*) from queue.schedules where kind = 'start_discovery'")
            .fetch_one(&mut app.db.owner().await)
            .await
            .unwrap();
    assert_eq!(schedules, 0);
}

/// The worker is killed in the middle of a run that has no further attempt: its job becomes a dead letter when its lease
/// has run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_job_died_gives_way_to_the_next() {
    let others = "ingest=1,react=1,timers=1,outbound=1,reports=1,maintenance=1";
    let app = App::start_with(&[("RELAYDESK_LANES", others)]).await;
    let sink = HttpSink::start().await;
    let source = app.client.post(SOURCES, inventory(&sink)).await.expect(201);
    let path = path(&source);
    let run = async || app.client.post(&format!("{path}/run"), json!({})).await;

    let died = run().await.expect(202);
    sqlx::query("update queue.jobs set max_attempts = 1 where kind = 'run_discovery'")
        .execute(&mut app.db.owner().await)
        .await
        .unwrap();
    sink.script([hosts().after(Duration::from_secs(600))]);
    sink.otherwise(hosts());
    let worker = app.beside(&["worker", "--lanes", "discovery"]).await;
    sink.wait_for(1, Duration::from_secs(30)).await;
    worker.kill().await;
    let busy = run().await.expect(409);
    assert!(busy["detail"].as_str().unwrap().contains(died["run"].as_str().unwrap()), "{busy}");
    let job = format!("/api/v1/jobs/{}", died["job"].as_str().unwrap());
    app.client.until(&job, |job| job["state"] == "dead").await;

    let next = run().await.expect(202);
    let given_up = ended(&app, &source, &died["run"]).await;
    assert_eq!(given_up["status"], "failed");
    let why = given_up["error"].as_str().unwrap();
    assert!(why.contains("dead") && why.contains("worker was lost"), "{why}");
    // The next is a run like any other: it is under way, and nobody else's turn.
    assert_eq!(run().await.status, 409);
    // Reviving the dead letter does not bring its run back.
    app.client.post(&format!("{job}/retry"), json!({})).await;
    let _worker = app.beside(&["worker", "--lanes", "discovery"]).await;
    let done = ended(&app, &source, &next["run"]).await;
    assert_eq!((&done["status"], &done["counts"]["created"]), (&json!("succeeded"), &json!(2)));
    let revived = app.client.until(&job, |job| job["state"] == "cancelled").await;
    assert!(revived["error"].as_str().unwrap().contains("failed already"), "{revived}");
    assert_eq!(sink.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_gives_way_to_the_next_tick() {
    let app = App::start().await;
    let sink = HttpSink::start().await;
    sink.script([hosts().after(Duration::from_secs(600))]);
    sink.otherwise(hosts());
    let source = app.client.post(SOURCES, inventory(&sink)).await.expect(201);
    let preview = format!("{}/preview", path(&source));
    let stopped = app.client.post(&preview, json!({})).await.expect(202);
    sink.wait_for(1, Duration::from_secs(30)).await;
    app.client.post(&preview, json!({})).await.expect(409);
    let job = format!("/api/v1/jobs/{}", stopped["job"].as_str().unwrap());
    assert!(app.client.post(&format!("{job}/cancel"), json!({})).await.status.is_success());
    app.client.until(&job, |job| job["state"] == "cancelled").await;

    // What the schedule asks for at its tick.
    let tick = json!({"source": source["id"]});
    sqlx::query(
        "insert into queue.jobs (id, organization_id, due_at, state, max_attempts, lane, kind, args)
         values ($1, $2, now(), 'ready', 3, 'discovery', 'start_discovery', $3)",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(app.organization.id.0)
    .bind(tick)
    .execute(&mut app.db.owner().await)
    .await
    .unwrap();
    let runs = format!("{}/runs", path(&source));
    let listed = app.client.until(&runs, |runs| runs["items"][0]["status"] == "succeeded").await;
    let items = listed["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[1]["id"]), (2, &stopped["run"]));
    assert_eq!(items[1]["status"], "failed");
    assert!(items[1]["error"].as_str().unwrap().contains("cancelled"), "{}", items[1]);
}
