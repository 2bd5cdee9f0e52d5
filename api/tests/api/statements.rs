//! What permissions cost: nothing beside the one look-up of the person that each request makes anyhow.

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
