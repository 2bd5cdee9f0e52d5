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

/// Whether a login is young enough for what would outlive it.
async fn is_fresh(world: &World, tokens: &Value) -> bool {
    let name = format!("token {}", world.count("api_tokens").await);
    let answer = world.api.post("/api/v1/api-tokens", &text(&tokens["access"]), json!({"name": name})).await;
    match answer.status.as_u16() {
        201 => true,
        403 => {
            assert!(text(&answer.json["type"]).ends_with("/reauthentication-required"), "{}", answer.text);
            false
        }
        _ => panic!("{}", answer.text),
    }
}

async fn proven(world: &World, seconds_ago: i64) -> Value {
    let mut claims = verified("new@acme.example");
    claims["auth_time"] =
        json!(world.api.test_db.db.begin_system().await.unwrap().now().timestamp() - seconds_ago);
    claims
}

/// Whoever sits down at a browser that is logged in at the provider since the morning has shown nobody who they are.
#[tokio::test]
async fn a_login_is_as_fresh_as_the_provider_says() {
    let world = World::with(json!({})).await;
    let old = world.tokens(proven(&world, 3600).await).await;
    assert!(!is_fresh(&world, &old).await);
    let next = refreshed(&world, &old).await.expect(200).json;
    assert!(!is_fresh(&world, &next).await, "nor by a refresh");
    let new = world.tokens(proven(&world, 60).await).await;
    assert!(is_fresh(&world, &new).await);
    let next = refreshed(&world, &new).await.expect(200).json;
    world.api.test_db.db.clock().shift(TimeDelta::minutes(9) + TimeDelta::seconds(5));
    assert!(!is_fresh(&world, &next).await, "ten minutes after it was shown there");
    // Who says nothing may have asked nobody: that is fresh for nothing, whatever is set, as long as it was not told to ask.
    let silent = world.tokens(verified("new@acme.example")).await;
    assert!(!is_fresh(&world, &silent).await);
    assert!(!is_fresh(&world, &refreshed(&world, &silent).await.expect(200).json).await, "nor by a refresh");
    world.change(json!({"trusts_reauthentication": true})).await;
    assert!(!is_fresh(&world, &world.tokens(verified("new@acme.example")).await).await);
    for odd in [json!("yesterday"), json!(4_000_000_000_i64)] {
        let mut claims = verified("new@acme.example");
        claims["auth_time"] = odd;
        assert_eq!(world.refusal(claims).await, "invalid_token");
    }
}

/// A factor that is made a moment after an old login at the provider says nothing of who made it; a code of one that was there does.
#[tokio::test]
async fn a_code_shows_who_one_is_unless_its_factor_is_new() {
    let world = World::with(json!({})).await;
    let organization = format!("/api/v1/organizations/{}", world.api.organization.id);
    let ask = json!({"mfa_required_roles": ["end_user"]});
    world.api.patch(&organization, &world.api.admin, ask).await.expect(200);
    let halfway = world.tokens(proven(&world, 3600).await).await;
    let token = json!({"mfa_token": halfway["mfa_token"]});
    let begun = world.api.post("/api/v1/auth/mfa/enable", "", token).await.expect(200).json;
    let secret = crate::mfa::unbase32(&text(&begun["secret"]));
    let verify = async |halfway: &Value, step: i64| {
        let now = world.api.test_db.db.begin_system().await.unwrap().now();
        let code = totp::code(&secret, totp::step_at(now) + step);
        let answer = json!({"mfa_token": halfway["mfa_token"], "code": code});
        world.api.post("/api/v1/auth/mfa/verify", "", answer).await.expect(200).json
    };
    let made = verify(&halfway, 0).await;
    assert!(!is_fresh(&world, &made).await);
    let halfway = world.tokens(proven(&world, 3600).await).await;
    assert!(is_fresh(&world, &verify(&halfway, 1).await).await);
}

#[tokio::test]
async fn a_provider_is_told_to_ask_again_and_has_to_say_that_it_did() {
    let world = World::with(json!({})).await;
    let usual = world.begin().await;
    assert!(!usual.sent.contains_key("prompt") && !usual.sent.contains_key("max_age"));
    let again = async || world.begin_with(&world.provider, "&reauthenticate=true").await;
    let begun = again().await;
    assert_eq!((&*begun.sent["prompt"], &*begun.sent["max_age"]), ("login", "0"));
    let fragment = world.returns_with(&begun, proven(&world, 0).await).await;
    let tokens =
        world.exchange(fragment.strip_prefix("sign_in=").unwrap(), &begun.cookie).await.expect(200).json;
    assert!(is_fresh(&world, &tokens).await);
    // One that goes on with the login that it has, and one that does not say.
    let mut null = verified("new@acme.example");
    null["auth_time"] = Value::Null;
    for (claims, word) in [
        (proven(&world, 3600).await, "not_asked_again"),
        (proven(&world, 300).await, "not_asked_again"),
        (verified("new@acme.example"), "auth_time_missing"),
        (null, "auth_time_missing"),
    ] {
        let refused = world.returns_with(&again().await, claims).await;
        assert_eq!(refused, format!("sign_in_error={word}"));
    }
    // What is said beside the token is no proof.
    world.peer.userinfo({
        let mut said = proven(&world, 0).await;
        said["sub"] = json!("7");
        said
    });
    let refused = world.returns_with(&again().await, json!({"sub": "7"})).await;
    assert_eq!(refused, "sign_in_error=auth_time_missing");
}

/// Of a provider that does what it is told, and does not say so, an admin can set that it is believed; what it says against it counts.
#[tokio::test]
async fn a_provider_that_does_not_say_when_it_asked_is_believed_where_that_is_set() {
    let world = World::with(json!({"trusts_reauthentication": true})).await;
    let again = async || world.begin_with(&world.provider, "&reauthenticate=true").await;
    let begun = again().await;
    world.api.test_db.db.clock().shift(TimeDelta::minutes(4));
    let fragment = world.returns_with(&begun, verified("new@acme.example")).await;
    let code = fragment.strip_prefix("sign_in=").unwrap_or_else(|| panic!("{fragment}"));
    let tokens = world.exchange(code, &begun.cookie).await.expect(200).json;
    assert!(is_fresh(&world, &tokens).await);
    world.api.test_db.db.clock().shift(TimeDelta::minutes(6) + TimeDelta::seconds(5));
    assert!(!is_fresh(&world, &tokens).await, "ten minutes after it was told to ask");
    let refused = world.returns_with(&again().await, proven(&world, 3600).await).await;
    assert_eq!(refused, "sign_in_error=not_asked_again");
    world.change(json!({"trusts_reauthentication": false})).await;
    let refused = world.returns_with(&again().await, verified("new@acme.example")).await;
    assert_eq!(refused, "sign_in_error=auth_time_missing");
}
