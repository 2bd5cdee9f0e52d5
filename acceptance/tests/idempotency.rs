//! Story: a client's network stutters, and the same request comes a thousand times at once. It is done once, and nobody else notices.

use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::{Answer, App};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const INCIDENTS: &str = "/api/v1/incidents";
const MANY: usize = 1_000;

fn is_problem(answer: &Answer, which: &str) -> bool {
    answer.body["type"] == format!("https://relaydesk.dev/problems/idempotency-{which}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_with_one_key_make_one_object() {
    let app = App::start_with(&[("RELAYDESK_DATABASE_CONNECTIONS", "30")]).await;
    let all_at_once = Arc::new(Barrier::new(MANY));
    let mut posts = JoinSet::new();
    for _ in 0..MANY {
        let (client, all_at_once) = (app.agent.clone(), all_at_once.clone());
        posts.spawn(async move {
            all_at_once.wait().await;
            let body = json!({"title": "printer on fire"});
            let request = client.request(reqwest::Method::POST, INCIDENTS).header("Idempotency-Key", "once");
            client.send(request.json(&body)).await
        });
    }
    let (mut statuses, mut ids, mut firsts) = (BTreeMap::new(), BTreeMap::new(), 0);
    for answer in posts.join_all().await {
        *statuses.entry(answer.status.as_u16()).or_insert(0) += 1;
        match answer.status.as_u16() {
            201 => {
                firsts += usize::from(!answer.headers.contains_key("idempotent-replayed"));
                *ids.entry(answer.body["id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
            409 => {
                // While it runs; and when its answer could not be written down in the crowd.
                let is_told =
                    is_problem(&answer, "in-progress") && answer.headers.contains_key("retry-after");
                assert!(is_told || is_problem(&answer, "answer-lost"), "{}", answer.body);
            }
            // Too much at once for thirty connections: told so, and nothing was done.
            503 => assert_eq!(answer.body["type"], "https://relaydesk.dev/problems/unavailable"),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert_eq!((ids.len(), firsts), (1, 1), "{statuses:?} {ids:?}");
    assert_eq!(app.client.all(INCIDENTS).await.len(), 1);

    // Afterwards: the same answer to the same request, 422 to another one.
    let with_key = |body| {
        app.agent.request(reqwest::Method::POST, INCIDENTS).header("Idempotency-Key", "once").json(&body)
    };
    let again = app.agent.send(with_key(json!({"title": "printer on fire"}))).await;
    if is_problem(&again, "answer-lost") {
        let place = again.headers["location"].to_str().unwrap();
        assert!(ids.keys().any(|id| place.ends_with(id)), "{place}");
    } else {
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert!(ids.contains_key(again.expect(201)["id"].as_str().unwrap()));
    }
    let other = app.agent.send(with_key(json!({"title": "another printer"}))).await.expect(422);
    assert_eq!(other["type"], "https://relaydesk.dev/problems/idempotency-key-reused");

    // The server is well, and no connection is left with anything.
    app.client.get("/readyz").await.expect(200);
    app.client.post(INCIDENTS, json!({"title": "another"})).await.expect(201);
    let held = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                and (state like 'idle in transaction%' or wait_event_type = 'Lock')";
    let mut owner = app.db.owner().await;
    let begin = std::time::Instant::now();
    loop {
        let held: i64 = sqlx::query_scalar(held).fetch_one(&mut owner).await.unwrap();
        if held == 0 {
            break;
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{held} connections are held");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    testkit::report(
        "one idempotency key, a thousand posts at once",
        &format!("{statuses:?}"),
        "one incident",
    );
    assert_eq!(app.process.terminate().await, Some(0));
}
