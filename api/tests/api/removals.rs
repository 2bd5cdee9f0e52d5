//! Deleted and restored: people, teams, departments. What they lose at once, what still names them, and what comes back.

use crate::support::{Answer, Api, request};
use axum::http::Method;
use serde_json::{Value, json};

async fn made(api: &Api, noun: &str, body: Value) -> String {
    api.post(&format!("/api/v1/{noun}"), &api.admin, body).await.expect(201).header("location").to_owned()
}

fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn listed(api: &Api, path: &str) -> Vec<String> {
    let page = api.get(path, &api.admin).await.expect(200);
    page.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn with_tag(api: &Api, method: Method, path: &str, tag: &str) -> Answer {
    let mut request = request(method, path, &api.admin, None);
    request.headers_mut().insert("if-match", tag.parse().unwrap());
    api.send(request).await
}

#[tokio::test]
async fn a_deleted_person_loses_what_they_act_with_and_keeps_their_name() {
    let api = Api::start().await;
    let new = json!({"email": "grace@acme.example", "name": "Grace", "role": "agent", "password": "a long password"});
    let path = made(&api, "users", new.clone()).await;
    let user = id(&path).to_owned();
    // Her own by now.
    api.set_password(domain::UserId(user.parse().unwrap()), "a long password").await;
    let team = made(&api, "teams", json!({"name": "Network"})).await;
    api.post(&format!("{team}/members"), &api.admin, json!({"user": user})).await.expect(204);
    let login = json!({"email": "grace@acme.example", "password": "a long password"});
    let logged_in = api.post("/api/v1/auth/login", "", login.clone()).await.expect(200).json;
    let (access, refresh) = (logged_in["access"].as_str().unwrap(), logged_in["refresh"].clone());
    let token =
        api.post("/api/v1/api-tokens", access, json!({"name": "x"})).await.expect(201).json["token"].clone();
    let ticket = json!({"title": "Printer", "assignee": user, "team": id(&team), "requester": user});
    let open =
        api.post("/api/v1/incidents", &api.admin, ticket.clone()).await.expect(201).json["number"].clone();
    let over = api.post("/api/v1/incidents", &api.admin, ticket).await.expect(201).json["number"].clone();
    let (open, over) = (open.as_str().unwrap(), over.as_str().unwrap());
    api.post(&format!("/api/v1/incidents/{over}/cancel"), &api.admin, json!({"reason": "no"}))
        .await
        .expect_success();

    // Not by everybody, not oneself, not the last admin, not with an old version.
    api.delete(&path, &api.agent).await.expect(403);
    api.delete(&format!("/api/v1/users/{}", api.organization.admin.user_id().unwrap()), &api.admin)
        .await
        .expect(409);
    let old = api.get(&path, &api.admin).await.header("etag").to_owned();
    api.patch(&path, &api.admin, json!({"phone": "1"})).await.expect(200);
    with_tag(&api, Method::DELETE, &path, &old).await.expect(412);
    api.delete(&path, &api.admin).await.expect(204);

    let shown = api.get(&path, &api.agent).await.expect(200).json;
    assert!(
        shown["deleted_at"].is_string() && shown["is_active"] == false && shown["name"] == "Grace",
        "{shown}"
    );
    assert!(!listed(&api, "/api/v1/users").await.contains(&user));
    assert_eq!(listed(&api, "/api/v1/users?deleted=true").await, std::slice::from_ref(&user));
    assert!(listed(&api, "/api/v1/users?q=grace").await.is_empty());
    assert_eq!(api.get(&format!("{team}/members"), &api.admin).await.json["items"], json!([]));
    for credential in [access, token.as_str().unwrap()] {
        api.get("/api/v1/users/me", credential).await.expect(401);
    }
    api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh})).await.expect(401);
    api.post("/api/v1/auth/login", "", login.clone()).await.expect(401);

    // Work goes back to the team and says why; what is over stays as it was. Both still name the requester.
    let shown = api.get(&format!("/api/v1/incidents/{open}"), &api.admin).await.expect(200).json;
    assert_eq!((&shown["assignee"], &shown["status"]), (&Value::Null, &json!("new")), "{shown}");
    assert_eq!(shown["requester_name"], "Grace");
    let history = api.get(&format!("/api/v1/incidents/{open}/history"), &api.admin).await.expect(200);
    assert!(history.text.contains("the assignee was deleted"), "{}", history.text);
    let shown = api.get(&format!("/api/v1/incidents/{over}"), &api.admin).await.expect(200).json;
    assert_eq!((&shown["assignee"], &shown["assignee_name"]), (&json!(user), &json!("Grace")));

    // Nothing new names them, and nothing of them is changed.
    let incidents = "/api/v1/incidents";
    api.post(incidents, &api.admin, json!({"title": "x", "assignee": user})).await.expect(422);
    api.post(incidents, &api.admin, json!({"title": "x", "requester": user})).await.expect(422);
    api.post(incidents, &api.admin, json!({"title": "x", "requester": "grace@acme.example"}))
        .await
        .expect(409);
    api.post(&format!("{incidents}/{open}/watchers"), &api.admin, json!({"user": user})).await.expect(422);
    api.post(&format!("{team}/members"), &api.admin, json!({"user": user})).await.expect(422);
    api.patch(&team, &api.admin, json!({"manager": user})).await.expect(422);
    api.post("/api/v1/service-accounts", &api.admin, json!({"name": "r", "role": "agent", "owner": user}))
        .await
        .expect(422);
    let role = api
        .post("/api/v1/user-roles", &api.admin, json!({"name": "Night", "permissions": {}}))
        .await
        .expect(201);
    api.post(&format!("{}/grants", role.header("location")), &api.admin, json!({"user": user}))
        .await
        .expect(422);
    api.patch(&path, &api.admin, json!({"is_active": true})).await.expect(409);
    api.post(&format!("{path}/set-password"), &api.admin, json!({"password": "another long password"}))
        .await
        .expect(409);
    api.post(&format!("{path}/lock"), &api.admin, json!({})).await.expect(409);
    api.delete(&path, &api.admin).await.expect(409);

    // The way back, by the same rules; what ended stays ended.
    api.post(&format!("{path}/restore"), &api.agent, json!({})).await.expect(403);
    let back = api.post(&format!("{path}/restore"), &api.admin, json!({})).await.expect(200).json;
    assert_eq!((&back["deleted_at"], &back["is_active"]), (&Value::Null, &json!(true)));
    api.post(&format!("{path}/restore"), &api.admin, json!({})).await.expect(409);
    api.get("/api/v1/users/me", token.as_str().unwrap()).await.expect(401);
    api.post("/api/v1/auth/login", "", login).await.expect(200);
    assert_eq!(api.get(&format!("{team}/members"), &api.admin).await.json["items"][0]["user"], user);
    assert_eq!((api.events("user.deleted").await.len(), api.events("user.restored").await.len()), (1, 1));
}

