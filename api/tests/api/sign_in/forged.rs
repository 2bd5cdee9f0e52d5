//! Attacks: tokens that prove nothing, answers of another login, browser, provider or tenant, and providers that do not answer.

use super::peer::{Manner, Peer, unsigned};
use super::world::{SECRET, World, add, text, verified};
use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::time::Duration;

impl World {
    /// Nobody was made, linked or logged in.
    async fn stays_as_it_was(&self) {
        assert_eq!((self.count("users").await, self.count("sessions").await), (3, 0));
        assert_eq!(self.count("external_identities").await, 0);
    }
}

#[tokio::test]
async fn tokens_that_prove_nothing() {
    let world = World::with(json!({})).await;
    let now = world.api.test_db.db.begin_system().await.unwrap().now().timestamp();
    for (what, wrong) in [
        ("another audience", json!({"aud": "somebody-else"})),
        ("an audience besides", json!({"aud": ["relaydesk", "somebody-else"]})),
        ("no audience", json!({"aud": Value::Null})),
        ("another party", json!({"azp": "somebody-else"})),
        ("a party that is no text", json!({"azp": 7})),
        ("another issuer", json!({"iss": "https://id.example"})),
        ("nearly the issuer", json!({"iss": format!("{}/", world.peer.issuer())})),
        ("no issuer", json!({"iss": Value::Null})),
        ("another nonce", json!({"nonce": "of another login"})),
        ("no nonce", json!({"nonce": Value::Null})),
        ("expired", json!({"iat": now - 600, "exp": now - 1})),
        ("no end", json!({"exp": Value::Null})),
        ("from the future", json!({"iat": now + 600, "exp": now + 900})),
        ("no subject", json!({"sub": Value::Null})),
        ("an empty subject", json!({"sub": ""})),
    ] {
        let mut claims = verified("new@acme.example");
        claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(world.refusal(claims).await, "invalid_token", "{what}");
    }
    let told = world.api.events("auth.login_failed").await;
    assert!(told.len() == 15 && told.iter().all(|one| one["reason"] == "invalid_token"), "{told:?}");
    world.stays_as_it_was().await;
}

