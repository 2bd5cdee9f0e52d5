//! Story: in a browser somebody without a password shows again at their provider who they are; and links from elsewhere sign nobody out or in.

use crate::browser::Browser;
use crate::console_sign_in::{OWN, desk, own_password, sign_in};
use serde_json::{Value, json};
use testkit::{App, OidcProvider};

/// Grace and Hedy, and the button of their account. Nobody's token says when it was asked for.
async fn with_provider(folder: &std::path::Path) -> Option<(Browser, App, OidcProvider, String)> {
    let person = |name: &str| {
        let low = name.to_lowercase();
        json!({"sub": low, "email": format!("{low}@acme.example"), "email_verified": true, "name": name, "auth_time": null})
    };
    let provider = OidcProvider::start(&[person("Grace"), person("Hedy")]).await?;
    let browser = Browser::start(folder).await?;
    let app = desk().await;
    let settings = json!({"name": "Acme account", "issuer": provider.issuer, "client_id": "relaydesk", "client_secret": "any",
                          "creates_users": true, "default_role": "agent"});
    let made = app.client.post("/api/v1/identity-providers", settings).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    Some((browser, app, provider, id))
}

/// At the provider, which asks whoever comes.
async fn as_person(browser: &Browser, subject: &str) {
    browser.types("[name=sub]", subject).await;
    browser.presses("form button").await;
}

/// How many logins of theirs stand.
async fn logins(app: &App, email: &str) -> i64 {
    let sql = "select count(*) from sessions s join users u on u.id = s.user_id
                where u.email = $1 and s.revoked_at is null and s.rotated_at is null";
    sqlx::query_scalar(sql).bind(email).fetch_one(&mut app.db.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_password_shows_at_their_provider_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let Some((browser, app, _provider, id)) = with_provider(folder.path()).await else { return };
    // Twice: the first of the two is one to end.
    for _ in 0..2 {
        browser.goto(&format!("{}/?page=account", app.process.base)).await;
        browser.presses("#providers button").await;
        as_person(&browser, "grace").await;
        browser.says("#organization", "Grace (agent)").await;
        if logins(&app, "grace@acme.example").await == 1 {
            browser.client.execute("sessionStorage.clear()", Vec::new()).await.unwrap();
        }
    }
    let again = async || {
        browser.presses("#logins-others").await;
        browser.says("#again-providers button", "Sign in again with Acme account").await;
        browser.presses("#again-providers button").await;
    };

    // A provider that does not say when it asked, and is not trusted to do what it is told.
    again().await;
    as_person(&browser, "grace").await;
    browser.says("#account-error", "does not say when it asked you who you are").await;
    browser.says("#organization", "Grace (agent)").await;
    assert_eq!(logins(&app, "grace@acme.example").await, 2);
    let provider = format!("/api/v1/identity-providers/{id}");
    app.client.patch(&provider, json!({"trusts_reauthentication": true})).await.expect(200);

    // Whoever is somebody else there has shown nothing, and gets no login by it.
    again().await;
    as_person(&browser, "hedy").await;
    browser.says("#account-error", "At your provider you are somebody else").await;
    browser.says("#organization", "Grace (agent)").await;
    assert_eq!((logins(&app, "hedy@acme.example").await, logins(&app, "grace@acme.example").await), (0, 2));

    // The new login takes the place of the one that was there, and may do what that could not.
    let before = browser.client.execute("return sessionStorage.access", Vec::new()).await.unwrap();
    again().await;
    as_person(&browser, "grace").await;
    browser.says("#account-said", "You have shown that it is you").await;
    browser.hides("#account-error:not(:empty)").await;
    assert_eq!(logins(&app, "grace@acme.example").await, 2);
    app.client.with_token(before.as_str().unwrap()).get("/api/v1/users/me").await.expect(401);
    let landed = browser.client.current_url().await.unwrap();
    assert_eq!((landed.query(), landed.fragment()), (Some("page=account"), None));
    browser.shows("#logins tr:nth-child(2)").await;
    browser.presses("#logins-others").await;
    browser.hides("#logins tr:nth-child(2)").await;
    browser.hides("#again").await;
    assert_eq!(logins(&app, "grace@acme.example").await, 1);
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
}

/// Attacks: a code in the address, made up, guessed or good in this very browser.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_nobody_out_or_in() {
    let folder = tempfile::tempdir().unwrap();
    let Some((browser, app, _provider, id)) = with_provider(folder.path()).await else { return };
    own_password(&app, "agent").await;
    let base = app.process.base.clone();
    browser.goto(&base).await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#organization", "agent (agent)").await;
    let begin = format!("{base}/api/v1/auth/oidc/{id}/start");
    let is_as_before = async || {
        browser.says("#organization", "agent (agent)").await;
        browser.shows("#board").await;
        browser.hides("#login").await;
        assert_eq!(browser.client.current_url().await.unwrap().fragment(), None);
        assert_eq!(logins(&app, "agent@acme.example").await, 1);
        assert_eq!(logins(&app, "grace@acme.example").await, 0);
    };

    // Who is signed in stays so, in this page and when it is loaded anew.
    for behind in [
        "#sign_in=rdc_made-up",
        "?begun=0#sign_in=rdc_made-up",
        "?begun=#sign_in=x",
        "?begun=null#sign_in=x",
        "#sign_in_error=denied",
    ] {
        browser.goto(&format!("{base}/{behind}")).await;
        is_as_before().await;
        browser.client.refresh().await.unwrap();
        is_as_before().await;
    }
    // With a code that is good here.
    for back in ["/", "/?begun=0", "/?page=board%26begun=0"] {
        browser.goto(&format!("{begin}?return_to={back}")).await;
        as_person(&browser, "grace").await;
        is_as_before().await;
    }

    // Who is not signed in does not come in that way, not even while a login that they began is under way.
    browser.presses("#logout").await;
    browser.shows("#providers button").await;
    let comes_in = async || {
        browser.goto(&format!("{begin}?return_to=/?begun=0")).await;
        as_person(&browser, "grace").await;
        browser.says("#login-error", "was not begun in this tab").await;
        browser.hides("#board").await;
        assert_eq!(logins(&app, "grace@acme.example").await, 0);
    };
    comes_in().await;
    browser.presses("#providers button").await;
    browser.shows("[name=sub]").await;
    comes_in().await;
    // By the button they do.
    browser.presses("#providers button").await;
    as_person(&browser, "grace").await;
    browser.says("#organization", "Grace (agent)").await;
    assert_eq!(logins(&app, "grace@acme.example").await, 1);
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
}
