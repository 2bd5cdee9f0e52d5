//! Who may what: roles of an organization's own, what they give, and that nobody gets more by way of them.

use crate::support::{Api, token_of};
use axum::http::Method;
use serde_json::{Value, json};

const ROLES: &str = "/api/v1/user-roles";

/// A person of the organization, by their e-mail address, with an API token.
struct Person {
    id: Value,
    token: String,
}

async fn person(api: &Api, name: &str, role: &str) -> Person {
    let body = json!({"email": format!("{name}@acme.example"), "name": name, "role": role});
    let id = api.post("/api/v1/users", &api.admin, body).await.expect(201).json["id"].clone();
    let token = api.token_of(&id).await;
    Person { id, token }
}

async fn role(api: &Api, name: &str, permissions: Value) -> String {
    let body = json!({"name": name, "permissions": permissions});
    let made = api.post(ROLES, &api.admin, body).await.expect(201);
    assert!(made.header("location").ends_with(made.json["id"].as_str().unwrap()));
    made.json["id"].as_str().unwrap().to_owned()
}

async fn give(api: &Api, role: &str, to: Value) -> Value {
    let path = format!("{ROLES}/{role}/grants");
    api.post(&path, &api.admin, to).await.expect_success().json
}

async fn incident(api: &Api, token: &str, body: Value) -> String {
    api.post("/api/v1/incidents", token, body).await.expect(201).json["id"].as_str().unwrap().to_owned()
}

async fn titles(api: &Api, path: &str, token: &str) -> Vec<String> {
    let list = api.get(path, token).await.expect(200).json;
    list["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_role_is_made_given_explained_and_taken() {
    let api = Api::start().await;
    let nora = person(&api, "nora", "end_user").await;
    let team =
        api.post("/api/v1/teams", &api.admin, json!({"name": "Night"})).await.expect(201).json["id"].clone();
    let ours = incident(&api, &api.admin, json!({"title": "ours", "team": team})).await;
    incident(&api, &api.admin, json!({"title": "other"})).await;

    let night = role(
        &api,
        "Night shift",
        json!({"tickets.view": "team", "tickets.resolve": "team",
                                                  "tickets.work": "organization"}),
    )
    .await;
    let path = format!("{ROLES}/{night}");
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await, Vec::<String>::new());
    give(&api, &night, json!({"team": team})).await;
    let members = format!("/api/v1/teams/{}/members", team.as_str().unwrap());
    api.post(&members, &api.admin, json!({"user": nora.id})).await.expect(204);
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await, ["ours"]);

    // What she may, and why.
    let why = api.get("/api/v1/user-permissions?page_size=200", &nora.token).await.expect(200).json;
    let of =
        |name: &str| why["items"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    let resolve = of("tickets.resolve");
    assert_eq!((&resolve["allowed"], &resolve["scope"]), (&json!(true), &json!("team")));
    let by =
        json!({"role": "Night shift", "role_id": night, "scope": "team", "team": team, "team_name": "Night"});
    assert_eq!(resolve["why"], json!([by]));
    assert_eq!(of("tickets.view_own")["why"][0]["role"], "end_user");
    assert_eq!(
        (of("people.manage")["allowed"].clone(), of("people.manage")["why"].clone()),
        (json!(false), json!([]))
    );
    let same = api
        .get(
            &format!("/api/v1/user-permissions?page_size=200&user_id={}", nora.id.as_str().unwrap()),
            &api.agent,
        )
        .await;
    assert_eq!(same.expect(200).json, why);
    let own = api.get(ROLES, &nora.token).await.expect(200).json;
    let held: Vec<_> =
        own["items"].as_array().unwrap().iter().map(|r| (&r["name"], &r["held"][0]["team"])).collect();
    assert_eq!(held, [(&json!("end_user"), &Value::Null), (&json!("Night shift"), &team)]);

    let ask = async |token: &str, body: Value| api.post("/api/v1/user-permissions/check", token, body).await;
    let answer =
        ask(&nora.token, json!({"permission": "tickets.resolve", "ticket": ours})).await.expect(200).json;
    assert_eq!(answer["allowed"], true);
    assert_eq!(answer["why"], "has the permission tickets.resolve in the scope team");
    let answer =
        ask(&api.agent, json!({"permission": "tickets.resolve", "ticket": "INC0000002", "user": nora.id}))
            .await;
    let answer = answer.expect(200).json;
    assert_eq!(answer["allowed"], false);
    assert!(answer["why"].as_str().unwrap().contains("one's teams"), "{answer}");
    ask(&nora.token, json!({"permission": "tickets.view", "ticket": "INC0000002"})).await.expect(422);
    ask(&nora.token, json!({"permission": "tickets.fly"})).await.expect(422);
    ask(&nora.token, json!({"permission": "tickets.view", "user": api.organization.agent.user_id()}))
        .await
        .expect(403);

    // Changed, and gone: from the next request on.
    api.patch(
        &path,
        &api.admin,
        json!({"permissions": {"tickets.view": "organization", "tickets.work": "organization"}}),
    )
    .await
    .expect(200);
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await, ["other", "ours"]);
    api.post(&format!("/api/v1/incidents/{ours}/resolve"), &nora.token, json!({"resolution": "x"}))
        .await
        .expect(403);
    let grants = api.get(&format!("{path}/grants"), &api.agent).await.expect(200).json;
    let grant = grants["items"][0]["id"].as_str().unwrap();
    api.delete(&format!("{path}/grants/{grant}"), &api.admin).await.expect(204);
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await, Vec::<String>::new());
    give(&api, &night, json!({"user": nora.id})).await;
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await.len(), 2);
    api.delete(&path, &api.admin).await.expect(204);
    assert_eq!(titles(&api, "/api/v1/incidents", &nora.token).await, Vec::<String>::new());
    let told: Vec<String> =
        sqlx::query_scalar("select kind from events where kind like 'role.%' order by seq")
            .fetch_all(&mut api.test_db.owner().await)
            .await
            .unwrap();
    assert_eq!(
        told,
        ["role.created", "role.granted", "role.updated", "role.revoked", "role.granted", "role.deleted"]
    );
}