#[tokio::test]
async fn signatures_that_are_none() {
    let world = World::with(json!({})).await;
    let other = Peer::start().await;
    let begun = world.begin().await;
    let claims = world.claims(&begun, verified("new@acme.example")).await;
    let good = world.peer.signed(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let boss = world.peer.signed(&world.claims(&begun, verified("boss@acme.example")).await);
    let swapped = format!("{}.{}.{}", parts[0], boss.split('.').nth(1).unwrap(), parts[2]);
    for (what, token) in [
        ("none", unsigned(&claims)),
        ("none, with a signature", format!("{}{}", unsigned(&claims), parts[2])),
        ("the public key as a secret", world.peer.signed_with_secret(&claims, world.peer.public_key())),
        ("the client's secret", world.peer.signed_with_secret(&claims, SECRET.as_bytes())),
        ("an empty secret", world.peer.signed_with_secret(&claims, b"")),
        ("another key of the same name", other.signed(&claims)),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("claims of another token", swapped),
        ("no token", "x".to_owned()),
    ] {
        let begun = world.begin().await;
        let fragment = world.returns_with_token(&begun, token).await;
        assert_eq!(fragment, "sign_in_error=invalid_token", "{what}");
    }
    world.stays_as_it_was().await;
}

#[tokio::test]
async fn a_state_is_good_once_and_in_its_browser() {
    let world = World::with(json!({})).await;
    let (begun, other) = (world.begin().await, world.begin().await);
    let token = world.peer.signed(&world.claims(&begun, verified("new@acme.example")).await);
    world.peer.answer("a-code", token.clone());
    let query = format!("state={}&code=a-code", begun.state);
    for (what, cookie, query) in [
        ("no cookie", String::new(), query.clone()),
        ("the cookie of another login", other.cookie.clone(), query.clone()),
        ("an invented cookie", "relaydesk-sign-in-x=y".to_owned(), query.clone()),
        ("a state of another login", begun.cookie.clone(), format!("state={}&code=a-code", other.state)),
        ("no state", begun.cookie.clone(), "code=a-code".to_owned()),
        ("an invented state", begun.cookie.clone(), "state=x&code=a-code".to_owned()),
    ] {
        let fragment = world.returns(&world.provider, &cookie, &query).await;
        assert_eq!(fragment, "sign_in_error=expired", "{what}");
    }
    assert!(world.peer.asked().is_empty(), "no code is shown to the provider before it is known whose it is");
    // None of that has used the state up; its own browser does, whatever comes of it.
    assert!(world.returns(&world.provider, &begun.cookie, &query).await.starts_with("sign_in="));
    world.peer.answer("a-code", token);
    assert_eq!(world.returns(&world.provider, &begun.cookie, &query).await, "sign_in_error=expired");

    let late = world.begin().await;
    world.api.test_db.db.clock().shift(TimeDelta::seconds(601));
    assert_eq!(world.returns_with(&late, verified("new@acme.example")).await, "sign_in_error=expired");
}

/// The provider's code is shown once; ours too, within a minute, in the browser that began.
#[tokio::test]
async fn codes_are_good_once() {
    let world = World::with(json!({})).await;
    let begun = world.begin().await;
    let ours = world.returns_with(&begun, verified("new@acme.example")).await;
    let again = world.begin().await;
    let replayed = format!("state={}&code=a-code", again.state);
    let fragment = world.returns(&world.provider, &again.cookie, &replayed).await;
    assert_eq!(fragment, "sign_in_error=provider_failed", "the provider knows the code no longer");

    let code = ours.strip_prefix("sign_in=").unwrap();
    world.exchange(code, "").await.expect(401);
    world.exchange(code, &again.cookie).await.expect(401);
    world.exchange("rdc_invented", &begun.cookie).await.expect(401);
    let (one, two) = tokio::join!(world.exchange(code, &begun.cookie), world.exchange(code, &begun.cookie));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);

    let begun = world.begin().await;
    let late = world.returns_with(&begun, verified("new@acme.example")).await;
    world.api.test_db.db.clock().shift(TimeDelta::seconds(61));
    world.exchange(late.strip_prefix("sign_in=").unwrap(), &begun.cookie).await.expect(401);
}

/// Mix-up (RFC 9207, RFC 9700 4.4): an answer counts only at the provider that was asked.
#[tokio::test]
async fn answers_of_another_provider() {
    let world = World::with(json!({})).await;
    let evil = Peer::start().await;
    let second = add(&world.api, &world.api.admin, evil.issuer(), json!({"name": "Second"})).await;
    let begun = world.begin().await;
    let honest = world.peer.signed(&world.claims(&begun, verified("new@acme.example")).await);
    world.peer.answer("a-code", honest);
    let query = format!("state={}&code=a-code", begun.state);
    assert_eq!(world.returns(&second, &begun.cookie, &query).await, "sign_in_error=expired");
    assert!(evil.asked().is_empty(), "no code of one is shown to the other");
    let wrong = format!("{query}&iss={}", evil.issuer());
    assert_eq!(world.returns(&world.provider, &begun.cookie, &wrong).await, "sign_in_error=invalid_token");
    assert!(world.peer.asked().is_empty());
    // Named as it should be, and with what else providers add.
    let begun = world.begin().await;
    world.peer.answer("a-code", world.peer.signed(&world.claims(&begun, verified("new@acme.example")).await));
    let right =
        format!("state={}&code=a-code&iss={}&session_state=x&scope=openid", begun.state, world.peer.issuer());
    assert!(world.returns(&world.provider, &begun.cookie, &right).await.starts_with("sign_in="));
    // A token of the second, signed by it, says it is the first's.
    let begun = world.begin_at(&second).await;
    let mut claims = world.claims(&begun, verified("admin@acme.example")).await;
    evil.answer("a-code", evil.signed(&claims));
    let query = format!("state={}&code=a-code", begun.state);
    assert_eq!(world.returns(&second, &begun.cookie, &query).await, "sign_in_error=invalid_token");
    // The same subject at another provider is another person.
    let begun = world.begin_at(&second).await;
    claims["iss"] = json!(evil.issuer());
    claims["nonce"] = json!(begun.nonce);
    claims["email"] = json!("other@acme.example");
    evil.answer("a-code", evil.signed(&claims));
    let query = format!("state={}&code=a-code", begun.state);
    assert!(world.returns(&second, &begun.cookie, &query).await.starts_with("sign_in="));
    assert_eq!(world.count("external_identities").await, 2);
}

