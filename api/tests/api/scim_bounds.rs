//! What a SCIM token and its account must not be able to do.

use crate::scim::{GROUPS, Scim, USERS, found, one};
use crate::support::{Api, token_of};
use axum::http::Method;
use serde_json::{Value, json};

/// A token that leaked is good for what provisioning needs, and not for more.
#[tokio::test]
async fn its_token_opens_nothing_else() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    for path in ["/api/v1/users", "/api/v1/teams", "/api/v1/incidents", "/api/v1/api-tokens"] {
        let answer = api.get(path, &scim.token).await;
        assert!(answer.status == 403 || answer.json["items"] == json!([]), "{path}: {}", answer.text);
    }
    let person = json!({"email": "x@acme.example", "name": "X", "role": "agent"});
    api.post("/api/v1/users", &scim.token, person).await.expect(403);
    let more = json!({"name": "more", "scopes": ["people.manage"]});
    assert!(api.post("/api/v1/api-tokens", &scim.token, more).await.status.is_client_error());
    for other in [&api.agent, &api.end_user] {
        api.get(USERS, other).await.expect(403);
        api.post(USERS, other, json!({"userName": "x@acme.example"})).await.expect(403);
        api.get("/scim/v2/Schemas", other).await.expect(403);
    }
    // No admins, by whatever way.
    let admin = json!({"userName": "x@acme.example", "roles": [{"value": "admin"}]});
    scim.call(Method::POST, USERS, Some(admin)).await.expect(403);
    let ada = scim.person("ada").await;
    let up = json!([{"op": "replace", "path": "roles", "value": [{"value": "admin"}]}]);
    scim.patch(&one(USERS, &ada), up).await.expect(403);
    let boss = format!("{USERS}/{}", api.organization.admin.user_id().unwrap());
    let down = json!([{"op": "replace", "path": "roles", "value": [{"value": "end_user"}]}]);
    scim.patch(&boss, down).await.expect(403);
    // The last admin stays, whatever the directory says; the account of the token is none who could let others in.
    scim.patch(&boss, json!([{"op": "replace", "path": "active", "value": false}])).await.expect(409);
    scim.call(Method::DELETE, &boss, None).await.expect(409);
    api.get("/api/v1/users/me", &api.admin).await.expect(200);
}

/// The account gives, takes and governs nothing that it does not have itself.
#[tokio::test]
async fn its_account_sets_the_bounds() {
    let api = Api::start().await;
    let role = json!({"name": "Provisioning", "permissions": {
        "scim.provision": "organization", "people.manage": "organization", "people.read": "organization",
        "teams.manage": "organization", "tickets.view": "organization"}});
    let role = api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json;
    let body = json!({"name": "Entra", "role": "end_user", "owner": api.organization.admin.user_id()});
    let account = api.post("/api/v1/service-accounts", &api.admin, body).await.expect(201).json;
    let grants = format!("/api/v1/user-roles/{}/grants", role["id"].as_str().unwrap());
    api.post(&grants, &api.admin, json!({"user": account["id"]})).await.expect_success();
    let path = format!("/api/v1/service-accounts/{}/tokens", account["id"].as_str().unwrap());
    let made = api.post(&path, &api.admin, json!({"name": "SCIM", "scopes": ["scim.provision"]})).await;
    let scim = Scim { api: &api, token: made.expect(201).json["token"].as_str().unwrap().to_owned() };
    let guest = scim.make(USERS, json!({"userName": "guest@acme.example"})).await;
    scim.patch(&one(USERS, &guest), json!([{"op": "replace", "path": "active", "value": false}]))
        .await
        .expect(200);
    let agent = json!({"userName": "x@acme.example", "roles": [{"value": "agent"}]});
    scim.call(Method::POST, USERS, Some(agent)).await.expect(403);
    let known = format!("{USERS}/{}", api.organization.agent.user_id().unwrap());
    for operation in [
        json!({"op": "replace", "path": "active", "value": false}),
        json!({"op": "replace", "path": "externalId", "value": "mine"}),
    ] {
        scim.patch(&known, json!([operation])).await.expect(403);
    }
    scim.call(Method::DELETE, &known, None).await.expect(403);
}