#[tokio::test]
async fn shipped_roles_do_not_change_and_words_are_checked() {
    let api = Api::start().await;
    let all = api.get(&format!("{ROLES}?page_size=200"), &api.agent).await.expect(200).json;
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    let agent = api.get(&format!("{ROLES}/agent"), &api.agent).await.expect(200).json;
    assert_eq!(
        (&agent["is_shipped"], &agent["permissions"]["tickets.view"]),
        (&json!(true), &json!("organization"))
    );
    api.patch(&format!("{ROLES}/agent"), &api.admin, json!({"name": "x"})).await.expect(409);
    api.delete(&format!("{ROLES}/admin"), &api.admin).await.expect(409);
    for (body, pointer) in [
        (json!({"name": "Admin", "permissions": {}}), "/name"),
        (json!({"name": "x", "permissions": {"tickets.fly": "own"}}), "/permissions/tickets.fly"),
        (json!({"name": "x", "permissions": {"a/b~c": "own"}}), "/permissions/a~1b~0c"),
        (json!({"name": "x", "permissions": {"tickets.view": "galaxy"}}), "/permissions/tickets.view"),
        (json!({"name": "x", "permissions": {"people.manage": "team"}}), "/permissions/people.manage"),
        (
            json!({"name": "x", "permissions": {"tickets.view_own": "organization"}}),
            "/permissions/tickets.view_own",
        ),
        (json!({"name": " ", "permissions": {}}), "/name"),
    ] {
        let refused = api.post(ROLES, &api.admin, body.clone()).await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], pointer, "{body}");
    }
    role(&api, "Auditor", json!({"tickets.view": "organization"})).await;
    api.post(ROLES, &api.admin, json!({"name": "Auditor", "permissions": {}})).await.expect(409);
    for token in [&api.agent, &api.end_user] {
        api.post(ROLES, token, json!({"name": "y", "permissions": {}})).await.expect(403);
    }
}