#[tokio::test]
async fn an_address_is_free_when_its_person_is_deleted() {
    let api = Api::start().await;
    let new = json!({"email": "grace@acme.example", "name": "Grace", "role": "agent"});
    let first = made(&api, "users", new.clone()).await;
    api.delete(&first, &api.admin).await.expect(204);
    let second = made(&api, "users", new.clone()).await;
    let refused = api.post(&format!("{first}/restore"), &api.admin, json!({})).await.expect(409);
    assert!(refused.text.contains("there is a user with this e-mail address already"), "{}", refused.text);
    api.delete(&second, &api.admin).await.expect(204);
    // Both are deleted now: one comes back.
    let restore =
        async |path: &str| api.call(Method::POST, &format!("{path}/restore"), &api.admin, None).await;
    let (one, two) = tokio::join!(restore(&first), restore(&second));
    let mut answers = [one.status.as_u16(), two.status.as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [200, 409], "{} {}", one.text, two.text);

    // Who was not active comes back so; who answers for programs hands them over first.
    let path =
        made(&api, "users", json!({"email": "joan@acme.example", "name": "Joan", "role": "agent"})).await;
    api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200);
    api.delete(&path, &api.admin).await.expect(204);
    let back = api.call(Method::POST, &format!("{path}/restore"), &api.admin, None).await.expect(200);
    assert_eq!(back.json["is_active"], false);
    api.patch(&path, &api.admin, json!({"is_active": true})).await.expect(200);
    let robot = json!({"name": "robot", "role": "agent", "owner": id(&path)});
    let robot = api.post("/api/v1/service-accounts", &api.admin, robot).await.expect(201).json["id"].clone();
    api.delete(&path, &api.admin).await.expect(409);
    let robot = format!("/api/v1/users/{}", robot.as_str().unwrap());
    api.delete(&robot, &api.admin).await.expect(204);
    api.delete(&path, &api.admin).await.expect(204);
    api.call(Method::POST, &format!("{robot}/restore"), &api.admin, None).await.expect(409);
}

