//! Story: a faulty script has asked for work with arguments that nobody can read. An operator finds the dead letters, mends one on the
//! command line and one over the API, and puts the others away with one request; the log says who did what and why.

use serde_json::{Value, json};
use std::process::Output;
use testkit::App;

const JOBS: &str = "/api/v1/jobs";

/// Jobs of the organization as that script writes them.
async fn enqueue(app: &App, how_many: i32) {
    sqlx::query(
        "insert into queue.jobs (id, organization_id, due_at, state, max_attempts, lane, kind, args)
         select ('0190' || substr(md5(n::text), 1, 8) || '7' || substr(md5(n::text), 9, 3) || '8' || substr(md5(n::text), 12, 15))::uuid,
                $2, now(), 'ready', 3, 'maintenance', 'recompute_sla', '{\"after\": \"INC0000001\"}'
         from generate_series(1, $1) n",
    )
    .bind(how_many)
    .bind(app.organization.id.0)
    .execute(&mut app.db.owner().await)
    .await
    .unwrap();
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn events(app: &App, kind: &str) -> Vec<Value> {
    sqlx::query_scalar("select payload from events where kind = $1 order by seq")
        .bind(kind)
        .fetch_all(&mut app.db.owner().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_mends_some_dead_letters_and_puts_the_others_away() {
    let app = App::start().await;
    enqueue(&app, 40).await;
    let dead = "/api/v1/jobs?state=dead&kind=recompute_sla&reason=undecodable&error=cannot%20be%20decoded";
    let found = app.client.until(dead, |page| page["items"].as_array().unwrap().len() == 40).await;
    let id = |n: usize| found["items"][n]["id"].as_str().unwrap().to_owned();

    // On the command line: found, tried with arguments that are no better, mended.
    let list = [
        "jobs",
        "list",
        "--state",
        "dead",
        "--error",
        "DECODED",
        "--since",
        "1h",
        "--organization",
        "acme",
        "--json",
    ];
    let listed: Value = serde_json::from_str(&said(&app.run(&list).await)).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 40);
    let first = id(0);
    let wrong = app.run(&["jobs", "retry", &first, "--args", "{\"after\": 7}"]).await;
    assert!(!wrong.status.success());
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(error.contains("recompute_sla cannot read these arguments"), "{error}");
    said(
        &app.run(&["jobs", "retry", &first, "--args", "{\"after\": null}", "--because", "a ticket's id"])
            .await,
    );
    let job = app.client.until(&format!("{JOBS}/{first}"), |job| job["state"] == "done").await;
    let edited = &job["attempts"][1];
    assert_eq!((&edited["outcome"], &edited["error"]), (&json!("edited"), &json!("a ticket's id")), "{job}");
    assert_eq!(edited["args"], json!({"after": "INC0000001"}));
    assert!(job["queue_wait_ms"].is_i64() && job["attempts"][2]["outcome"] == "done", "{job}");
    let shown = said(&app.run(&["jobs", "show", &first]).await);
    assert!(shown.contains("edited by relaydesk jobs: a ticket's id; the arguments were"), "{shown}");

    // Over the API: the same rules.
    let second = format!("{JOBS}/{}/retry", id(1));
    let wrong = app.client.post(&second, json!({"args": {"before": "x"}})).await.expect(422);
    assert_eq!(wrong["errors"][0]["pointer"], "/args", "{wrong}");
    app.client.post(&second, json!({"args": {"after": null}, "reason": "a ticket's id"})).await.expect(204);
    app.client.until(&format!("{JOBS}/{}", id(1)), |job| job["state"] == "done").await;

    // All of them: first counted, then done by a job.
    let filter = json!({"kind": "recompute_sla", "reason": "undecodable"});
    let some = said(&app.run(&["jobs", "discard", "--all", "--kind", "recompute_sla", "--dry-run"]).await);
    assert_eq!(some.trim(), "38 jobs would be discarded");
    let manage = json!({"action": "discard", "filter": filter, "reason": "the script was wrong"});
    app.agent.post("/api/v1/jobs/manage", manage.clone()).await.expect(403);
    let mut dry = manage.clone();
    dry["dry_run"] = json!(true);
    let counted = app.client.post("/api/v1/jobs/manage", dry).await.expect(200);
    assert_eq!(counted, json!({"jobs": 38, "more": false}));
    let nonsense = json!({"action": "discard", "filter": {"state": "ready"}});
    app.client.post("/api/v1/jobs/manage", nonsense).await.expect(422);
    let managing = app.client.post("/api/v1/jobs/manage", manage).await.expect(202);
    let managing = format!("{JOBS}/{}", managing["job"].as_str().unwrap());
    let done = app.client.until(&managing, |job| job["state"] == "done").await;
    assert_eq!(done["result"], json!({"jobs": 38}));
    assert_eq!(app.client.all(dead).await.len(), 0);
    assert_eq!(app.client.all("/api/v1/jobs?state=discarded").await.len(), 38);

    let asked = events(&app, "jobs.managing").await;
    assert_eq!((asked.len(), &asked[0]["reason"]), (1, &json!("the script was wrong")));
    let told = events(&app, "jobs.discarded").await;
    assert_eq!((told.len(), &told[0]["jobs"]), (1, &json!(38)), "{told:?}");
    assert_eq!(events(&app, "job.retried").await.len(), 2);
}
