//! Which account somebody gets: their own, by a verified address, a new one, or none.

use super::world::{World, text, verified};
use axum::http::Method;
use serde_json::{Value, json};

/// An address that nobody has verified takes over no account, however the provider is configured.
#[tokio::test]
async fn an_unverified_address_takes_nothing_over() {
    let world = World::with(json!({"links_accounts": true, "assumes_verified_email": true})).await;
    for (said, assumed, expected) in [
        (json!({"email_verified": false}), true, "email_not_verified"),
        (json!({"email_verified": "false"}), true, "email_not_verified"),
        (json!({}), false, "email_not_verified"),
        (json!({"email_verified": Value::Null}), false, "email_not_verified"),
        (json!({"email": "no address", "email_verified": true}), true, "email_not_verified"),
    ] {
        world.change(json!({"assumes_verified_email": assumed})).await;
        let mut claims = json!({"email": "agent@acme.example", "name": "Agent"});
        claims.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        assert_eq!(world.refusal(claims).await, expected, "{said}");
    }
    assert_eq!((world.count("users").await, world.count("external_identities").await), (3, 0));
    // A provider that gives nobody an address of somebody else may leave it unsaid.
    world.change(json!({"assumes_verified_email": true})).await;
    let tokens = world.tokens(json!({"email": "agent@acme.example", "name": "Agent"})).await;
    assert_eq!(world.me(&tokens).await["id"], json!(world.api.organization.agent.user_id().unwrap()));
    assert_eq!(world.api.events("user.identity_linked").await.len(), 1);
}

#[tokio::test]
async fn accounts_are_linked_and_made_only_where_that_is_wanted() {
    let world = World::with(json!({"creates_users": false})).await;
    assert_eq!(world.refusal(verified("agent@acme.example")).await, "account_exists");
    assert_eq!(world.refusal(verified("new@acme.example")).await, "no_account");
    world.change(json!({"creates_users": true, "default_role": "agent"})).await;
    let tokens = world.tokens(verified("new@acme.example")).await;
    assert_eq!(world.me(&tokens).await["role"], "agent");
    world.change(json!({"links_accounts": true, "creates_users": false})).await;
    // The account is the provider's subject 7 by now; another subject with its address is somebody else.
    let mut claims = verified("new@acme.example");
    claims["sub"] = json!("8");
    assert_eq!(world.refusal(claims.clone()).await, "account_exists");
    let person = text(&world.me(&tokens).await["id"]);
    let identities = format!("/api/v1/users/{person}/identities");
    let list = world.api.get(&identities, &world.api.admin).await.expect(200).json;
    assert_eq!(
        (&list["items"][0]["subject"], &list["items"][0]["provider"]),
        (&json!("7"), &json!(world.provider))
    );
    world.api.get(&identities, &text(&tokens["access"])).await.expect(200);
    world.api.get(&identities, &world.api.end_user).await.expect(403);
    let one = format!("{identities}/{}", text(&list["items"][0]["id"]));
    world.api.delete(&one, &text(&tokens["access"])).await.expect(403);
    world.api.delete(&one, &world.api.admin).await.expect(204);
    world.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(401);
    let anew = world.tokens(claims).await;
    assert_eq!(world.me(&anew).await["id"], json!(person));
}

/// Twice at once for the first time: one person.
#[tokio::test]
async fn the_first_login_makes_one_person() {
    let world = World::with(json!({})).await;
    let (one, two) = (world.begin().await, world.begin().await);
    for (code, begun) in [("one", &one), ("two", &two)] {
        let token = world.peer.signed(&world.claims(begun, verified("new@acme.example")).await);
        world.peer.answer(code, token);
    }
    let (first, second) = (format!("state={}&code=one", one.state), format!("state={}&code=two", two.state));
    let (first, second) = tokio::join!(
        world.returns(&world.provider, &one.cookie, &first),
        world.returns(&world.provider, &two.cookie, &second),
    );
    assert!(first.starts_with("sign_in=") && second.starts_with("sign_in="), "{first} {second}");
    assert_eq!((world.count("users").await, world.count("external_identities").await), (4, 1));
}