/// A provider that always says who it is has said so (RFC 9207, 2.4): who leaves it out has something to hide.
#[tokio::test]
async fn an_answer_without_the_name_that_its_provider_always_gives() {
    let world = World::with(json!({})).await;
    world.peer.behave(Manner::With(json!({"authorization_response_iss_parameter_supported": true})));
    let begun = world.begin().await;
    assert_eq!(world.returns_with(&begun, verified("new@acme.example")).await, "sign_in_error=invalid_token");
    assert!(world.peer.asked().is_empty(), "the code is not shown");
    let begun = world.begin().await;
    world.peer.answer("a-code", world.peer.signed(&world.claims(&begun, verified("new@acme.example")).await));
    let named = format!("state={}&code=a-code&iss={}", begun.state, world.peer.issuer());
    assert!(world.returns(&world.provider, &begun.cookie, &named).await.starts_with("sign_in="));
}

/// A neighbouring host (evil.acme.example) sets a cookie for all of acme.example, and sends somebody to the end of its own login: they would be
/// logged in as the attacker, and write what they write for them to read. Browsers keep the guarded name from it.
#[tokio::test]
async fn a_cookie_that_a_neighbour_planted() {
    let mut world = World::with(json!({})).await;
    let mut state = world.api.state.clone();
    let settings = api::Settings { base_url: "https://desk.acme.example".into(), ..api::Settings::default() };
    state.settings = std::sync::Arc::new(settings);
    world.api.router = api::app(state);
    let begun = world.begin().await;
    let planted = begun.cookie.strip_prefix("__Host-").expect("the guarded name").to_owned();
    world.peer.answer("a-code", world.peer.signed(&world.claims(&begun, verified("new@acme.example")).await));
    let query = format!("state={}&code=a-code", begun.state);
    assert_eq!(world.returns(&world.provider, &planted, &query).await, "sign_in_error=expired");
    assert!(world.peer.asked().is_empty());
    let ours = world.returns(&world.provider, &begun.cookie, &query).await;
    let code = ours.strip_prefix("sign_in=").unwrap();
    world.exchange(code, &planted).await.expect(401);
    world.exchange(code, &begun.cookie).await.expect(200);
}

/// The kelvin sign's lower case is a plain k: an address that only looks like the boss's is not hers.
#[tokio::test]
async fn an_address_that_only_looks_like_somebodys() {
    let world = World::with(json!({"links_accounts": true, "creates_users": false})).await;
    world.sql("update users set email = 'k@acme.example' where role = 'admin'").await;
    assert_eq!(world.refusal(verified("\u{212a}@acme.example")).await, "email_not_verified");
    world.stays_as_it_was().await;
}

/// Two tenants with the same issuer and client: who comes in at one has nothing at the other.
#[tokio::test]
async fn the_provider_of_another_tenant() {
    let world = World::with(json!({"links_accounts": true})).await;
    let other = testkit::organization(&world.api.test_db, "globex").await;
    let stranger = crate::support::token_of(&world.api.test_db, &other.admin).await;
    let theirs = add(&world.api, &stranger, world.peer.issuer(), json!({"links_accounts": true})).await;
    let begun = world.begin_at(&theirs).await;
    world
        .peer
        .answer("a-code", world.peer.signed(&world.claims(&begun, verified("admin@acme.example")).await));
    let query = format!("state={}&code=a-code", begun.state);
    assert_eq!(world.returns(&world.provider, &begun.cookie, &query).await, "sign_in_error=expired");
    let fragment = world.returns(&theirs, &begun.cookie, &query).await;
    let tokens =
        world.exchange(fragment.strip_prefix("sign_in=").unwrap(), &begun.cookie).await.expect(200).json;
    let me = world.me(&tokens).await;
    assert_eq!((&me["role"], &me["email"]), (&json!("end_user"), &json!("admin@acme.example")));
    let admin = world.api.organization.admin.user_id().unwrap();
    assert_ne!(me["id"], json!(admin), "the admin of the other one has only the address in common");
    world.api.get(&format!("/api/v1/users/{admin}"), &text(&tokens["access"])).await.expect(403);
}

