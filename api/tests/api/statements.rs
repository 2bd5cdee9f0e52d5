//! How many statements requests send: permissions none beside the one look-up of the person that each request makes anyhow, and a page of a
//! directory as many as one person.

use crate::scim::{GROUPS, Scim, USERS, one};
use crate::support::Api;
use serde_json::json;
use testkit::{count_statements, statements_sent};

#[tokio::test]
async fn permissions_add_no_statements() {
    let api = Api::start().await;
    count_statements();
    let id = api.post("/api/v1/incidents", &api.agent, json!({"title": "one"})).await.expect(201).json["id"]
        .clone();
    let one = format!("/api/v1/incidents/{}", id.as_str().unwrap());
    let paths = ["/api/v1/incidents".to_owned(), one.clone(), "/api/v1/user-permissions".to_owned()];
    let costs = async |token: &str| {
        let mut costs = Vec::new();
        for path in &paths {
            // The first may note that the token was used.
            api.get(path, token).await.expect(200);
            let before = statements_sent();
            api.get(path, token).await.expect(200);
            costs.push(statements_sent() - before);
        }
        costs
    };
    let shipped = costs(&api.agent).await;
    assert!(shipped[0] <= 5, "begin, person by the token, list, what stands beside it, clocks: {shipped:?}");
    assert!(shipped[1] <= 5, "the same for one ticket: {shipped:?}");
    assert!(shipped[2] <= 3, "begin, person by the token, begin: {shipped:?}");
    // Roles, teams and departments come with the person.
    let role =
        json!({"name": "Lead", "permissions": {"tickets.view": "department", "tickets.approve": "team"}});
    let role = api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json["id"].clone();
    let grants = format!("/api/v1/user-roles/{}/grants", role.as_str().unwrap());
    let user = api.organization.agent.user_id();
    api.post(&grants, &api.admin, json!({"user": user})).await.expect(201);
    assert_eq!(costs(&api.agent).await, shipped);
    // Not even for a confidential ticket, where its own fields say that one has a part in it.
    api.patch(&one, &api.agent, json!({"confidential": true})).await.expect(200);
    assert_eq!(costs(&api.agent).await, shipped);
}

/// Whatever the provider lists: people with their teams, teams with or without those who are in them.
#[tokio::test]
async fn a_page_of_a_directory_is_a_fixed_number_of_statements() {
    let api = Api::start().await;
    count_statements();
    let scim = Scim::start(&api).await;
    let team = scim.make(GROUPS, json!({"displayName": "Everybody"})).await;
    let ada = scim.person("ada").await;
    let joins = json!([{"op": "add", "path": "members", "value": [{"value": ada["id"]}]}]);
    scim.patch(&one(GROUPS, &team), joins).await.expect(200);
    let paths = [
        format!("{USERS}?count=200"),
        format!("{USERS}?count=200&attributes=userName"),
        format!("{GROUPS}?count=200"),
        format!("{GROUPS}?count=200&excludedAttributes=members"),
        format!("{}?excludedAttributes=members", one(GROUPS, &team)),
    ];
    let costs = async || {
        let mut costs = Vec::new();
        for path in &paths {
            scim.get(path).await;
            let before = statements_sent();
            scim.get(path).await;
            costs.push(statements_sent() - before);
        }
        costs
    };
    let few = costs().await;
    // What is not asked for is not read.
    assert!(few[1] < few[0] && few[3] < few[2] && few[4] <= few[3], "{few:?}");
    let version = |of: &serde_json::Value| of["meta"]["version"].clone();
    let before = version(&scim.get(&paths[4]).await);
    let mut owner = api.test_db.owner().await;
    for many in [
        "insert into users (id, organization_id, email, name, role, kind, created_at, updated_at)
         select gen_random_uuid(), organization_id, 'p' || n || '@acme.example', 'P' || n, 'agent', 'person', now(), now()
           from teams, generate_series(1, 200) n where id = $1",
        "insert into team_members (organization_id, team_id, user_id, created_at, updated_at)
         select t.organization_id, t.id, u.id, now(), now() from teams t join users u on u.email like 'p%' where t.id = $1",
    ] {
        let team: uuid::Uuid = team["id"].as_str().unwrap().parse().unwrap();
        sqlx::query(many).bind(team).execute(&mut owner).await.unwrap();
    }
    assert_eq!(costs().await, few);
    let page = scim.get(&paths[0]).await;
    assert_eq!(page["Resources"].as_array().unwrap().len(), 200);
    assert!(page["Resources"][199]["groups"][0]["display"] == "Everybody", "{}", page["Resources"][199]);
    // The same version whether its members are shown or not; another one since they came.
    let whole = &scim.get(&paths[2]).await["Resources"][0].clone();
    let short = &scim.get(&paths[3]).await["Resources"][0].clone();
    assert_eq!(whole["members"].as_array().unwrap().len(), 201);
    assert!(short["members"].is_null() && short["displayName"] == "Everybody", "{short}");
    assert!(version(whole) == version(short) && version(short) == version(&scim.get(&paths[4]).await));
    assert_ne!(version(short), before);
}