/// Whoever manages people brings nobody back who may more than they, nor sends them away.
#[tokio::test]
async fn nobody_deletes_or_restores_who_may_more() {
    let api = Api::start().await;
    let permissions = json!({"people.read": "organization", "people.manage": "organization", "teams.manage": "organization",
                             "tickets.view": "organization"});
    let role = json!({"name": "Personnel", "permissions": permissions});
    let role =
        api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).header("location").to_owned();
    let clerk =
        made(&api, "users", json!({"email": "clerk@acme.example", "name": "Clerk", "role": "end_user"}))
            .await;
    api.post(&format!("{role}/grants"), &api.admin, json!({"user": id(&clerk)})).await.expect(201);
    let clerk = api.token_of(&json!(id(&clerk))).await;
    let boss =
        made(&api, "users", json!({"email": "boss@acme.example", "name": "Boss", "role": "admin"})).await;
    let guest =
        made(&api, "users", json!({"email": "guest@acme.example", "name": "Guest", "role": "end_user"}))
            .await;
    api.delete(&boss, &clerk).await.expect(403);
    api.delete(&guest, &clerk).await.expect(204);
    api.delete(&boss, &api.admin).await.expect(204);
    api.call(Method::POST, &format!("{boss}/restore"), &clerk, None).await.expect(403);
    api.call(Method::POST, &format!("{guest}/restore"), &clerk, None).await.expect(200);

    // A team gives its roles back with itself.
    let team = made(&api, "teams", json!({"name": "Powerful"})).await;
    let strong = json!({"name": "Strong", "permissions": {"audit.read": "organization"}});
    let strong =
        api.post("/api/v1/user-roles", &api.admin, strong).await.expect(201).header("location").to_owned();
    api.post(&format!("{strong}/grants"), &api.admin, json!({"team": id(&team)})).await.expect(201);
    api.delete(&team, &api.admin).await.expect(204);
    api.call(Method::POST, &format!("{team}/restore"), &clerk, None).await.expect(403);
    api.call(Method::POST, &format!("{team}/restore"), &api.admin, None).await.expect(200);
}