#[tokio::test]
async fn what_the_person_or_the_provider_refuses() {
    let world = World::with(json!({})).await;
    let begun = world.begin().await;
    let query = format!("state={}&error=access_denied&error_description=%3Cscript%3E", begun.state);
    assert_eq!(world.returns(&world.provider, &begun.cookie, &query).await, "sign_in_error=denied");
    let begun = world.begin().await;
    let none = format!("state={}", begun.state);
    assert_eq!(world.returns(&world.provider, &begun.cookie, &none).await, "sign_in_error=invalid_token");
    assert!(world.peer.asked().is_empty());
}

/// 1 GB, no answer, another place, another issuer: nothing but a login that fails, and no request to where we do not go.
#[tokio::test]
async fn providers_that_do_not_answer_as_they_should() {
    let mut world = World::with(json!({})).await;
    let inside = testkit::sinks::HttpSink::start().await;
    let mut state = world.api.state.clone();
    let settings = api::Settings { provider_timeout: Duration::from_secs(1), ..api::Settings::default() };
    state.settings = std::sync::Arc::new(settings);
    world.api.router = api::app(state);
    let start = format!("/api/v1/auth/oidc/{}/start?return_to=/a", world.provider);
    for manner in [
        Manner::Endless,
        Manner::Silent,
        Manner::Redirect(inside.url("/")),
        Manner::Text("<html>".into()),
        Manner::Text("{}".into()),
        Manner::With(json!({"issuer": "https://id.example"})),
        Manner::With(json!({"jwks_uri": "http://192.168.0.1/jwks"})),
        Manner::With(json!({"jwks_uri": "https://192.168.0.1/jwks"})),
        Manner::With(json!({"jwks_uri": "https://169.254.169.254/latest/meta-data"})),
        Manner::With(json!({"jwks_uri": "file:///etc/passwd"})),
        Manner::With(json!({"authorization_endpoint": "javascript:alert(1)"})),
        Manner::With(json!({"authorization_endpoint": "http://evil.example/"})),
    ] {
        world.peer.behave(manner.clone());
        let answer = world.api.get(&start, "").await.expect(303);
        assert_eq!(answer.header("location"), "/a#sign_in_error=provider_failed", "{manner:?}");
        assert_eq!(answer.header("set-cookie"), "", "{manner:?}");
    }
    // Where the code, our secret and the provider's token would go.
    for (field, url) in [
        ("token_endpoint", "http://192.168.0.1/token"),
        ("token_endpoint", "https://192.168.0.1/token"),
        ("userinfo_endpoint", "https://10.0.0.1/userinfo"),
    ] {
        world.peer.behave(Manner::Usual);
        let begun = world.begin().await;
        world.peer.behave(Manner::With(json!({field: url})));
        assert_eq!(world.returns_with(&begun, json!({})).await, "sign_in_error=provider_failed", "{url}");
    }
    assert!(inside.requests().is_empty(), "redirects are not followed");
    world.stays_as_it_was().await;
}

/// A tenant's provider does not reach into the operator's network, unless the operator allows it.
#[tokio::test]
async fn private_addresses_are_the_operators_to_allow() {
    let mut world = World::with(json!({})).await;
    let closed = connectors::http::Client::new(connectors::http::Destinations::default()).unwrap();
    world.api.router = api::app(world.api.state.clone().with_outgoing(closed));
    let start = format!("/api/v1/auth/oidc/{}/start", world.provider);
    let answer = world.api.call(Method::GET, &start, "", None).await.expect(303);
    assert_eq!(answer.header("location"), "/#sign_in_error=provider_failed");
    assert_eq!(world.peer.discoveries(), 0);
}
