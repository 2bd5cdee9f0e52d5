//! Story: a new version is rolled out. Its migrations have run; workers and an API of the version before go on beside the new ones,
//! under load, and one of each dies on the way. Nothing is lost, nothing is done twice.
//!
//! `script/two-versions` builds the version before and names it in `RELAYDESK_TEST_PREVIOUS`; without that there is nothing to test.

use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testkit::sinks::{Answer, HttpSink};
use testkit::{App, Client};

const EACH: usize = 200;
/// One of the doomed dies after each of the first.
const PARTS: usize = 4;

async fn open_incidents(client: Client, version: &str, from: usize, to: usize) {
    for n in from..to {
        let report = json!({"title": format!("{version} {n}"), "impact": "low", "urgency": "low"});
        client.post("/api/v1/incidents", report).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_works_beside_this_one() {
    #[expect(clippy::disallowed_methods, reason = "set by script/two-versions")]
    let Ok(previous) = std::env::var("RELAYDESK_TEST_PREVIOUS").map(PathBuf::from) else { return };
    // Five processes on one small server.
    let app = App::start_with(&[("RELAYDESK_DATABASE_CONNECTIONS", "4")]).await;
    let slack = HttpSink::start().await;
    slack.otherwise(Answer::status(200).body("ok"));
    let channel =
        json!({"kind": "slack", "name": "ops", "config": {"webhook_url": slack.url("/services/T/B/x")}});
    let channel = app.client.post("/api/v1/notification-channels", channel).await.expect(201);
    let rule = json!({"event": "incident.opened", "channel": channel["id"]});
    app.client.post("/api/v1/notification-rules", rule).await.expect(201);

    let old_worker = app.beside_as(&previous, &["worker"]).await;
    let doomed_old = app.beside_as(&previous, &["worker"]).await;
    let doomed_new = app.beside(&["worker"]).await;
    let old_api = app.beside_as(&previous, &["api"]).await;
    let mut old_client = app.agent.with_token(&app.agent.token);
    old_client.base.clone_from(&old_api.base);

    let mut doomed = vec![doomed_old, doomed_new];
    for part in 0..PARTS {
        let (from, to) = (part * EACH / PARTS, (part + 1) * EACH / PARTS);
        tokio::join!(
            open_incidents(app.agent.with_token(&app.agent.token), "new", from, to),
            open_incidents(old_client.with_token(&app.agent.token), "old", from, to),
        );
        // What they had claimed is left to the others.
        if let Some(worker) = doomed.pop() {
            worker.kill().await;
        }
    }

    let mut owner = app.db.owner().await;
    let begun = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from queue.jobs where state in ('ready', 'limited', 'suspended') or kind <> 'check_sla')
                  + (select count(*) from deliveries where status = 'pending')",
        )
        .fetch_one(&mut owner)
        .await
        .unwrap();
        if left == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{left} left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (what, sql, expected) in [
        ("incidents", "select count(*) from tickets", 2 * EACH as i64),
        ("dead letters", "select count(*) from queue.jobs where state = 'dead'", 0),
        ("jobs that ended twice", "select count(*) - count(distinct id) from queue.history", 0),
        (
            "events to which was not reacted exactly once",
            "select count(*) from events e where 1 <> (select count(*) from queue.history h
              where h.kind = 'react' and h.outcome = 'done' and h.args->>'event' = e.id::text)",
            0,
        ),
        (
            "incidents that were not told to the channel exactly once",
            "select count(*) from tickets t where 1 <> (select count(*) from deliveries d
              where d.ticket_id = t.id and d.channel = 'slack' and d.status = 'sent')",
            0,
        ),
    ] {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut owner).await.unwrap();
        assert_eq!(found, expected, "{what}");
    }
    let workers: i64 = sqlx::query_scalar("select count(distinct worker) from queue.history")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(workers >= 4, "{workers} processes had a part in it");
    drop((old_worker, old_api));
}