#[tokio::test]
async fn a_deleted_team_gives_no_rights_and_gets_no_work() {
    let api = Api::start().await;
    let agent = api.organization.end_user.user_id().unwrap();
    let team = made(&api, "teams", json!({"name": "Network"})).await;
    let role = json!({"name": "Field", "permissions": {"tickets.work": "organization", "tickets.view": "team", "people.read": "organization"}});
    let role =
        api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).header("location").to_owned();
    api.post(&format!("{role}/grants"), &api.admin, json!({"team": id(&team)})).await.expect(201);
    api.post(&format!("{team}/members"), &api.admin, json!({"user": agent})).await.expect(204);
    api.get("/api/v1/users", &api.end_user).await.expect(200);
    let mailbox = json!({"address": "net@desk.example", "name": "Net", "team": id(&team)});
    let mailbox = made(&api, "mailboxes", mailbox).await;
    let ticket =
        api.post("/api/v1/incidents", &api.admin, json!({"title": "x", "team": id(&team)})).await.expect(201);
    let ticket = ticket.header("location").to_owned();
    let refused = api.delete(&team, &api.admin).await.expect(409);
    assert!(refused.text.contains("tickets that are not closed"), "{}", refused.text);
    api.post(&format!("{ticket}/cancel"), &api.admin, json!({"reason": "no"})).await.expect_success();
    api.delete(&team, &api.admin).await.expect(204);

    api.get("/api/v1/users", &api.end_user).await.expect(403);
    assert_eq!(api.get(&mailbox, &api.admin).await.expect(200).json["team"], Value::Null);
    assert_eq!(api.get(&ticket, &api.admin).await.expect(200).json["team_name"], "Network");
    assert!(api.get(&team, &api.admin).await.expect(200).json["deleted_at"].is_string());
    assert!(listed(&api, "/api/v1/teams").await.is_empty());
    assert_eq!(listed(&api, "/api/v1/teams?deleted=true").await, [id(&team)]);
    for (path, body) in [
        ("/api/v1/incidents", json!({"title": "x", "team": id(&team)})),
        ("/api/v1/mailboxes", json!({"address": "b@desk.example", "name": "B", "team": id(&team)})),
        ("/api/v1/alert-sources", json!({"name": "B", "kind": "generic", "team": id(&team)})),
        (
            "/api/v1/escalation-chains",
            json!({"name": "B", "steps": [{"action": "assign_team", "team": id(&team)}]}),
        ),
    ] {
        api.post(path, &api.admin, body).await.expect(422);
    }
    api.patch(&team, &api.admin, json!({"name": "x"})).await.expect(409);
    api.post(&format!("{team}/members"), &api.admin, json!({"user": agent})).await.expect(409);

    // The name is free, and in the way of a restoration when it is taken.
    let other = made(&api, "teams", json!({"name": "Network"})).await;
    api.call(Method::POST, &format!("{team}/restore"), &api.admin, None).await.expect(409);
    api.patch(&other, &api.admin, json!({"name": "Networks"})).await.expect(200);
    api.call(Method::POST, &format!("{team}/restore"), &api.admin, None).await.expect(200);
    api.get("/api/v1/users", &api.end_user).await.expect(200);
}

/// It comes back to who is left, and its trail says why; the reopening itself stays with whoever did it.
#[tokio::test]
async fn a_reopened_ticket_comes_back_to_nobody_who_is_gone() {
    let api = Api::start().await;
    let requester = api.organization.end_user.user_id().unwrap();
    let team = made(&api, "teams", json!({"name": "Network"})).await;
    let grace = made(&api, "users", json!({"email": "g@acme.example", "name": "G", "role": "agent"})).await;
    let opened = async |title: &str| {
        let new = json!({"title": title, "requester": requester, "assignee": id(&grace), "team": id(&team)});
        let path = made(&api, "incidents", new).await;
        api.post(&format!("{path}/resolve"), &api.admin, json!({"resolution": "done"})).await.expect(200);
        path
    };
    let (closed, resolved, changed) =
        (opened("closed").await, opened("resolved").await, opened("changed").await);
    // What is merely resolved loses its assignee with their deletion; what is closed is left as it was.
    for path in [&closed, &resolved, &changed] {
        api.post(&format!("{path}/close"), &api.admin, json!({})).await.expect(200);
    }
    api.delete(&grace, &api.admin).await.expect(204);
    // By the verb: the person is gone, the team is there.
    let back =
        api.post(&format!("{closed}/reopen"), &api.admin, json!({"reason": "again"})).await.expect(200).json;
    assert_eq!(
        (&back["assignee"], &back["team"], &back["status"]),
        (&Value::Null, &json!(id(&team)), &json!("new"))
    );
    assert_eq!(back["reopened_count"], 1);
    let history = api.get(&format!("{closed}/history"), &api.admin).await.expect(200).json;
    let entries: Vec<(&str, String)> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap(), entry.to_string()))
        .collect();
    let of = |action: &str| {
        entries.iter().filter(|entry| entry.0 == action).map(|entry| &entry.1).collect::<Vec<_>>()
    };
    let reopened = of("reopened");
    assert!(
        reopened.len() == 1 && reopened[0].contains("again") && !reopened[0].contains("assignee"),
        "{reopened:?}"
    );
    let taken = of("assigned");
    assert!(taken.iter().any(|entry| entry.contains("the assignee was deleted")), "{entries:?}");
    api.post(&format!("{closed}/cancel"), &api.admin, json!({})).await.expect_success();

    // By the requester, and by a change of the status that wants it in progress: both are gone.
    api.delete(&team, &api.admin).await.expect(204);
    api.patch(&changed, &api.admin, json!({"status": "in_progress"})).await.expect(200);
    api.call(Method::POST, &format!("{resolved}/reopen"), &api.end_user, None).await.expect(200);
    for path in [&changed, &resolved] {
        let back = api.get(path, &api.admin).await.expect(200).json;
        let stands = (&back["assignee"], &back["team"], &back["status"]);
        assert_eq!(stands, (&Value::Null, &Value::Null, &json!("new")), "{back}");
        let history = api.get(&format!("{path}/history"), &api.admin).await.expect(200);
        assert!(history.text.contains("the assignee was deleted; the team was deleted"), "{}", history.text);
    }

    // Nobody who is told of the reopening is gone.
    for event in api.events("incident.reopened").await {
        assert!(event["assignee"].is_null(), "{event}");
    }
}

