//! Reports, their schedules and executions from outside the router.

use crate::support::Api;
use serde_json::json;

const SCHEDULES: &str = "/api/v1/report-schedules";
const EXECUTIONS: &str = "/api/v1/report-executions";

#[tokio::test]
async fn a_report_is_asked_for_and_kept() {
    let api = Api::start().await;
    let listed = api.get("/api/v1/reports", &api.admin).await.expect(200).json;
    assert_eq!(listed["items"][0]["kind"], "incidents_and_sla");
    let body = json!({
        "kind": "incidents_and_sla", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z",
        "time_zone": "Europe/Berlin", "recipients": ["boss@acme.example"]
    });
    api.post("/api/v1/reports", &api.agent, body.clone()).await.expect(403);
    let started = api.post("/api/v1/reports", &api.admin, body.clone()).await.expect(202).json;
    let path = format!("{EXECUTIONS}/{}", started["execution"].as_str().unwrap());
    let execution = api.get(&path, &api.admin).await.expect(200).json;
    assert_eq!((&execution["status"], &execution["job"]), (&json!("queued"), &started["job"]));
    api.get(&format!("{path}/csv"), &api.admin).await.expect(404);
    assert_eq!(api.get(&format!("{EXECUTIONS}?status=queued"), &api.admin).await.json["items"][0], execution);
    api.get(&format!("{EXECUTIONS}?status=lost"), &api.admin).await.expect(422);

    for (field, value, pointer) in [
        ("to", json!("2026-11-01T00:00:00Z"), "/to"),
        ("time_zone", json!("Middle/Earth"), "/time_zone"),
        ("recipients", json!(["a@b.example", "nobody"]), "/recipients/1"),
        ("kind", json!("weather"), "/kind"),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value;
        let answer = api.post("/api/v1/reports", &api.admin, wrong).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn schedules_are_told_to_the_queue() {
    let api = Api::start().await;
    let body = json!({
        "name": "Every morning", "kind": "incidents_and_sla", "cron": "0 7 * * 1-5", "time_zone": "Europe/Berlin",
        "period": {"kind": "previous_day"}, "recipients": ["boss@acme.example"]
    });
    let created = api.post(SCHEDULES, &api.admin, body.clone()).await.expect(201).json;
    assert_eq!(created["period"], json!({"kind": "previous_day"}));
    let scheduled = async || -> i64 {
        let mut owner = api.test_db.owner().await;
        sqlx::query_scalar("select count(*) from queue.schedules where kind = 'start_scheduled_report'")
            .fetch_one(&mut owner)
            .await
            .unwrap()
    };
    assert_eq!(scheduled().await, 1);
    api.post(SCHEDULES, &api.admin, body.clone()).await.expect(409);
    for (field, value, pointer) in [
        ("cron", json!("every morning"), "/cron"),
        ("cron", json!("0 7 30 2 *"), "/cron"),
        ("time_zone", json!("Mars/Base"), "/time_zone"),
        ("period", json!({"kind": "last_n_days"}), "/period/count"),
        ("period", json!({"kind": "previous_day", "count": 2}), "/period/count"),
        ("recipients", json!([]), "/recipients"),
    ] {
        let mut wrong = body.clone();
        (wrong[field], wrong["name"]) = (value, "Other".into());
        let answer = api.post(SCHEDULES, &api.admin, wrong).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
    let path = format!("{SCHEDULES}/{}", created["id"].as_str().unwrap());
    let off = api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200).json;
    assert_eq!((&off["is_active"], scheduled().await), (&json!(false), 0));
    api.patch(
        &path,
        &api.admin,
        json!({"is_active": true, "period": {"kind": "last_n_minutes", "count": 5}}),
    )
    .await
    .expect(200);
    assert_eq!(scheduled().await, 1);
    api.delete(&path, &api.admin).await.expect(204);
    assert_eq!(scheduled().await, 0);
}

#[tokio::test]
async fn the_link_in_a_mail_needs_no_login_and_expires() {
    let api = Api::start().await;
    let body =
        json!({"kind": "incidents_and_sla", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"});
    let started = api.post("/api/v1/reports", &api.admin, body).await.expect(202).json;
    let id = started["execution"].as_str().unwrap().parse().unwrap();
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let token = actions::reports::offer_download(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    let fetch = async |token: &str| api.post("/downloads/reports", "", json!({"token": token})).await;
    fetch(&token).await.expect(404);
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    store::report_executions::finish(&mut tx, id, &Default::default(), b"number\r\n", 0).await.unwrap();
    tx.commit().await.unwrap();
    let file = fetch(&token).await.expect(200);
    assert_eq!(
        (file.text.as_str(), file.header("content-type")),
        ("number\r\n", "text/csv; charset=utf-8; header=present")
    );
    assert!(
        file.header("content-disposition")
            .starts_with("attachment; filename=\"incidents_and_sla_2026-11-01_")
    );
    let refused = fetch("rdl_wrong").await.expect(404);
    assert!(refused.json["detail"].as_str().unwrap().starts_with("no report has this link"));
    api.post("/downloads/reports", "", json!({"token": token, "x": 1})).await.expect(422);
    api.get(&format!("{EXECUTIONS}/{token}/csv"), "").await.expect(401);
    // Nobody gets around the body, nor takes the token for one that opens anything else.
    api.get(&format!("/downloads/reports/{token}"), "").await.expect(404);
    api.get(&format!("/downloads/reports?token={token}"), "").await.expect(405);
    api.get("/api/v1/users/me", &token).await.expect(401);

    let mut owner = api.test_db.owner().await;
    let set = async |owner: &mut sqlx::PgConnection, sql: &'static str| {
        sqlx::query(sql).execute(owner).await.unwrap();
    };
    set(&mut owner, "update organizations set suspended_at = now(), suspended_for = 'an unpaid bill'").await;
    let suspended = fetch(&token).await.expect(403);
    assert!(suspended.json["detail"].as_str().unwrap().contains("an unpaid bill"));
    set(&mut owner, "update organizations set suspended_at = null, suspended_for = null").await;
    fetch(&token).await.expect(200);
    set(&mut owner, "update report_executions set download_until = now() - interval '1 second'").await;
    let expired = fetch(&token).await.expect(410);
    assert!(expired.json["detail"].as_str().unwrap().contains("expired"));
}

/// As they were mailed with the token in the path.
#[tokio::test]
async fn links_that_are_out_go_on_leading_to_their_file() {
    let api = Api::start().await;
    let body =
        json!({"kind": "incidents_and_sla", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"});
    let started = api.post("/api/v1/reports", &api.admin, body).await.expect(202).json;
    let id = started["execution"].as_str().unwrap().parse().unwrap();
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let (hash, until) = (actions::credentials::hash_token("rdd_old"), tx.now() + chrono::TimeDelta::days(3));
    store::report_executions::allow_download(&mut tx, id, &hash, until).await.unwrap();
    store::report_executions::finish(&mut tx, id, &Default::default(), b"number\r\n", 0).await.unwrap();
    tx.commit().await.unwrap();
    let file = api.get("/downloads/reports/rdd_old", "").await.expect(200);
    assert_eq!(file.text, "number\r\n");
    assert!(!file.header("deprecation").is_empty() && !file.header("sunset").is_empty());
    api.get("/downloads/reports/rdd_wrong", "").await.expect(404);
}
