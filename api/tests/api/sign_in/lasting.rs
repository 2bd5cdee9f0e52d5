//! How long such a login lasts, and second factors.

use super::world::{PROVIDERS, World, text, verified};
use actions::totp;
use chrono::TimeDelta;
use serde_json::{Value, json};

const REFRESH: &str = "/api/v1/auth/refresh";

async fn refreshed(world: &World, tokens: &Value) -> crate::support::Answer {
    world.api.post(REFRESH, "", json!({"refresh": tokens["refresh"]})).await
}

/// However often it is refreshed: the provider is asked again.
#[tokio::test]
async fn a_login_ends_after_its_hours() {
    let world = World::with(json!({"login_hours": 2})).await;
    let tokens = world.tokens(verified("new@acme.example")).await;
    world.api.test_db.db.clock().shift(TimeDelta::minutes(110));
    let next = refreshed(&world, &tokens).await.expect(200).json;
    world.api.get("/api/v1/users/me", &text(&next["access"])).await.expect(200);
    world.api.test_db.db.clock().shift(TimeDelta::minutes(11));
    world.api.get("/api/v1/users/me", &text(&next["access"])).await.expect(401);
    refreshed(&world, &next).await.expect(401);
}

#[tokio::test]
async fn logins_end_with_their_provider() {
    let world = World::with(json!({})).await;
    let path = format!("{PROVIDERS}/{}", world.provider);
    let tokens = world.tokens(verified("new@acme.example")).await;
    let begun = world.begin().await;
    world.change(json!({"is_enabled": false})).await;
    world.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(401);
    refreshed(&world, &tokens).await.expect(401);
    assert_eq!(world.returns_with(&begun, verified("new@acme.example")).await, "sign_in_error=expired");
    world.change(json!({"is_enabled": true})).await;
    let (tokens, begun) = (world.tokens(verified("new@acme.example")).await, world.begin().await);
    let fragment = world.returns_with(&begun, verified("new@acme.example")).await;
    world.api.delete(&path, &world.api.admin).await.expect(204);
    world.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(401);
    refreshed(&world, &tokens).await.expect(401);
    world.exchange(fragment.strip_prefix("sign_in=").unwrap(), &begun.cookie).await.expect(401);
    assert_eq!(
        (world.count("users").await, world.count("external_identities").await),
        (4, 0),
        "the people stay"
    );
}

/// The provider's word counts for a second factor only where somebody said so.
#[tokio::test]
async fn a_second_factor_is_asked_for_here_or_there() {
    let world = World::with(json!({})).await;
    let organization = format!("/api/v1/organizations/{}", world.api.organization.id);
    let ask = json!({"mfa_required_roles": ["end_user"]});
    world.api.patch(&organization, &world.api.admin, ask).await.expect(200);
    let halfway = world.tokens(verified("new@acme.example")).await;
    assert_eq!((&halfway["mfa_required"], &halfway["must_enrol"]), (&json!(true), &json!(true)), "{halfway}");
    assert_eq!(world.count("sessions").await, 0);
    // It is made, and the login is one by way of the provider all the same.
    let token = json!({"mfa_token": halfway["mfa_token"]});
    let begun = world.api.post("/api/v1/auth/mfa/enable", "", token).await.expect(200).json;
    let secret = crate::mfa::unbase32(&text(&begun["secret"]));
    let now = world.api.test_db.db.begin_system().await.unwrap().now();
    let code = totp::code(&secret, totp::step_at(now));
    let answer = json!({"mfa_token": halfway["mfa_token"], "code": code});
    let tokens = world.api.post("/api/v1/auth/mfa/verify", "", answer).await.expect(200).json;
    world.me(&tokens).await;
    refreshed(&world, &tokens).await.expect(200);
    let halfway = world.tokens(verified("new@acme.example")).await;
    assert_eq!((&halfway["mfa_required"], &halfway["must_enrol"]), (&json!(true), &json!(false)));
    world.change(json!({"is_enabled": false})).await;
    refreshed(&world, &tokens).await.expect(401);
    let later = totp::code(&secret, totp::step_at(now) + 1);
    let answer = json!({"mfa_token": halfway["mfa_token"], "code": later});
    world.api.post("/api/v1/auth/mfa/verify", "", answer).await.expect(401);

    world.change(json!({"is_enabled": true, "trusts_mfa": true})).await;
    let mut claims = verified("other@acme.example");
    claims["sub"] = json!("8");
    let tokens = world.tokens(claims).await;
    world.me(&tokens).await;
    let next = refreshed(&world, &tokens).await.expect(200).json;
    // No longer: at the next refresh they are to make one.
    world.change(json!({"trusts_mfa": false})).await;
    refreshed(&world, &next).await.expect(401);
}

/// Nobody is asked to change a password who has not used one, and may not know it.
#[tokio::test]
async fn a_password_that_an_admin_set_is_no_business_of_a_login_at_the_provider() {
    let world = World::with(json!({})).await;
    let me = world.me(&world.tokens(verified("new@acme.example")).await).await;
    let set = format!("/api/v1/users/{}/set-password", text(&me["id"]));
    world.api.post(&set, &world.api.admin, json!({"password": "what the admin typed"})).await.expect(204);
    let again = world.tokens(verified("new@acme.example")).await;
    assert_eq!(world.me(&again).await["id"], me["id"]);
    let login = json!({"email": "new@acme.example", "password": "what the admin typed"});
    let tokens = world.api.post("/api/v1/auth/login", "", login).await.expect(200).json;
    world.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(403);
}