/// A word of the requester on a resolved ticket reopens it, to who is left.
#[tokio::test]
async fn a_word_of_the_requester_reopens_to_the_team() {
    let api = Api::start().await;
    let requester = api.organization.end_user.user_id().unwrap();
    let grace = made(&api, "users", json!({"email": "g@acme.example", "name": "G", "role": "agent"})).await;
    let new = json!({"title": "x", "requester": requester, "assignee": id(&grace)});
    let path = made(&api, "incidents", new).await;
    api.post(&format!("{path}/resolve"), &api.admin, json!({"resolution": "done"})).await.expect(200);
    api.patch(&grace, &api.admin, json!({"is_active": false})).await.expect(200);
    api.post(&format!("{path}/comments"), &api.end_user, json!({"body": "not at all"})).await.expect(201);
    let back = api.get(&path, &api.admin).await.expect(200).json;
    assert_eq!((&back["assignee"], &back["status"]), (&Value::Null, &json!("new")), "{back}");
    let history = api.get(&format!("{path}/history"), &api.admin).await.expect(200);
    assert!(history.text.contains("the assignee is not active any more"), "{}", history.text);
}

/// Its steps would fail when they are needed most.
#[tokio::test]
async fn a_team_that_escalations_count_on_is_not_deleted() {
    let api = Api::start().await;
    let team = made(&api, "teams", json!({"name": "Night"})).await;
    let other = made(&api, "teams", json!({"name": "Day"})).await;
    let steps = |team: &str| json!([{"action": "notify_manager"}, {"action": "assign_team", "team": id(team), "after_seconds": 60}]);
    let mut chains = Vec::new();
    for name in ["Breach", "Warning"] {
        let chain = json!({"name": name, "steps": steps(&team)});
        chains.push(made(&api, "escalation-chains", chain).await);
    }
    let refused = api.delete(&team, &api.admin).await.expect(409);
    assert!(
        refused.text.contains("escalation chains give tickets to the team: Breach, Warning"),
        "{}",
        refused.text
    );
    for (chain, name) in chains.iter().zip(["Breach", "Warning"]) {
        api.delete(&team, &api.admin).await.expect(409);
        api.patch(chain, &api.admin, json!({"name": name, "steps": steps(&other)})).await.expect(200);
    }
    api.delete(&team, &api.admin).await.expect(204);
    // Whoever names it while it goes waits, and is refused.
    let named = json!({"name": "Late", "steps": steps(&team)});
    api.post("/api/v1/escalation-chains", &api.admin, named).await.expect(422);
}

#[tokio::test]
async fn a_department_goes_when_nobody_is_in_it_and_comes_back_below_its_own() {
    let api = Api::start().await;
    let top = made(&api, "departments", json!({"name": "IT"})).await;
    let below = made(&api, "departments", json!({"name": "Ops", "parent": id(&top)})).await;
    let grace = json!({"email": "g@acme.example", "name": "G", "role": "agent", "department": id(&below)});
    let grace = made(&api, "users", grace).await;
    api.delete(&below, &api.admin).await.expect(409);
    // Who is deleted is in nobody's way.
    api.delete(&grace, &api.admin).await.expect(204);
    api.delete(&below, &api.admin).await.expect(204);
    api.delete(&top, &api.admin).await.expect(204);
    assert_eq!(listed(&api, "/api/v1/departments?deleted=true").await.len(), 2);
    api.call(Method::POST, &format!("{below}/restore"), &api.admin, None).await.expect(409);
    let back = api.call(Method::POST, &format!("{grace}/restore"), &api.admin, None).await.expect(200);
    assert_eq!(back.json["department"], Value::Null, "theirs is deleted");
    for body in [json!({"department": id(&below)}), json!({"manager": uuid::Uuid::now_v7()})] {
        api.patch(&grace, &api.admin, body).await.expect(422);
    }
    api.call(Method::POST, &format!("{top}/restore"), &api.admin, None).await.expect(200);
    let back = api.call(Method::POST, &format!("{below}/restore"), &api.admin, None).await.expect(200);
    assert_eq!(back.json["parent"], id(&top));
}

