//! Policies, calendars, chains, breaches.

use crate::support::{Api, request};
use axum::http::{Method, header};
use serde_json::json;

fn office() -> serde_json::Value {
    let windows: Vec<_> = ["monday", "tuesday", "wednesday", "thursday", "friday"]
        .into_iter()
        .flat_map(|day| {
            [
                json!({"weekday": day, "opens": "08:00", "closes": "12:00"}),
                json!({"weekday": day, "opens": "13:00", "closes": "17:00"}),
            ]
        })
        .collect();
    json!({"name": "Office", "time_zone": "Europe/Berlin", "windows": windows,
           "holidays": [{"date": "2026-12-25", "name": "Christmas Day"}]})
}

#[tokio::test]
async fn a_calendar_can_be_tried() {
    let api = Api::start().await;
    let made = api.post("/api/v1/business-calendars", &api.admin, office()).await.expect(201);
    let path = format!("/api/v1/business-calendars/{}", made.json["id"].as_str().unwrap());
    assert_eq!(made.json["windows"][0], json!({"weekday": "monday", "opens": "08:00", "closes": "12:00"}));
    let calculation = json!({"start": "2026-12-24T15:00:00Z", "seconds": 7200});
    let due = api.post(&format!("{path}/calculate"), &api.agent, calculation).await.expect(200);
    let expected = json!({"due_at": "2026-12-28T08:00:00Z", "due_local": "2026-12-28T09:00:00+01:00", "open_at_start": true});
    assert_eq!(due.json, expected);
    // A change with the tag of an earlier version is refused.
    let patch = json!({"holidays": []});
    let mut stale = request(Method::PATCH, &path, &api.admin, Some(patch.clone()));
    stale.headers_mut().insert(header::IF_MATCH, "\"7\"".parse().unwrap());
    api.send(stale).await.expect(412);
    let changed = api.patch(&path, &api.admin, patch).await.expect(200);
    assert_eq!((&changed.json["version"], changed.header("etag")), (&json!(2), "\"2\""));
    assert_eq!(changed.json["windows"], made.json["windows"]);
    api.post("/api/v1/business-calendars", &api.admin, office()).await.expect(409);
    api.delete(&path, &api.agent).await.expect(403);
    api.delete(&path, &api.admin).await.expect(204);
    api.get(&path, &api.admin).await.expect(404);
}

#[tokio::test]
async fn wrong_hours_are_pointed_at() {
    let api = Api::start().await;
    let mut body = office();
    body["windows"][3]["closes"] = json!("24:30");
    let refused = api.post("/api/v1/business-calendars", &api.admin, body).await.expect(422);
    assert_eq!(refused.json["errors"][0]["pointer"], "/windows/3/closes");
    let mut body = office();
    body["time_zone"] = json!("Mars/Olympus");
    let refused = api.post("/api/v1/business-calendars", &api.admin, body).await.expect(422);
    assert_eq!(refused.json["errors"][0]["pointer"], "/time_zone");
}

#[tokio::test]
async fn policies_are_made_changed_and_listed_in_the_order_in_which_they_are_asked() {
    let api = Api::start().await;
    let targets = json!([{"priority": "high", "first_response_seconds": 900, "resolution_seconds": 14400}]);
    let make = async |body: serde_json::Value| {
        api.post("/api/v1/sla-policies", &api.admin, body).await.expect(201).json
    };
    let default =
        make(json!({"name": "Standard", "is_default": true, "position": 1, "targets": targets})).await;
    assert_eq!((&default["warn_percent"], &default["calendar"]), (&json!(80), &json!(null)));
    make(json!({"name": "Later", "position": 9, "targets": targets, "conditions": {"source": ["alert"]}}))
        .await;
    make(json!({"name": "Earlier", "position": 3, "targets": targets, "conditions": {"priority": ["critical"]}})).await;
    let names = |list: &serde_json::Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = api.get("/api/v1/sla-policies?page_size=2", &api.agent).await.expect(200).json;
    assert_eq!(names(&first), ["Earlier", "Later"]);
    let next = format!("/api/v1/sla-policies?page_size=2&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(names(&api.get(&next, &api.agent).await.expect(200).json), ["Standard"]);
    let path = format!("/api/v1/sla-policies/{}", default["id"].as_str().unwrap());
    let changed = api
        .patch(&path, &api.admin, json!({"warn_percent": null, "description": "for all"}))
        .await
        .expect(200);
    assert_eq!(
        (&changed.json["warn_percent"], &changed.json["targets"]),
        (&json!(null), &default["targets"])
    );
    for (body, pointer) in [
        (
            json!({"targets": [{"priority": "high", "resolution_seconds": 0}]}),
            "/targets/0/resolution_seconds",
        ),
        (json!({"targets": [{"priority": "urgent"}]}), "/targets/0/priority"),
        (json!({"conditions": {"colour": ["red"]}}), "/conditions/colour"),
        (json!({"calendar": "0190a6a0-0000-7000-8000-000000000000"}), "/calendar"),
    ] {
        let refused = api.patch(&path, &api.admin, body).await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    api.get(&path, &api.end_user).await.expect(403);
    api.delete(&path, &api.admin).await.expect(204);
}

#[tokio::test]
async fn chains_are_checked_step_by_step_and_an_incident_shows_its_clocks() {
    let api = Api::start().await;
    let chain = json!({"name": "call", "steps": [{"action": "raise_priority"}, {"action": "notify_manager", "after_seconds": 900}]});
    let made = api.post("/api/v1/escalation-chains", &api.admin, chain).await.expect(201);
    assert_eq!(made.json["steps"][1], json!({"action": "notify_manager", "after_seconds": 900}));
    let path = format!("/api/v1/escalation-chains/{}", made.json["id"].as_str().unwrap());
    let nobody =
        json!({"steps": [{"action": "assign_team", "team": "0190a6a0-0000-7000-8000-000000000000"}]});
    let refused = api.patch(&path, &api.admin, nobody).await.expect(422);
    assert_eq!(refused.json["errors"][0]["pointer"], "/steps/0/team");
    let policy = json!({"name": "Standard", "is_default": true, "breach_chain": made.json["id"],
        "targets": [{"priority": "medium", "resolution_seconds": 3600}]});
    api.post("/api/v1/sla-policies", &api.admin, policy).await.expect(201);
    api.delete(&path, &api.admin).await.expect(409);
    let incident = json!({"title": "no network", "impact": "medium", "urgency": "medium"});
    let incident = api.post("/api/v1/incidents", &api.agent, incident).await.expect(201).json;
    assert_eq!(incident["sla"]["resolution"]["target_seconds"], 3600, "{incident}");
    assert_eq!(incident["sla"]["first_response"], json!(null));
    let number = incident["number"].as_str().unwrap();
    let escalations =
        api.get(&format!("/api/v1/incidents/{number}/escalations"), &api.agent).await.expect(200);
    assert_eq!(escalations.json["items"], json!([]));
    let breaches = api
        .get(&format!("/api/v1/sla-breaches?ticket={number}&metric=resolution"), &api.agent)
        .await
        .expect(200);
    assert_eq!(breaches.json["items"], json!([]));
    api.get("/api/v1/sla-breaches?colour=red", &api.agent).await.expect(400);
}
