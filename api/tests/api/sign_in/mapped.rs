//! Groups of the provider: what they give, what they take, and what they never give.

use super::world::{World, text, verified};
use serde_json::{Value, json};

async fn team(world: &World, name: &str) -> String {
    text(
        &world.api.post("/api/v1/teams", &world.api.admin, json!({"name": name})).await.expect(201).json["id"],
    )
}

fn of(groups: Value) -> Value {
    let mut claims = verified("new@acme.example");
    claims["groups"] = groups;
    claims
}

/// At each login, whoever gave something else meanwhile.
#[tokio::test]
async fn groups_give_and_take() {
    let world = World::with(json!({})).await;
    let (network, night, other) =
        (team(&world, "Network").await, team(&world, "Night").await, team(&world, "Other").await);
    let groups = json!([{"group": "desk", "role": "agent"}, {"group": "/heads", "role": "manager"},
                        {"group": "net", "team": network}, {"group": "night", "team": night}]);
    world.change(json!({"groups_claim": "groups", "groups": groups})).await;
    let teams = async |user: &Value| {
        let mut names = Vec::new();
        for (name, id) in [("network", &network), ("night", &night), ("other", &other)] {
            let members = world
                .api
                .get(&format!("/api/v1/teams/{id}/members"), &world.api.admin)
                .await
                .expect(200)
                .json;
            let mut items = members["items"].as_array().unwrap().iter();
            if items.any(|one| one["user"] == *user || one["id"] == *user) {
                names.push(name);
            }
        }
        names.join(" ")
    };
    let login = async |groups: Value| {
        let tokens = world.tokens(of(groups)).await;
        let me = world.me(&tokens).await;
        (text(&me["role"]), teams(&me["id"]).await, me["id"].clone())
    };
    let (role, of_teams, person) = login(json!(["desk", "net", "unknown"])).await;
    assert_eq!((&*role, &*of_teams), ("agent", "network"));
    // By hand: a role, which the groups replace, and a team that no group stands for, which they leave alone.
    let path = format!("/api/v1/users/{}", text(&person));
    world.api.patch(&path, &world.api.admin, json!({"role": "admin"})).await.expect(200);
    world
        .api
        .post(&format!("/api/v1/teams/{other}/members"), &world.api.admin, json!({"user": person}))
        .await
        .expect_success();
    for (groups, expected) in [
        (json!(["desk", "/heads", "night"]), ("manager", "night other")),
        (json!(["desk", "net", "night"]), ("agent", "network night other")),
        (json!("desk"), ("agent", "other")),
        (json!(["net"]), ("end_user", "other")),
        (json!({"desk": true}), ("end_user", "other")),
        (Value::Null, ("end_user", "other")),
        (json!(["heads", "Desk", "desk "]), ("end_user", "other")),
    ] {
        let (role, of_teams, _) = login(groups.clone()).await;
        assert_eq!((&*role, &*of_teams), expected, "{groups}");
    }
    // A team that is deleted stands for nothing, and is no reason to refuse somebody.
    world.api.delete(&format!("/api/v1/teams/{night}"), &world.api.admin).await.expect(204);
    assert_eq!(login(json!(["desk", "night", "net"])).await.1, "network other");
    // Without a claim they are nobody's business.
    world.change(json!({"groups_claim": null, "groups": []})).await;
    world.api.patch(&path, &world.api.admin, json!({"role": "manager"})).await.expect(200);
    assert_eq!(login(json!(["desk"])).await.0, "manager");
}

#[tokio::test]
async fn groups_do_not_take_the_last_admin_away() {
    let world = World::with(json!({"links_accounts": true, "groups_claim": "groups"})).await;
    assert_eq!(world.refusal(verified("admin@acme.example")).await, "last_admin");
    world.sql("update users set role = 'admin' where role = 'agent'").await;
    let tokens = world.tokens(verified("admin@acme.example")).await;
    assert_eq!(world.me(&tokens).await["role"], "end_user");
}

/// Who administrates the installation was made so by hand.
#[tokio::test]
async fn nobody_administrates_the_platform_by_way_of_a_provider() {
    let world = World::with(json!({"links_accounts": true})).await;
    let path = format!("/api/v1/identity-providers/{}", world.provider);
    let claim = json!({"groups_claim": "groups", "groups": [{"group": "root", "role": "admin"}]});
    world.change(claim.clone()).await;
    world.sql("update organizations set is_operator = true").await;
    assert_eq!(world.refusal(of(json!(["root"]))).await, "not_by_provider");
    assert_eq!(world.count("users").await, 3, "nobody was made");
    assert_eq!(
        world.refusal(verified("admin@acme.example")).await,
        "not_by_provider",
        "no admin is found by an address"
    );
    for wrong in [claim, json!({"groups_claim": null, "groups": [], "default_role": "admin"})] {
        let problem = world.api.patch(&path, &world.api.admin, wrong).await.expect(422).json;
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
        assert!(["/groups/0/role", "/default_role"].contains(&pointer), "{problem}");
    }
    // By way of a team with a role.
    let role = json!({"name": "Root", "permissions": {"platform.manage": "organization", "tickets.work": "organization"}});
    let role = world.api.post("/api/v1/user-roles", &world.api.admin, role).await.expect(201).json;
    let team = team(&world, "Roots").await;
    let grants = format!("/api/v1/user-roles/{}/grants", text(&role["id"]));
    world.api.post(&grants, &world.api.admin, json!({"team": team})).await.expect(201);
    let groups = json!([{"group": "desk", "role": "agent"}, {"group": "root", "team": team}]);
    world.change(json!({"groups": groups})).await;
    assert_eq!(world.refusal(of(json!(["desk", "root"]))).await, "not_by_provider");
    let tokens = world.tokens(of(json!(["desk"]))).await;
    assert_eq!(world.me(&tokens).await["role"], "agent");
    // Given by hand afterwards, it stays: the groups do not touch such people.
    world.sql("update users set role = 'admin' where email = 'new@acme.example'").await;
    let tokens = world.tokens(of(json!(["desk"]))).await;
    assert_eq!(world.me(&tokens).await["role"], "admin");
}
