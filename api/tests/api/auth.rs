//! Logging in, staying in, logging out; forged tokens.

use crate::support::{Api, request};
use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Connection;

const PASSWORD: &str = "correct horse battery";

async fn logged_in(api: &Api) -> (String, String) {
    api.set_password(api.organization.admin.user_id().unwrap(), PASSWORD).await;
    let body = json!({"email": "Admin@ACME.example", "password": PASSWORD});
    let answer = api.post("/api/v1/auth/login", "", body).await.expect(200);
    assert_eq!(answer.json["expires_in"], 900);
    pair(&answer.json)
}

fn pair(json: &Value) -> (String, String) {
    (json["access"].as_str().unwrap().to_owned(), json["refresh"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn login_refresh_logout() {
    let api = Api::start().await;
    let (access, refresh) = logged_in(&api).await;
    let me = api.get("/api/v1/users/me", &access).await.expect(200);
    assert_eq!(me.json["email"], "admin@acme.example");
    assert_eq!(me.json["role"], "admin");

    let (access2, refresh2) =
        pair(&api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh})).await.expect(200).json);
    api.get("/api/v1/users/me", &access2).await.expect(200);
    let state = api.post("/api/v1/auth/verify-token", "", json!({"token": access2})).await.expect(200);
    assert_eq!(state.json["valid"], true);

    // At once, for the access token too.
    api.call(Method::POST, "/api/v1/auth/logout", &access2, None).await.expect(204);
    api.get("/api/v1/users/me", &access).await.expect(401);
    api.get("/api/v1/users/me", &access2).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh2})).await.expect(401);
    let state = api.post("/api/v1/auth/verify-token", "", json!({"token": access2})).await.expect(200);
    assert_eq!(state.json, json!({"valid": false}));
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_login() {
    let api = Api::start().await;
    let (_, refresh) = logged_in(&api).await;
    let attempts = (0..1000).map(|_| api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh})));
    let answers = futures::future::join_all(attempts).await;
    let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(winners.len(), 1, "exactly one winner");
    // 503: no connection was free for five seconds.
    assert!(answers.iter().all(|answer| [200, 401, 503].contains(&answer.status.as_u16())));
    assert_eq!(api.events("auth.refresh_reused").await.len(), 1);
    let (access, refresh) = pair(&winners[0].json);
    api.get("/api/v1/users/me", &access).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh})).await.expect(401);
}

#[tokio::test]
async fn a_wrong_login_says_nothing() {
    let api = Api::start().await;
    api.set_password(api.organization.admin.user_id().unwrap(), PASSWORD).await;
    let mut texts = Vec::new();
    for (email, password) in [
        ("admin@acme.example", "wrong"),
        ("nobody@acme.example", PASSWORD),
        ("agent@acme.example", PASSWORD), // has none
        ("not an address", PASSWORD),
    ] {
        let answer = api
            .post("/api/v1/auth/login", "", json!({"email": email, "password": password}))
            .await
            .expect(401);
        texts.push(answer.json["detail"].as_str().unwrap().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let wrong = json!({"email": "admin@acme.example", "password": PASSWORD, "organization": "elsewhere"});
    api.post("/api/v1/auth/login", "", wrong).await.expect(401);
    let right = json!({"email": "admin@acme.example", "password": PASSWORD, "organization": "acme"});
    api.post("/api/v1/auth/login", "", right).await.expect(200);
}

#[tokio::test]
async fn the_same_address_in_two_organizations_asks_which() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let hash = actions::credentials::hash_password(&PASSWORD.into(), "/password").await.unwrap();
    let mut owner = api.test_db.owner().await;
    sqlx::query("update users set email = 'both@x.example', password_hash = $1 where role = 'admin'")
        .bind(&hash)
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();
    let login = |organization: Option<&str>| {
        let mut body = json!({"email": "both@x.example", "password": PASSWORD});
        if let Some(slug) = organization {
            body["organization"] = slug.into();
        }
        api.post("/api/v1/auth/login", "", body)
    };
    let answer = login(None).await.expect(422);
    assert_eq!(answer.json["errors"][0]["pointer"], "/organization");
    let (access, _) = pair(&login(Some("globex")).await.expect(200).json);
    let own = api.get("/api/v1/organizations", &access).await.expect(200);
    assert_eq!(own.json["items"][0]["id"], other.id.to_string());
}

#[tokio::test]
async fn a_changed_password_ends_the_other_logins() {
    let api = Api::start().await;
    let (access, _) = logged_in(&api).await;
    let login = json!({"email": "admin@acme.example", "password": PASSWORD});
    let (other, _) = pair(&api.post("/api/v1/auth/login", "", login.clone()).await.expect(200).json);
    let change = |current: &str, new: &str| {
        api.post(
            "/api/v1/auth/change-password",
            &access,
            json!({"current_password": current, "new_password": new}),
        )
    };
    assert_eq!(
        change("wrong", "another long one").await.expect(422).json["errors"][0]["pointer"],
        "/current_password"
    );
    assert_eq!(change(PASSWORD, "short").await.expect(422).json["errors"][0]["pointer"], "/new_password");
    change(PASSWORD, "another long one").await.expect(204);
    api.get("/api/v1/users/me", &access).await.expect(200);
    api.get("/api/v1/users/me", &other).await.expect(401);
    api.post("/api/v1/auth/login", "", login).await.expect(401);
    let changed_by: Vec<uuid::Uuid> =
        sqlx::query_scalar("select actor_id from events where kind = 'user.password_set'")
            .fetch_all(&mut api.test_db.owner().await)
            .await
            .unwrap();
    assert_eq!(changed_by, [api.organization.admin.user_id().unwrap().0]);
}

#[tokio::test]
async fn deactivation_and_new_roles_count_at_once() {
    let api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    let path = format!("/api/v1/users/{agent}");
    api.get("/api/v1/users", &api.agent).await.expect(200);
    api.patch(&path, &api.admin, json!({"role": "end_user"})).await.expect(200);
    api.get("/api/v1/users", &api.agent).await.expect(403);
    api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200);
    api.get("/api/v1/users/me", &api.agent).await.expect(401);
}

