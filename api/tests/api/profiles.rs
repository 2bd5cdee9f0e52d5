//! Profiles: absence and substitutes, ways to reach somebody, skills of members, languages; and handing in tables of people.

use crate::support::{Api, request};
use axum::body::Body;
use axum::http::{Method, Request};
use chrono::TimeDelta;
use serde_json::{Value, json};

async fn agent(api: &Api, name: &str) -> String {
    let new = json!({"email": format!("{name}@acme.example"), "name": name, "role": "agent"});
    api.post("/api/v1/users", &api.admin, new).await.expect(201).json["id"].as_str().unwrap().to_owned()
}

async fn away(api: &Api, user: &str, substitute: Option<&str>) {
    let now = api.test_db.db.begin(api.organization.id).await.unwrap().now();
    let body = json!({"out_of_office": {"from": now - TimeDelta::hours(1), "until": now + TimeDelta::days(7), "substitute": substitute}});
    api.patch(&format!("/api/v1/users/{user}"), &api.admin, body).await.expect(200);
}

async fn assigned(api: &Api, user: &str) -> Value {
    let ticket = api.post("/api/v1/incidents", &api.admin, json!({"title": "x"})).await.expect(201);
    let path = format!("{}/assign", ticket.header("location"));
    api.post(&path, &api.admin, json!({"assignee": user})).await.expect(200).json
}

#[tokio::test]
async fn work_for_somebody_away_goes_to_their_substitute() {
    let api = Api::start().await;
    let (ada, bob, eve) = (agent(&api, "ada").await, agent(&api, "bob").await, agent(&api, "eve").await);
    away(&api, &ada, Some(&bob)).await;
    let shown = api.get(&format!("/api/v1/users/{ada}"), &api.agent).await.expect(200).json;
    assert_eq!(shown["out_of_office"]["substitute"], bob);

    let ticket = assigned(&api, &ada).await;
    assert_eq!((&ticket["assignee"], &ticket["status"]), (&json!(bob), &json!("assigned")));
    let history = api
        .get(&format!("/api/v1/incidents/{}/history", ticket["number"].as_str().unwrap()), &api.admin)
        .await;
    assert!(history.text.contains("instead_of") && history.text.contains(&ada), "{}", history.text);
    let event = api.events("incident.assigned").await.pop().unwrap();
    assert_eq!(event["instead_of"], json!({"user": ada, "why": "out_of_office"}), "{event}");
    let opened = api
        .post("/api/v1/incidents", &api.admin, json!({"title": "x", "assignee": ada}))
        .await
        .expect(201)
        .json;
    assert_eq!(opened["assignee"], bob);
    let patched = format!("/api/v1/incidents/{}", opened["number"].as_str().unwrap());
    api.patch(&patched, &api.admin, json!({"assignee": eve})).await.expect(200);
    assert_eq!(
        api.patch(&patched, &api.admin, json!({"assignee": ada})).await.expect(200).json["assignee"],
        bob
    );
    let escalated = api
        .post(&format!("{patched}/escalate"), &api.admin, json!({"reason": "now", "assignee": eve}))
        .await
        .expect(200);
    assert_eq!(escalated.json["assignee"], eve);

    // A substitute may be away too; the chain is followed to its end.
    away(&api, &bob, Some(&eve)).await;
    assert_eq!(assigned(&api, &ada).await["assignee"], eve);
    // In a circle, at its end, or with nobody to stand in: it is theirs, and waits.
    away(&api, &eve, Some(&ada)).await;
    assert_eq!(assigned(&api, &ada).await["assignee"], ada);
    away(&api, &eve, None).await;
    assert_eq!(assigned(&api, &ada).await["assignee"], ada);
    away(&api, &bob, None).await;
    assert_eq!(assigned(&api, &ada).await["assignee"], ada);
    // Nor to somebody who cannot work any more.
    api.patch(&format!("/api/v1/users/{bob}"), &api.admin, json!({"out_of_office": null})).await.expect(200);
    assert_eq!(assigned(&api, &ada).await["assignee"], bob);
    api.patch(&format!("/api/v1/users/{bob}"), &api.admin, json!({"is_active": false})).await.expect(200);
    assert_eq!(assigned(&api, &ada).await["assignee"], ada);
    api.patch(&format!("/api/v1/users/{bob}"), &api.admin, json!({"is_active": true})).await.expect(200);

    // Who takes a ticket themselves has it; and a substitute is not let into what is confidential.
    let own = api.token_of(&json!(ada)).await;
    let ticket = api.post("/api/v1/incidents", &api.admin, json!({"title": "x"})).await.expect(201);
    let taken = api
        .post(&format!("{}/assign", ticket.header("location")), &own, json!({"assignee": ada}))
        .await
        .expect(200);
    assert_eq!(taken.json["assignee"], ada);
    let secret = json!({"title": "x", "confidential": true, "assignee": ada});
    let secret = api.post("/api/v1/incidents", &api.admin, secret).await.expect(201).json;
    assert_eq!(secret["assignee"], ada);

    // When it is over, it is over.
    api.test_db.db.clock().shift(TimeDelta::days(8));
    assert_eq!(assigned(&api, &ada).await["assignee"], ada);
}