/// Somebody with the keys to roles and people, and little else, tries to become more.
#[tokio::test]
async fn nobody_gets_more_than_they_have() {
    let api = Api::start().await;
    let hr = person(&api, "hr", "end_user").await;
    let friend = person(&api, "friend", "end_user").await;
    let admin = api.organization.admin.user_id().unwrap();
    let keys = role(
        &api,
        "Keys",
        json!({"roles.manage": "organization", "people.manage": "organization",
                                         "people.read": "organization", "teams.manage": "organization",
                                         "tickets.view": "team"}),
    )
    .await;
    give(&api, &keys, json!({"user": hr.id})).await;
    let strong = role(&api, "Strong", json!({"jobs.manage": "organization"})).await;
    let team =
        api.post("/api/v1/teams", &api.admin, json!({"name": "Strong"})).await.expect(201).json["id"].clone();
    give(&api, &strong, json!({"team": team})).await;
    let plain_team = api.post("/api/v1/teams", &api.admin, json!({"name": "Payroll"})).await.expect(201).json
        ["id"]
        .clone();
    let department =
        api.post("/api/v1/departments", &api.admin, json!({"name": "HR"})).await.expect(201).json["id"]
            .clone();

    let me = hr.id.as_str().unwrap();
    let user = |id: &str| format!("/api/v1/users/{id}");
    let admins = admin.to_string();
    let members = |team: &Value| format!("/api/v1/teams/{}/members", team.as_str().unwrap());
    let attacks = [
        // Become admin, or make one, or take one's account.
        (Method::PATCH, user(me), json!({"role": "admin"})),
        (Method::PATCH, user(friend.id.as_str().unwrap()), json!({"role": "agent"})),
        (
            Method::POST,
            "/api/v1/users".into(),
            json!({"email": "x@acme.example", "name": "x", "role": "admin"}),
        ),
        (
            Method::POST,
            format!("{}/set-password", user(&admins)),
            json!({"password": "long enough for anything"}),
        ),
        // Whoever has an account sees its tickets; so do others in its department.
        (
            Method::POST,
            format!("{}/set-password", user(friend.id.as_str().unwrap())),
            json!({"password": "long enough for anything"}),
        ),
        (Method::PATCH, user(friend.id.as_str().unwrap()), json!({"department": department})),
        (Method::DELETE, format!("{}/sessions", user(friend.id.as_str().unwrap())), Value::Null),
        (Method::PATCH, user(&admins), json!({"is_active": false})),
        (Method::PATCH, user(&admins), json!({"role": "end_user"})),
        // Make, widen or take a role that grants more.
        (
            Method::POST,
            ROLES.into(),
            json!({"name": "x", "permissions": {"organization.manage": "organization"}}),
        ),
        (Method::POST, ROLES.into(), json!({"name": "x", "permissions": {"tickets.view": "organization"}})),
        // One's own team's tickets are not those of another team.
        (Method::POST, ROLES.into(), json!({"name": "x", "permissions": {"tickets.view": "team"}})),
        (Method::PATCH, format!("{ROLES}/{keys}"), json!({"permissions": {"lanes.manage": "organization"}})),
        (Method::PATCH, format!("{ROLES}/{strong}"), json!({"permissions": {}})),
        (Method::DELETE, format!("{ROLES}/{strong}"), Value::Null),
        (Method::POST, format!("{ROLES}/{strong}/grants"), json!({"user": me})),
        // By way of a team: its role, and its tickets.
        (Method::POST, members(&team), json!({"user": me})),
        (Method::POST, members(&plain_team), json!({"user": me})),
        (
            Method::PATCH,
            format!("/api/v1/teams/{}", plain_team.as_str().unwrap()),
            json!({"department": department}),
        ),
    ];
    for (method, path, body) in attacks {
        let body = (!body.is_null()).then_some(body);
        let answer = api.call(method.clone(), &path, &hr.token, body.clone()).await;
        assert_eq!(answer.status, 403, "{method} {path} {body:?}: {}", answer.text);
    }
    // What they do have they may use and hand on.
    api.patch(&user(me), &hr.token, json!({"name": "HR"})).await.expect(200);
    let lesser = api
        .post(ROLES, &hr.token, json!({"name": "Reader", "permissions": {"people.read": "organization"}}))
        .await;
    let lesser = lesser.expect(201).json["id"].as_str().unwrap().to_owned();
    api.post(&format!("{ROLES}/{lesser}/grants"), &hr.token, json!({"user": friend.id})).await.expect(201);
    api.post(&format!("{ROLES}/{lesser}/grants"), &hr.token, json!({"user": friend.id})).await.expect(200);
    // The last admin stays, whatever the roles say.
    api.patch(&user(&admins), &api.admin, json!({"role": "agent"})).await.expect(409);
    let mine = api.get("/api/v1/user-permissions?page_size=200", &hr.token).await.expect(200).json;
    let more = mine["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["allowed"] == true && p["why"][0]["role"] == "Keys");
    assert_eq!(more.count(), 5);
}

/// With watching come the rights on what is one's own: to answer, to reopen.
#[tokio::test]
async fn who_may_only_look_cannot_watch() {
    let api = Api::start().await;
    let auditor = person(&api, "auditor", "end_user").await;
    let looks = role(&api, "Looks", json!({"tickets.view": "organization"})).await;
    give(&api, &looks, json!({"user": auditor.id})).await;
    let ticket = incident(&api, &api.agent, json!({"title": "Not theirs"})).await;
    let path = format!("/api/v1/incidents/{ticket}");
    api.get(&path, &auditor.token).await.expect(200);
    api.post(&format!("{path}/watchers"), &auditor.token, json!({"user": auditor.id})).await.expect(403);
    let answer = json!({"body": "me too", "visibility": "public"});
    api.post(&format!("{path}/comments"), &auditor.token, answer).await.expect(403);
}

#[tokio::test]
async fn the_confidential_is_nowhere_to_be_found() {
    let api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    let secret = incident(
        &api,
        &api.admin,
        json!({"title": "salaries leak", "confidential": true, "tags": ["payroll"]}),
    )
    .await;
    let plain = incident(&api, &api.agent, json!({"title": "printer leak"})).await;
    let link = json!({"kind": "relates_to", "ticket": secret});
    api.post(&format!("/api/v1/incidents/{plain}/links"), &api.admin, link.clone()).await.expect(201);
    let one = format!("/api/v1/incidents/{secret}");
    let mut owner = api.test_db.owner().await;
    for sql in [
        "insert into deliveries (id, organization_id, unique_key, channel, ticket_id, message_kind, recipient, created_at, updated_at)
         select gen_random_uuid(), organization_id, 'k', 'email', id, 'test', 'salaries@acme.example', now(), now() from tickets where is_confidential",
        "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, raw, received_at, status, ticket_id)
         select gen_random_uuid(), organization_id, 'mail', gen_random_uuid(), 'k', 'message/rfc822', 'salaries', now(), 'processed', id
           from tickets where is_confidential",
        "insert into sla_clocks (id, organization_id, ticket_id, metric, phase, phase_since, started_at, armed_at)
         select gen_random_uuid(), organization_id, id, 'resolution', 'running', now(), now(), now() from tickets where is_confidential
         on conflict do nothing",
        "insert into sla_breaches (id, organization_id, clock_id, generation, ticket_id, metric, policy_name, priority, target_seconds, breached_at, detected_at)
         select gen_random_uuid(), c.organization_id, c.id, 1, c.ticket_id, 'resolution', 'salaries', 'high', 60, now(), now()
           from sla_clocks c join tickets t on t.id = c.ticket_id where t.is_confidential and c.metric = 'resolution'",
    ] {
        sqlx::query(sql).execute(&mut owner).await.unwrap();
    }
    let manager = person(&api, "manager", "manager").await;
    let of_table = async |table: &str| -> String {
        let sql = format!("select id::text from {table} order by id desc limit 1");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut api.test_db.owner().await).await.unwrap()
    };
    let (delivery, entry, breach) =
        (of_table("deliveries").await, of_table("inbox").await, of_table("sla_breaches").await);
    let lists = [
        "/api/v1/incidents".to_owned(),
        "/api/v1/incidents?q=salaries".to_owned(),
        "/api/v1/incidents?q=leak&ordering=updated_at".to_owned(),
        "/api/v1/incidents?tag=payroll".to_owned(),
        "/api/v1/incidents?confidential=true".to_owned(),
        format!("/api/v1/incidents/{plain}/links"),
        "/api/v1/notifications".to_owned(),
        "/api/v1/inbox".to_owned(),
        "/api/v1/sla-breaches".to_owned(),
    ];
    for token in [&api.agent, &manager.token, &api.end_user] {
        for path in &lists {
            let answer = api.get(path, token).await;
            assert!(
                !answer.text.contains("salaries") && !answer.text.contains(&secret),
                "{path}: {}",
                answer.text
            );
        }
        for path in [
            one.clone(),
            format!("{one}/comments"),
            format!("{one}/attachments"),
            format!("{one}/history"),
            format!("{one}/links"),
            format!("{one}/watchers"),
            "/api/v1/incidents/INC0000001".into(),
        ] {
            api.get(&path, token).await.expect(404);
        }
    }
    for path in [
        format!("/api/v1/notifications/{delivery}"),
        format!("/api/v1/sla-breaches/{breach}"),
        format!("/api/v1/inbox/{entry}"),
        format!("/api/v1/inbox/{entry}/raw"),
    ] {
        api.get(&path, &manager.token).await.expect(404);
        api.get(&path, &api.admin).await.expect(200);
    }
    for (path, body) in [
        (format!("{one}/comments"), json!({"body": "hi"})),
        (format!("{one}/assign"), json!({"assignee": agent})),
        (format!("{one}/escalate"), json!({"reason": "x"})),
        (format!("{one}/watchers"), json!({"user": agent})),
        (format!("{one}/tags"), json!({"tag": "x"})),
        (format!("{one}/resolve"), json!({"resolution": "x"})),
    ] {
        api.post(&path, &api.agent, body).await.expect(404);
    }
    api.patch(&one, &api.agent, json!({"confidential": false})).await.expect(404);
    api.post(&format!("/api/v1/incidents/{plain}/links"), &api.agent, link).await.expect(422);
    // A report goes to addresses: it tells nothing of it.
    let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
    let range = store::reports::Range {
        from: tx.now() - chrono::TimeDelta::days(1),
        to: tx.now() + chrono::TimeDelta::days(1),
    };
    let summary = store::reports::incidents_and_sla(&mut tx, range).await.unwrap();
    assert_eq!((summary.opened, summary.open_at_end), (1, 1));
    assert_eq!(summary.by_source.iter().map(|count| count.count).sum::<i64>(), 1);
    assert!(summary.sla.is_empty(), "{:?}", summary.sla);
    tx.rollback().await.unwrap();

    // Who gets a part in it sees it, and nobody else but them.
    api.post(&format!("{one}/watchers"), &api.admin, json!({"user": agent})).await.expect(201);
    assert_eq!(titles(&api, "/api/v1/incidents?q=salaries", &api.agent).await, ["salaries leak"]);
    api.get(&one, &api.agent).await.expect(200);
    api.get(&one, &manager.token).await.expect(404);
    // The way into a team that has such tickets is not open to who may not see them.
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Payroll"})).await.expect(201).json["id"]
        .clone();
    api.patch(&one, &api.admin, json!({"team": team})).await.expect(200);
    let members = format!("/api/v1/teams/{}/members", team.as_str().unwrap());
    api.post(&members, &manager.token, json!({"user": manager.id})).await.expect(403);
    api.get(&one, &manager.token).await.expect(404);
    api.post(&members, &api.admin, json!({"user": manager.id})).await.expect(204);
    api.get(&one, &manager.token).await.expect(200);
}