fn b64(value: &Value) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

/// H15: nothing forged or bent is accepted.
#[tokio::test]
async fn forged_access_tokens_are_refused() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let api = Api::start().await;
    let (good, _) = logged_in(&api).await;
    let claims = api.state.keys.check(&good).unwrap();
    let claims = serde_json::to_value(claims).unwrap();
    let other = testkit::organization(&api.test_db, "globex").await;
    let (header, payload, signature) = {
        let mut parts = good.split('.').map(str::to_owned);
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
    };
    let with = |changes: Value| {
        let mut changed = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            changed[name] = value.clone();
        }
        changed
    };
    let kid = api.state.keys.ids().next().unwrap().to_owned();
    let mut forged: Vec<(String, String)> = Vec::new();
    // No signature, or another algorithm named.
    for alg in ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", ""] {
        for typ in ["at+jwt", "JWT"] {
            let head = b64(&json!({"alg": alg, "typ": typ, "kid": kid}));
            forged.push((format!("{alg}/{typ} unsigned"), format!("{head}.{payload}.")));
            forged.push((format!("{alg}/{typ} old signature"), format!("{head}.{payload}.{signature}")));
        }
    }
    // Signed with keys that a forger may have, in headers that point elsewhere.
    let guesses: [&[u8]; 4] = [b"", b"secret", b"a secret of the tests, 32 bytes long", b"relaydesk"];
    for key in guesses {
        let mut head = Header { typ: Some("at+jwt".into()), ..Header::new(Algorithm::HS256) };
        head.kid = Some(kid.clone());
        forged.push((
            format!("guessed key {key:?}"),
            encode(&head, &claims, &EncodingKey::from_secret(key)).unwrap(),
        ));
    }
    // Signed by us, but wrong in content.
    let mut own = sha2::Sha256::default();
    sha2::Digest::update(&mut own, b"relaydesk access tokens 1\0a secret of the tests, 32 bytes long");
    let own = EncodingKey::from_secret(&sha2::Digest::finalize(own));
    let signed = |typ: Option<&str>, alg, claims: &Value| {
        let (typ, kid) = (typ.map(str::to_owned), Some(kid.clone()));
        encode(&Header { typ, kid, ..Header::new(alg) }, claims, &own).unwrap()
    };
    api.get("/api/v1/users/me", &signed(Some("at+jwt"), Algorithm::HS256, &claims)).await.expect(200);
    for typ in [None, Some("JWT"), Some("rt+jwt"), Some("at+JWT ")] {
        forged.push((format!("typ {typ:?}"), signed(typ, Algorithm::HS256, &claims)));
    }
    for alg in [Algorithm::HS384, Algorithm::HS512] {
        forged.push((format!("{alg:?}"), signed(Some("at+jwt"), alg, &claims)));
    }
    for (name, bent) in [
        ("expired", with(json!({"exp": 1}))),
        ("exp as text", with(json!({"exp": "9999999999"}))),
        ("exp missing", with(json!({"exp": null}))),
        ("from the future", with(json!({"iat": claims["iat"].as_i64().unwrap() + 3600}))),
        ("issuer", with(json!({"iss": "https://attacker.example"}))),
        ("audience", with(json!({"aud": "another-api"}))),
        ("audience list", with(json!({"aud": ["relaydesk-api", "another-api"]}))),
        ("other tenant", with(json!({"org": other.id}))),
        ("other user", with(json!({"sub": api.organization.agent.user_id()}))),
        ("unknown user", with(json!({"sub": uuid::Uuid::now_v7()}))),
        ("user of other tenant", with(json!({"sub": other.admin.user_id()}))),
        ("other tenant and its user", with(json!({"org": other.id, "sub": other.admin.user_id()}))),
        ("unknown login", with(json!({"sid": uuid::Uuid::now_v7()}))),
        ("extra claim", with(json!({"role": "admin"}))),
        ("sql", with(json!({"sub": "' or 1=1 --"}))),
    ] {
        forged.push((name.to_owned(), signed(Some("at+jwt"), Algorithm::HS256, &bent)));
    }
    // Signed by us, and the key is looked for elsewhere.
    type Change = fn(&mut Header);
    let elsewhere = |change: Change| {
        let mut head = Header { typ: Some("at+jwt".into()), ..Header::new(Algorithm::HS256) };
        head.kid = Some(kid.clone());
        change(&mut head);
        encode(&head, &claims, &own).unwrap()
    };
    let heads: [(&str, Change); 8] = [
        ("no kid", |head| head.kid = None),
        ("kid as a path", |head| head.kid = Some("../../../../dev/null".into())),
        ("kid as SQL", |head| head.kid = Some("' union select 'secret' --".into())),
        ("unknown kid", |head| head.kid = Some("0123456789abcdef".into())),
        ("jku", |head| head.jku = Some("https://attacker.example/keys".into())),
        ("x5u", |head| head.x5u = Some("https://attacker.example/chain".into())),
        ("x5c", |head| head.x5c = Some(vec!["MIIB".into()])),
        ("content type", |head| head.cty = Some("JWT".into())),
    ];
    for (name, change) in heads {
        forged.push((name.to_owned(), elsewhere(change)));
    }
    // Damaged.
    forged.push(("no signature".into(), format!("{header}.{payload}")));
    forged.push(("four parts".into(), format!("{good}.{signature}")));
    forged.push(("twice".into(), format!("{good}{good}")));
    forged.push(("cut".into(), good[..good.len() - 3].to_owned()));
    forged.push(("swapped".into(), format!("{payload}.{header}.{signature}")));
    forged.push(("empty parts".into(), "..".into()));
    forged.push(("padded".into(), format!("{good}==")));
    for i in [0, 1, 2] {
        let mut bytes = signature.clone().into_bytes();
        let at = i * 10;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        forged
            .push((format!("bit {i}"), format!("{header}.{payload}.{}", String::from_utf8(bytes).unwrap())));
    }
    assert!(forged.len() >= 60, "{}", forged.len());
    for (name, token) in &forged {
        let answer = api.send(request(Method::GET, "/api/v1/users/me", token, None)).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text);
    }
    // They expire by the database's clock.
    api.test_db.db.clock().shift(chrono::TimeDelta::minutes(16));
    api.get("/api/v1/users/me", &good).await.expect(401);
}