#[tokio::test]
async fn an_absence_is_checked() {
    let api = Api::start().await;
    let ada = agent(&api, "ada").await;
    let path = format!("/api/v1/users/{ada}");
    let now = api.state.db.begin(api.organization.id).await.unwrap().now();
    let day = |days: i64| now + TimeDelta::days(days);
    for (from, until, substitute, pointer) in [
        (1, 1, json!(null), "/out_of_office/until"),
        (-3, -1, json!(null), "/out_of_office/until"),
        (1, 400, json!(null), "/out_of_office/until"),
        (1, 2, json!(ada), "/out_of_office/substitute"),
        (1, 2, json!(uuid::Uuid::now_v7()), "/out_of_office/substitute"),
        (1, 2, json!(api.organization.end_user.user_id()), "/out_of_office/substitute"),
    ] {
        let body =
            json!({"out_of_office": {"from": day(from), "until": day(until), "substitute": substitute}});
        let refused = api.patch(&path, &api.admin, body).await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    let body = json!({"out_of_office": {"from": day(1), "until": day(2), "note": "back soon", "because": 1}});
    api.patch(&path, &api.admin, body).await.expect(422);
    // One's own is one's own business.
    let body = json!({"out_of_office": {"from": day(1), "until": day(2), "note": "back soon"}});
    api.patch("/api/v1/users/me", &api.end_user, body.clone()).await.expect(200);
    api.patch(&path, &api.end_user, body).await.expect(403);
    let back = api.patch("/api/v1/users/me", &api.end_user, json!({"out_of_office": null})).await.expect(200);
    assert_eq!(back.json["out_of_office"], Value::Null);
    assert_eq!(api.events("user.out_of_office").await.len(), 2);
    // Languages by their tags.
    let spoken = api.patch("/api/v1/users/me", &api.end_user, json!({"locale": "pt_BR"})).await.expect(200);
    assert_eq!(spoken.json["locale"], "pt-BR");
    api.patch("/api/v1/users/me", &api.end_user, json!({"locale": "deutsch, bitte"})).await.expect(422);
}

#[tokio::test]
async fn people_are_reached_in_several_ways() {
    let api = Api::start().await;
    let me = api.organization.agent.user_id().unwrap();
    let path = format!("/api/v1/users/{me}/contact-ways");
    let put = async |token: &str, ways: Value| {
        api.call(Method::PUT, &path, token, Some(json!({"contact_ways": ways}))).await
    };
    let phones = json!([{"kind": "mobile", "value": " +49 151 1 ", "is_preferred": true}, {"kind": "phone", "value": "030/123", "label": "office"}]);
    let shown = put(&api.agent, phones).await.expect(200);
    assert_eq!(shown.json["contact_ways"][0]["value"], "+49 151 1");
    assert_eq!(api.get(&path, &api.admin).await.expect(200).json, shown.json);
    api.get(&path, &api.end_user).await.expect(403);
    // An address is not theirs by saying so.
    let mail = json!([{"kind": "email", "value": "Me@home.example", "is_preferred": true}]);
    put(&api.agent, mail.clone()).await.expect(403);
    put(&api.end_user, json!([])).await.expect(403);
    let tag = api.get(&path, &api.admin).await.header("etag").to_owned();
    assert_eq!(put(&api.admin, mail).await.expect(200).json["contact_ways"][0]["value"], "me@home.example");
    let mut stale = request(Method::PUT, &path, &api.admin, Some(json!({"contact_ways": []})));
    stale.headers_mut().insert("if-match", tag.parse().unwrap());
    api.send(stale).await.expect(412);
    let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
    assert_eq!(
        store::contact_ways::mail_address(&mut tx, me, "x@y.example").await.unwrap(),
        "me@home.example"
    );
    drop(tx);
    for (ways, pointer) in [
        (json!([{"kind": "email", "value": "nobody"}]), "/contact_ways/0/value"),
        (json!([{"kind": "phone", "value": "=1+1"}]), "/contact_ways/0/value"),
        (json!([{"kind": "fax", "value": "1234"}]), "/contact_ways/0/kind"),
        (
            json!([{"kind": "phone", "value": "1234"}, {"kind": "phone", "value": "1234"}]),
            "/contact_ways/1/value",
        ),
        (
            json!([{"kind": "phone", "value": "1234", "is_preferred": true}, {"kind": "phone", "value": "12345", "is_preferred": true}]),
            "/contact_ways/1/is_preferred",
        ),
        (json!(vec![json!({"kind": "phone", "value": "1234"}); 21]), "/contact_ways"),
    ] {
        let refused = put(&api.admin, ways).await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
}

#[tokio::test]
async fn members_have_skills_and_a_team_has_leads() {
    let api = Api::start().await;
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Servers"})).await.expect(201);
    let members = format!("{}/members", team.header("location"));
    let ada = agent(&api, "ada").await;
    api.post(&members, &api.admin, json!({"user": ada})).await.expect(204);
    let path = format!("{members}/{ada}");
    let first = api.get(&path, &api.agent).await.expect(200);
    assert_eq!((&first.json["is_lead"], &first.json["skills"]), (&json!(false), &json!({})));
    let body = json!({"is_lead": true, "skills": {"Linux": 4, "zfs": 1}});
    api.patch(&path, &api.agent, body.clone()).await.expect(403);
    let shown = api.patch(&path, &api.admin, body).await.expect(200).json;
    assert_eq!((&shown["is_lead"], &shown["skills"]), (&json!(true), &json!({"linux": 4, "zfs": 1})));
    let mut stale = request(Method::PATCH, &path, &api.admin, Some(json!({"is_lead": false})));
    stale.headers_mut().insert("if-match", first.header("etag").parse().unwrap());
    api.send(stale).await.expect(412);
    for (body, pointer) in [
        (json!({"skills": {"linux": 0}}), "/skills/linux"),
        (json!({"skills": {"linux": 6}}), "/skills/linux"),
        (json!({"skills": {" ": 1}}), "/skills/ "),
        (json!({"skills": {"a/b\u{7}": 1}}), "/skills/a~1b\u{7}"),
        (json!({"role": "admin"}), "/role"),
    ] {
        let refused = api.patch(&path, &api.admin, body).await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    let with = async |skill: &str| {
        let page = api.get(&format!("{members}?skill={skill}"), &api.agent).await.expect(200);
        page.json["items"].as_array().unwrap().len()
    };
    assert_eq!((with("LINUX").await, with("cobol").await), (1, 0));
    api.patch(&format!("{members}/{}", api.organization.agent.user_id().unwrap()), &api.admin, json!({}))
        .await
        .expect(404);
    // By name, page by page, each once.
    for name in ["grace", "barbara"] {
        let user = agent(&api, name).await;
        api.post(&members, &api.admin, json!({"user": user})).await.expect(204);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{members}?page_size=1{cursor}"), &api.agent).await.expect(200).json;
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names, ["ada", "barbara", "grace"]);
}

#[tokio::test]
async fn a_table_of_people_is_taken_and_worked_later() {
    let api = Api::start().await;
    let post = |token: &str, query: &str, media_type: &str, csv: String| {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/api/v1/users/import{query}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", media_type);
        api.send(request.body(Body::from(csv)).unwrap())
    };
    let csv = "email,name\nada@acme.example,Ada\n".to_owned();
    post(&api.agent, "", "text/csv", csv.clone()).await.expect(403);
    post(&api.admin, "", "application/json", csv.clone()).await.expect(415);
    post(&api.admin, "?dryrun=true", "text/csv", csv.clone()).await.expect(400);
    post(&api.admin, "?dry_run=perhaps", "text/csv", csv.clone()).await.expect(422);
    post(&api.admin, "", "text/csv", String::new()).await.expect(422);
    post(&api.admin, "", "text/csv", "x".repeat((8 << 20) + 1)).await.expect(413);
    // More than other bodies may have.
    let taken =
        post(&api.admin, "?dry_run=true", "text/csv; charset=utf-8", "x".repeat(3 << 20)).await.expect(202);
    let shown = api.get(taken.header("location"), &api.admin).await.expect(200).json;
    assert_eq!((&shown["status"], &shown["dry_run"]), (&json!("queued"), &json!(true)));
    api.get(taken.header("location"), &api.agent).await.expect(403);
    let list = api.get("/api/v1/user-imports", &api.admin).await.expect(200).json;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let limited = json!({"name": "x", "scopes": ["people.manage"]});
    let limited =
        api.post("/api/v1/api-tokens", &api.admin_login().await, limited).await.expect(201).json["token"]
            .clone();
    post(limited.as_str().unwrap(), "", "text/csv", csv).await.expect(403);
}