/// Who operates the installation sees that there are organizations, and nothing of what is in them.
#[tokio::test]
async fn the_platform_is_managed_without_its_tenants_data() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = token_of(&api.test_db, &other.admin).await;
    let theirs = incident(&api, &stranger, json!({"title": "globex secret"})).await;
    let suspend = json!({"reason": "the contract has ended"});
    let new = json!({"slug": "initech", "name": "Initech", "time_zone": "Europe/Berlin",
                     "admin": {"email": "peter@initech.example", "name": "Peter", "password": "correct horse battery 7 staple"}});
    // Not yet the operator's: refused, also for what does not exist.
    api.post("/api/v1/tenants", &api.admin, new.clone()).await.expect(403);
    api.post("/api/v1/tenants/globex/suspend", &api.admin, suspend.clone()).await.expect(403);
    api.delete("/api/v1/tenants/nobody", &api.admin).await.expect(403);
    let operator = sqlx::query("update organizations set is_operator = true where slug = 'acme'");
    operator.execute(&mut api.test_db.owner().await).await.unwrap();
    api.post("/api/v1/tenants", &api.agent, new.clone()).await.expect(403);
    api.post("/api/v1/tenants", &stranger, new.clone()).await.expect(403);

    api.post("/api/v1/tenants", &api.admin, new.clone()).await.expect(201);
    api.post("/api/v1/tenants", &api.admin, new).await.expect(409);
    let login = json!({"email": "peter@initech.example", "password": "correct horse battery 7 staple"});
    let peter = api.post("/api/v1/auth/login", "", login.clone()).await.expect(200).json;
    let wrong = json!({"slug": "x1", "name": "X", "admin": {"email": "nonsense", "name": "X"}});
    let refused = api.post("/api/v1/tenants", &api.admin, wrong).await.expect(422);
    assert_eq!(refused.json["errors"][0]["pointer"], "/admin/email");
    api.patch("/api/v1/tenants/initech", &api.admin, json!({"name": "Initech GmbH"})).await.expect(204);
    let list = api.get("/api/v1/tenants", &api.admin).await.expect(200).json;
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|t| (&t["name"], &t["state"])).collect();
    assert_eq!(
        names,
        [
            (&json!("acme"), &json!("active")),
            (&json!("globex"), &json!("active")),
            (&json!("Initech GmbH"), &json!("active"))
        ]
    );

    // No tenant data.
    for path in [
        format!("/api/v1/incidents/{theirs}"),
        format!("/api/v1/organizations/{}", other.id),
        format!("/api/v1/users/{}", other.agent.user_id().unwrap()),
    ] {
        api.get(&path, &api.admin).await.expect(404);
    }
    assert_eq!(titles(&api, "/api/v1/incidents", &api.admin).await, Vec::<String>::new());

    // Suspended: nobody gets in, by whatever door, and is told why.
    api.post("/api/v1/tenants/globex/suspend", &api.admin, suspend.clone()).await.expect(204);
    api.post("/api/v1/tenants/initech/suspend", &api.admin, suspend.clone()).await.expect(204);
    api.post("/api/v1/tenants/initech/suspend", &api.admin, suspend.clone()).await.expect(409);
    let access = peter["access"].as_str().unwrap();
    for token in [&*stranger, access] {
        let refused = api.get("/api/v1/incidents", token).await.expect(403);
        assert!(refused.text.contains("the contract has ended"), "{}", refused.text);
    }
    api.post("/api/v1/auth/login", "", login.clone()).await.expect(403);
    let wrong = json!({"email": "peter@initech.example", "password": "not this one at all"});
    api.post("/api/v1/auth/login", "", wrong).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": peter["refresh"]})).await.expect(403);
    // Not the one that could bring them back.
    api.post("/api/v1/tenants/acme/suspend", &api.admin, suspend).await.expect(409);
    api.delete("/api/v1/tenants/acme", &api.admin).await.expect(409);

    api.post("/api/v1/tenants/globex/resume", &api.admin, json!({})).await.expect(204);
    api.get(&format!("/api/v1/incidents/{theirs}"), &stranger).await.expect(200);
    api.delete("/api/v1/tenants/globex", &api.admin).await.expect(204);
    api.get("/api/v1/incidents", &stranger).await.expect(403);
    api.delete("/api/v1/tenants/globex", &api.admin).await.expect(404);
    api.post("/api/v1/tenants/globex/resume", &api.admin, json!({})).await.expect(204);
    api.get(&format!("/api/v1/incidents/{theirs}"), &stranger).await.expect(200);
    let told: Vec<String> = sqlx::query_scalar(
        "select kind from events where kind like 'tenant.%' and organization_id = $1 order by seq",
    )
    .bind(api.organization.id.0)
    .fetch_all(&mut api.test_db.owner().await)
    .await
    .unwrap();
    assert_eq!(
        told,
        [
            "tenant.created",
            "tenant.renamed",
            "tenant.suspended",
            "tenant.suspended",
            "tenant.resumed",
            "tenant.deleted",
            "tenant.resumed"
        ]
    );
}