#[tokio::test]
async fn only_addresses_of_the_domains_get_in() {
    let world = World::with(json!({"email_domains": ["Acme.example"]})).await;
    for (email, expected) in [
        ("new@evil.example", "domain_not_allowed"),
        ("new@acme.example.evil.example", "domain_not_allowed"),
        ("new@sub.acme.example", "domain_not_allowed"),
        ("new@acme.example@evil.example", "email_not_verified"),
    ] {
        assert_eq!(world.refusal(verified(email)).await, expected, "{email}");
    }
    world.tokens(verified("new@ACME.example")).await;
    // At each login: who has left the domain has left.
    assert_eq!(world.refusal(verified("new@evil.example")).await, "domain_not_allowed");
    assert_eq!(
        world.refusal(json!({"sub": "7", "name": "x", "email": "new@acme.example"})).await,
        "email_not_verified"
    );
}

#[tokio::test]
async fn closed_accounts_stay_closed() {
    let world = World::with(json!({"links_accounts": true})).await;
    let agent = world.api.organization.agent.user_id().unwrap();
    let path = format!("/api/v1/users/{agent}");
    let lock = async |verb: &str| {
        world.api.call(Method::POST, &format!("{path}/{verb}"), &world.api.admin, None).await.expect_success()
    };
    lock("lock").await;
    assert_eq!(world.refusal(verified("agent@acme.example")).await, "account_closed");
    lock("unlock").await;
    // Locked between the two steps.
    let begun = world.begin().await;
    let fragment = world.returns_with(&begun, verified("agent@acme.example")).await;
    lock("lock").await;
    world.exchange(fragment.strip_prefix("sign_in=").unwrap(), &begun.cookie).await.expect(401);
    assert_eq!(world.refusal(verified("agent@acme.example")).await, "account_closed", "known by now");
    lock("unlock").await;
    let tokens = world.tokens(verified("agent@acme.example")).await;
    world.api.patch(&path, &world.api.admin, json!({"is_active": false})).await.expect(200);
    world.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(401);
    assert_eq!(world.refusal(verified("agent@acme.example")).await, "account_closed");

    // Deleted, they do not come back as somebody new, by their subject or by their address.
    world.api.delete(&path, &world.api.admin).await.expect_success();
    assert_eq!(world.refusal(verified("agent@acme.example")).await, "account_closed");
    let mut anew = verified("agent@acme.example");
    anew["sub"] = json!("8");
    assert_eq!(world.refusal(anew).await, "account_closed");
    assert_eq!(world.count("users").await, 3);

    // A program is nobody who logs in.
    let robot = json!({"name": "robot", "role": "admin", "owner": world.api.organization.admin.user_id()});
    world.api.post("/api/v1/service-accounts", &world.api.admin, robot).await.expect(201);
    world.sql("update users set email = 'robot@acme.example' where kind = 'service'").await;
    let mut claims = verified("robot@acme.example");
    claims["sub"] = json!("9");
    assert_eq!(world.refusal(claims).await, "account_closed");
}

#[tokio::test]
async fn a_suspended_organization_lets_nobody_in() {
    let world = World::with(json!({})).await;
    let (begun, before) = (world.begin().await, world.begin().await);
    let fragment = world.returns_with(&before, verified("new@acme.example")).await;
    world.sql("update organizations set suspended_at = now(), suspended_for = 'unpaid'").await;
    assert_eq!(world.returns_with(&begun, verified("new@acme.example")).await, "sign_in_error=suspended");
    world.exchange(fragment.strip_prefix("sign_in=").unwrap(), &before.cookie).await.expect(403);
    world.api.get(&format!("/api/v1/auth/oidc/{}/start", world.provider), "").await.expect(403);
    assert_eq!(world.count("sessions").await, 0);
}
