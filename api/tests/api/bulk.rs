//! Many incidents at once: what is refused before a job is made, and who sees what came of it.

use crate::support::Api;
use serde_json::{Value, json};

const BULK: &str = "/api/v1/incidents/bulk";

impl Api {
    async fn bulk(&self, token: &str, body: Value, status: u16) -> Value {
        self.post(BULK, token, body).await.expect(status).json
    }

    async fn some(&self, titles: &[&str]) -> Vec<Value> {
        let mut all = Vec::new();
        for title in titles {
            let new = json!({"title": title});
            all.push(self.post("/api/v1/incidents", &self.agent, new).await.expect(201).json);
        }
        all
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_begins() {
    let api = Api::start().await;
    let one = api.some(&["printer"]).await.remove(0);
    let ids = json!([one["number"]]);
    let stranger = uuid::Uuid::now_v7();
    for (body, pointer) in [
        (json!({"action": "close"}), "/ids"),
        (json!({"action": "close", "ids": ids, "filter": "open=true"}), "/ids"),
        (json!({"action": "close", "ids": []}), "/ids"),
        (json!({"action": "close", "ids": vec!["INC0000001"; 501]}), "/ids"),
        (json!({"action": "close", "ids": [one["id"], stranger]}), "/ids/1"),
        (json!({"action": "close", "ids": ["INC0000099"]}), "/ids/0"),
        (json!({"action": "close", "filter": ""}), "/filter"),
        (json!({"action": "close", "filter": "colour=red"}), "/filter"),
        (json!({"action": "close", "filter": "tag=%00"}), "/filter"),
        (json!({"action": "close", "filter": "cursor=x"}), "/filter"),
        (json!({"action": "explode", "ids": ids}), "/action"),
        (json!({"action": "assign", "ids": ids}), "/assignee"),
        (json!({"action": "assign", "ids": ids, "assignee": stranger}), "/assignee"),
        (json!({"action": "assign", "ids": ids, "assignee": "end-user@acme.example"}), "/assignee"),
        (json!({"action": "assign", "ids": ids, "team": stranger}), "/team"),
        (json!({"action": "resolve", "ids": ids}), "/resolution"),
        (json!({"action": "add_tags", "ids": ids}), "/tags"),
        (json!({"action": "add_tags", "ids": ids, "tags": ["ok", "a,b"]}), "/tags/1"),
        (json!({"action": "close", "ids": ids, "status": "closed"}), "/status"),
    ] {
        let answer = api.bulk(&api.agent, body.clone(), 422).await;
        assert_eq!(answer["errors"][0]["pointer"], pointer, "{body}: {answer}");
    }
    let jobs: i64 = sqlx::query_scalar("select count(*) from queue.jobs where kind = 'change_tickets'")
        .fetch_one(&mut api.test_db.owner().await)
        .await
        .unwrap();
    assert_eq!(jobs, 0);
}

#[tokio::test]
async fn a_filter_or_names_say_which() {
    let api = Api::start().await;
    let all = api.some(&["printer one", "printer two", "network"]).await;
    let count = async |which: Value| {
        let mut body = json!({"action": "add_tags", "tags": ["x"], "dry_run": true});
        body.as_object_mut().unwrap().extend(which.as_object().unwrap().clone());
        let answer = api.bulk(&api.agent, body, 200).await;
        assert!(answer["job"].is_null());
        answer["tickets"].as_u64().unwrap()
    };
    assert_eq!(count(json!({"filter": "q=printer&status=new"})).await, 2);
    assert_eq!(count(json!({"filter": "created_at[lt]=1990-01-01T00:00:00Z"})).await, 0);
    assert_eq!(count(json!({"ids": [all[0]["id"], all[0]["number"], all[2]["number"]]})).await, 2);
    assert_eq!(count(json!({"ids": ["inc0000002"]})).await, 1);
}

#[tokio::test]
async fn it_needs_the_permission_and_sight_of_each() {
    let api = Api::start().await;
    let all = api.some(&["one", "two"]).await;
    let ids = json!([all[0]["id"], all[1]["id"]]);
    api.bulk(&api.end_user, json!({"action": "close", "ids": ids}), 403).await;
    // Staff who may, but do not see this one.
    let path = format!("/api/v1/incidents/{}", all[1]["id"].as_str().unwrap());
    api.patch(&path, &api.admin, json!({"confidential": true})).await.expect(200);
    api.patch(&path, &api.admin, json!({"assignee": "admin@acme.example"})).await.expect(200);
    let other = json!({"email": "other@acme.example", "name": "Other", "role": "agent"});
    let other = api.post("/api/v1/users", &api.admin, other).await.expect(201).json;
    let other = api.token_of(&other["id"]).await;
    let answer = api.bulk(&other, json!({"action": "close", "ids": ids}), 422).await;
    assert_eq!(answer["errors"][0]["pointer"], "/ids/1");
    let seen = json!({"action": "close", "filter": "open=true", "dry_run": true});
    assert_eq!(api.bulk(&other, seen, 200).await["tickets"], 1);

    // The result is for who asked, and for who may see jobs.
    let begun = api.bulk(&other, json!({"action": "close", "ids": [all[0]["id"]]}), 202).await;
    let result = format!("{BULK}/{}", begun["job"].as_str().unwrap());
    let shown = api.get(&result, &other).await.expect(200).json;
    assert_eq!((&shown["tickets"], &shown["done"], &shown["items"]), (&json!(1), &json!(0), &json!([])));
    api.get(&result, &api.admin).await.expect(200);
    api.get(&result, &api.end_user).await.expect(404);
    // Another kind of job is none of these.
    let jobs = api.get("/api/v1/jobs?kind=react", &api.admin).await.expect(200).json;
    let job = jobs["items"][0]["id"].as_str().unwrap();
    api.get(&format!("{BULK}/{job}"), &api.admin).await.expect(404);
}
