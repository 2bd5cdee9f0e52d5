//! Logging in at an identity provider: what works, and all that must not. The provider is one that lies on demand.

mod accounts;
mod configured;
mod forged;
mod lasting;
mod mapped;
mod peer;
mod world;

use crate::support::request;
use axum::http::Method;
use serde_json::json;
use tower::ServiceExt;
use world::{SECRET, World, challenge_of, text, verified};

#[tokio::test]
async fn who_logs_in_there_has_a_login_like_any_other() {
    let world = World::with(json!({})).await;
    let begun = world.begin().await;
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", "relaydesk"),
        ("scope", "openid email profile"),
        ("code_challenge_method", "S256"),
        ("tenant", "a"),
    ] {
        assert_eq!(begun.sent[name], expected, "{name}");
    }
    let redirect = format!("http://127.0.0.1:8080/api/v1/auth/oidc/{}/callback", world.provider);
    assert_eq!(begun.sent["redirect_uri"], redirect);

    let fragment = world.returns_with(&begun, verified("new@acme.example")).await;
    let code = fragment.strip_prefix("sign_in=").unwrap();
    let (form, authorization) = world.peer.asked().pop().unwrap();
    assert_eq!(challenge_of(&form["code_verifier"]), begun.sent["code_challenge"]);
    assert_eq!((&*form["redirect_uri"], form.get("client_secret")), (&*redirect, None));
    // RFC 6749, 2.3.1: encoded as in a form before it is encoded as `Basic` wants it.
    let pair =
        format!("relaydesk:{}", url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>());
    let expected = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    assert_eq!(authorization, format!("Basic {expected}"));

    let tokens = world.exchange(code, &begun.cookie).await.expect(200).json;
    let me = world.me(&tokens).await;
    assert_eq!(
        (&me["email"], &me["name"], &me["role"]),
        (&json!("new@acme.example"), &json!("Ada Lovelace"), &json!("end_user"))
    );
    let access = text(&tokens["access"]);
    let sessions = world.api.get("/api/v1/auth/sessions", &access).await.expect(200).json;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    let refresh = json!({"refresh": tokens["refresh"]});
    let next = world.api.post("/api/v1/auth/refresh", "", refresh.clone()).await.expect(200).json;
    let told = world.api.events("auth.login").await.pop().unwrap();
    assert_eq!((&told["provider"], &told["by"]), (&json!(world.provider), &json!("identity provider")));

    // The same person, whatever their address is by now.
    let again = world.tokens(verified("married@acme.example")).await;
    assert_eq!(world.me(&again).await["id"], me["id"]);
    assert_eq!(world.count("external_identities").await, 1);

    world.api.call(Method::POST, "/api/v1/auth/logout", &text(&again["access"]), None).await.expect(204);
    world.api.get("/api/v1/users/me", &text(&again["access"])).await.expect(401);
    // A refresh token that is shown twice ends this login as well.
    world.api.post("/api/v1/auth/refresh", "", refresh).await.expect(401);
    world.api.get("/api/v1/users/me", &text(&next["access"])).await.expect(401);
}

#[tokio::test]
async fn a_page_learns_where_people_may_log_in() {
    let world = World::with(json!({})).await;
    let list = world.api.get("/api/v1/auth/oidc", "").await.expect(200).json;
    let start = format!("/api/v1/auth/oidc/{}/start", world.provider);
    assert_eq!(list["items"], json!([{"id": world.provider, "name": "Acme account", "start": start}]));
    testkit::organization(&world.api.test_db, "globex").await;
    // Of several it has to be named, and nobody learns which there are.
    for (organization, many) in
        [("", 0), ("?organization=acme", 1), ("?organization=globex", 0), ("?organization=none", 0)]
    {
        let list = world.api.get(&format!("/api/v1/auth/oidc{organization}"), "").await.expect(200).json;
        assert_eq!(list["items"].as_array().unwrap().len(), many, "{organization}");
    }
    world.change(json!({"is_enabled": false})).await;
    let list = world.api.get("/api/v1/auth/oidc?organization=acme", "").await.expect(200).json;
    assert_eq!(list["items"], json!([]));
    world.api.get(&start, "").await.expect(404);
}

#[tokio::test]
async fn the_address_to_go_on_to_is_a_path_of_ours() {
    let world = World::with(json!({})).await;
    for elsewhere in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "evil",
        "/%23a",
        "/%0d%0aa:b",
    ] {
        let path = format!("/api/v1/auth/oidc/{}/start?return_to={elsewhere}", world.provider);
        let problem = world.api.get(&path, "").await.expect(422).json;
        assert_eq!(problem["errors"][0]["pointer"], "/return_to", "{elsewhere}");
    }
    assert_eq!((world.count("sign_ins").await, world.peer.discoveries()), (0, 0));
}

/// What the token leaves out is asked of the userinfo endpoint; of the same person only.
#[tokio::test]
async fn what_the_token_leaves_out_is_asked_for() {
    let world = World::with(json!({})).await;
    let mut said = verified("new@acme.example");
    said["sub"] = json!("8");
    world.peer.userinfo(said.clone());
    assert_eq!(world.refusal(json!({"sub": "7"})).await, "invalid_token");
    said["sub"] = json!("7");
    world.peer.userinfo(said);
    let tokens = world.tokens(json!({"sub": "7"})).await;
    assert_eq!(world.me(&tokens).await["email"], "new@acme.example");
    // An address of the token is not called verified by what is said of another one.
    let claims = json!({"sub": "9", "email": "boss@acme.example"});
    world.peer.userinfo(json!({"sub": "9", "email": "x@acme.example", "email_verified": true, "name": "X"}));
    assert_eq!(world.refusal(claims).await, "email_not_verified");
}

/// Who fails again and again waits, as with passwords: each login costs a provider, and us, a few requests.
#[tokio::test]
async fn who_begins_again_and_again_waits() {
    let world = World::with(json!({})).await;
    let path = format!("/api/v1/auth/oidc/{}/start", world.provider);
    let mut tries = 0;
    while world.api.get(&path, "").await.status != 429 {
        tries += 1;
        assert!(tries < 1000, "nobody ever waits");
    }
    assert!(tries >= 100, "a whole office may come in the morning: {tries}");
    assert_eq!(world.peer.discoveries(), tries, "who waits costs the provider nothing");
}

/// The cookie is of this host alone, and no script sees it.
#[tokio::test]
async fn the_cookie_is_bound_to_the_host() {
    let world = World::with(json!({})).await;
    let settings = api::Settings { base_url: "https://desk.acme.example".into(), ..api::Settings::default() };
    let mut state = world.api.state.clone();
    state.settings = std::sync::Arc::new(settings);
    let request = request(Method::GET, &format!("/api/v1/auth/oidc/{}/start", world.provider), "", None);
    let answer = api::app(state).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-relaydesk-sign-in-"), "{cookie}");
    for part in ["; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
}