#[tokio::test]
async fn keys_are_replaced_without_refusing_anybody() {
    let mut api = Api::start().await;
    let (by_old, _) = logged_in(&api).await;
    let old: &[u8] = b"a secret of the tests, 32 bytes long";
    let new: &[u8] = b"another secret, 32 bytes long as well";
    let with = |api: &mut Api, secrets: &[&[u8]]| {
        let keys = actions::access::Keys::of(secrets.iter().copied()).unwrap();
        api.state.keys = std::sync::Arc::new(keys);
        api.router = api::app(api.state.clone());
    };
    // Known everywhere before it signs anywhere.
    with(&mut api, &[old, new]);
    api.get("/api/v1/users/me", &by_old).await.expect(200);
    with(&mut api, &[new, old]);
    let login = json!({"email": "admin@acme.example", "password": PASSWORD});
    let (by_new, _) = pair(&api.post("/api/v1/auth/login", "", login).await.expect(200).json);
    api.get("/api/v1/users/me", &by_old).await.expect(200);
    with(&mut api, &[old, new]);
    api.get("/api/v1/users/me", &by_new).await.expect(200);
    with(&mut api, &[new]);
    api.get("/api/v1/users/me", &by_old).await.expect(401);
    api.get("/api/v1/users/me", &by_new).await.expect(200);
}