/// Each move alone is fine, both together are a circle. Both wait for the tree, so that the second sees the first.
#[tokio::test]
async fn two_moves_at_once_make_no_circle() {
    let api = Api::start().await;
    for round in 0..5 {
        let a = made(&api, "departments", json!({"name": format!("A{round}")})).await;
        let b = made(&api, "departments", json!({"name": format!("B{round}")})).await;
        let (one, two) = tokio::join!(
            api.patch(&a, &api.admin, json!({"parent": id(&b)})),
            api.patch(&b, &api.admin, json!({"parent": id(&a)}))
        );
        let mut answers = [one.status.as_u16(), two.status.as_u16()];
        answers.sort_unstable();
        assert_eq!(answers, [200, 422], "{} {}", one.text, two.text);
    }
    // Held at the lock of the tree: nobody has looked before it is their turn.
    let a = made(&api, "departments", json!({"name": "A"})).await;
    let b = made(&api, "departments", json!({"name": "B"})).await;
    let mut held = api.test_db.db.begin(api.organization.id).await.unwrap();
    store::departments::lock_tree(&mut held).await.unwrap();
    let (one, two, ()) = tokio::join!(
        api.patch(&a, &api.admin, json!({"parent": id(&b)})),
        api.patch(&b, &api.admin, json!({"parent": id(&a)})),
        async {
            api.test_db.until_blocked(2, "departments").await;
            held.rollback().await.unwrap();
        }
    );
    let mut answers = [one.status.as_u16(), two.status.as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [200, 422], "{} {}", one.text, two.text);
    // A subtree moves with what is below it.
    let c = made(&api, "departments", json!({"name": "C", "parent": id(&a)})).await;
    api.patch(&a, &api.admin, json!({"parent": null})).await.expect(200);
    api.patch(&b, &api.admin, json!({"parent": null})).await.expect(200);
    api.patch(&a, &api.admin, json!({"parent": id(&b)})).await.expect(200);
    api.patch(&b, &api.admin, json!({"parent": id(&c)})).await.expect(422);
}

/// An assignment and a deletion at once: whichever is first, nobody who is deleted holds an open ticket.
#[tokio::test]
async fn no_ticket_is_given_to_somebody_who_is_being_deleted() {
    let api = Api::start().await;
    let path = made(&api, "users", json!({"email": "g@acme.example", "name": "G", "role": "agent"})).await;
    let ticket = api.post("/api/v1/incidents", &api.admin, json!({"title": "x"})).await.expect(201);
    let ticket = ticket.header("location").to_owned();
    let mut held = api.test_db.owner().await;
    sqlx::raw_sql("begin").execute(&mut held).await.unwrap();
    let user: uuid::Uuid = id(&path).parse().unwrap();
    sqlx::query("select id from users where id = $1 for update").bind(user).execute(&mut held).await.unwrap();
    let assign = format!("{ticket}/assign");
    let (assigned, deleted, ()) = tokio::join!(
        api.post(&assign, &api.admin, json!({"assignee": id(&path)})),
        api.delete(&path, &api.admin),
        async {
            api.test_db.until_blocked(2, "users").await;
            sqlx::raw_sql("rollback").execute(&mut held).await.unwrap();
        }
    );
    deleted.expect(204);
    assert!([200, 422].contains(&assigned.status.as_u16()), "{}", assigned.text);
    assert_eq!(api.get(&ticket, &api.admin).await.json["assignee"], Value::Null);
}
