//! Story: an admin puts thousands of dead letters away with one request and watches it go, also over a lost connection. Nobody hears of
//! it who may not see jobs, or belongs to somebody else.

use serde_json::json;
use std::time::Duration;
use testkit::{App, Message};

const MANY: i64 = 2500;

fn is_of(message: &Message, job: &str) -> bool {
    message.event == "job.progress" && message.data["job"] == job
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_watches_a_long_job_and_comes_back_after_a_lost_connection() {
    let app = App::start().await;
    let other = testkit::organization(&app.db, "globex").await;
    let stranger = app.client.with_token(&testkit::token(&app.db, &other.admin).await);
    sqlx::query(
        "insert into queue.jobs (id, organization_id, due_at, state, max_attempts, lane, kind, args, died_of, last_error)
         select ('0190' || substr(md5(n::text), 1, 8) || '7' || substr(md5(n::text), 9, 3) || '8' || substr(md5(n::text), 12, 15))::uuid,
                $2, now(), 'dead', 3, 'maintenance', 'recompute_sla', '{}', 'gave_up', 'no'
         from generate_series(1, $1) n",
    )
    .bind(MANY)
    .bind(app.organization.id.0)
    .execute(&mut app.db.owner().await)
    .await
    .unwrap();
    let mut admin = app.client.follow(None).await;
    let (mut agent, mut globex) = (app.agent.follow(None).await, stranger.follow(None).await);

    let manage = json!({"action": "discard", "filter": {"kind": "recompute_sla"}, "reason": "not wanted"});
    let job = app.client.post("/api/v1/jobs/manage", manage).await.expect(202);
    let job = job["job"].as_str().unwrap().to_owned();
    let asked = admin.until(|message| message.event == "jobs.managing").await;
    let mut last = 0;
    let end = loop {
        let told = admin.until(|message| is_of(message, &job)).await;
        assert!(told.id.is_none() && told.data["kind"] == "manage_jobs", "{told:?}");
        if told.data["state"] == "done" {
            break told;
        }
        let jobs = told.data["progress"]["jobs"].as_i64().unwrap_or_default();
        assert!(jobs >= last, "{jobs} after {last}");
        last = jobs;
    };
    assert_eq!(end.data["result"], json!({"jobs": MANY}), "{end:?}");
    let shown = app.client.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    for field in ["state", "result", "progress", "attempt"] {
        assert_eq!(end.data[field], shown[field], "{field}");
    }

    // Back with the last position: the last word is told again.
    drop(admin);
    let mut admin = app.client.follow(asked.id.as_deref()).await;
    let again = admin.until(|message| is_of(message, &job)).await;
    assert_eq!((&again.data["state"], &again.data["result"]), (&json!("done"), &json!({"jobs": MANY})));

    // What comes next is heard by all who follow; what lies before it for them has no job in it.
    for (client, stream) in [(&app.client, &mut agent), (&stranger, &mut globex)] {
        client.post("/api/v1/teams", json!({"name": "after it"})).await.expect(201);
        stream
            .until(|message| {
                assert_ne!(message.event, "job.progress", "{message:?}");
                message.event == "team.created"
            })
            .await;
    }
    // Nor when they come back.
    let mut globex = stranger.follow(Some("0")).await;
    globex
        .until(|message| {
            assert_ne!(message.event, "job.progress", "{message:?}");
            message.event == "team.created"
        })
        .await;
    let silence = tokio::time::timeout(Duration::from_millis(600), globex.next()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_also_while_it_is_unknown_how_far_jobs_are() {
    let app = App::start().await;
    let mut admin = app.client.follow(None).await;
    let rename =
        |from: &str, to: &str| sqlx::AssertSqlSafe(format!("alter table queue.{from} rename to {to}"));
    sqlx::query(rename("news", "away")).execute(&mut app.db.owner().await).await.unwrap();
    for name in ["one", "two"] {
        app.client.post("/api/v1/teams", json!({"name": name})).await.expect(201);
        admin.until(|message| message.event == "team.created").await;
    }
    sqlx::query(rename("away", "news")).execute(&mut app.db.owner().await).await.unwrap();
    app.client.post("/api/v1/teams", json!({"name": "three"})).await.expect(201);
    admin.until(|message| message.event == "team.created").await;
}