#[tokio::test]
async fn tenants_and_service_accounts_are_out_of_reach() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let ada = scim.person("ada").await;
    let team = scim.make(GROUPS, json!({"displayName": "Network", "externalId": "n"})).await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = Scim { api: &api, token: token_of(&api.test_db, &other.admin).await };
    for (noun, thing) in [(USERS, &ada), (GROUPS, &team)] {
        let path = one(noun, thing);
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            let body = (method != Method::GET).then(|| json!({"displayName": "x", "Operations": []}));
            stranger.call(method, &path, body).await.expect(404);
        }
        let filter = found(&format!("id eq \"{}\"", thing["id"].as_str().unwrap()));
        assert_eq!(stranger.get(&format!("{noun}?filter={filter}")).await["totalResults"], 0);
    }
    assert_eq!(
        stranger.get(&format!("{USERS}?filter={}", found("userName eq \"ada@acme.example\""))).await["totalResults"],
        0
    );
    let foreign = json!({"displayName": "Mine", "members": [{"value": ada["id"]}]});
    stranger.refuses(Method::POST, GROUPS, foreign, 400, "invalidValue").await;
    // The same names are free in another organization.
    stranger.make(GROUPS, json!({"displayName": "Network", "externalId": "n"})).await;
    stranger.make(USERS, json!({"userName": "ada@acme.example"})).await;

    let accounts = api.get("/api/v1/service-accounts", &api.admin).await.expect(200).json;
    let account = &accounts["items"][0];
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        let body = (method != Method::GET).then(|| json!({"Operations": []}));
        scim.call(method, &one(USERS, account), body).await.expect(404);
    }
    let all = scim.get(USERS).await;
    assert!(all["Resources"].as_array().unwrap().iter().all(|one| one["id"] != account["id"]), "{all}");
    let member = json!([{"op": "add", "path": "members", "value": [{"value": account["id"]}]}]);
    scim.patch(&one(GROUPS, &team), member).await.expect(400);
    // One that a manager has put into the team stays there, whatever a provider says of its members, and shows in no list of them.
    let members = format!("/api/v1/teams/{}/members", team["id"].as_str().unwrap());
    api.post(&members, &api.admin, json!({"user": account["id"]})).await.expect_success();
    let anew = json!({"displayName": "Network", "externalId": "n", "members": [{"value": ada["id"]}]});
    let written = scim.call(Method::PUT, &one(GROUPS, &team), Some(anew)).await.expect(200).json;
    assert_eq!(written["members"].as_array().unwrap().len(), 1, "{written}");
    let path =
        format!("{GROUPS}?filter={}", found(&format!("members eq \"{}\"", account["id"].as_str().unwrap())));
    assert_eq!(scim.get(&path).await["totalResults"], 0);
    let inside = "select count(*) from team_members where team_id = $1 and user_id = $2";
    let id = |of: &Value| of["id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    let mut owner = api.test_db.owner().await;
    let inside: i64 =
        sqlx::query_scalar(inside).bind(id(&team)).bind(id(account)).fetch_one(&mut owner).await.unwrap();
    assert_eq!(inside, 1);
}

/// Who is called what decides whom the provider governs: that is asked for by itself, of oneself too.
#[tokio::test]
async fn names_of_a_provider_are_for_who_manages_people() {
    let api = Api::start().await;
    let role = json!({"name": "Half", "permissions": {"scim.provision": "organization", "tickets.view": "organization"}});
    let role = api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json;
    let grants = format!("/api/v1/user-roles/{}/grants", role["id"].as_str().unwrap());
    let guest = api.organization.end_user.user_id().unwrap();
    api.post(&grants, &api.admin, json!({"user": guest})).await.expect_success();
    let scim = Scim { api: &api, token: api.end_user.clone() };
    let name = json!([{"op": "replace", "path": "externalId", "value": "mine"}]);
    scim.patch(&format!("{USERS}/{guest}"), name).await.expect(403);
}
