//! Story: in a browser an admin has events told to another system and looks at what came of it; and somebody looks after their own account.

use crate::browser::Browser;
use crate::console_sign_in::{OWN, code, desk, own_password, sign_in};
use serde_json::{Value, json};
use testkit::sinks::{Answer, HttpSink};

/// The button of this verb in the first row that has one.
async fn press_in(browser: &Browser, table: &str, verb: &str) {
    browser.presses(&format!("#{table} tr button[data-do={verb}]")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_has_events_told_to_another_system() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let (app, receiver) = (desk().await, HttpSink::start().await);
    own_password(&app, "admin").await;
    browser.goto(&app.process.base).await;
    sign_in(&browser, "admin@acme.example", OWN).await;
    browser.presses("#pages [data-page=webhooks]").await;
    browser.says("#webhooks-list-empty", "None yet").await;

    // Wrong in the API's words; what was typed is still there.
    browser.types("#webhook-form [name=url]", &receiver.url("/hook?<b>")).await;
    browser.types("#webhook-form [name=event_types]", "incident.melted").await;
    browser.types("#webhook-form [name=description]", "<img src=x onerror=document.title=1>").await;
    browser.presses("#webhook-form [type=submit]").await;
    browser.says("#webhook-form-error", "unknown event type \"incident.melted\"").await;
    browser.types("#webhook-form [name=event_types]", "incident.*, sla.breached").await;
    browser.presses("#webhook-form [type=submit]").await;

    // The secret, once.
    let secret = browser.says("#webhook-secret-text", "whsec_").await;
    browser.says("#webhooks-list", "incident.* sla.breached").await;
    browser.says("#webhooks-list", "<img src=x onerror=document.title=1>").await;
    browser.presses("#webhook-secret-kept").await;
    browser.hides("#webhook-secret").await;
    let left = "return document.documentElement.outerHTML.includes(arguments[0])";
    assert_eq!(browser.client.execute(left, vec![json!(secret)]).await.unwrap(), json!(false));
    assert_eq!(browser.client.title().await.unwrap(), "Webhooks – Relaydesk", "text is never markup");

    // A test, and how it went.
    receiver.script([Answer::status(500).body("<b>not today</b>")]);
    press_in(&browser, "webhooks-list", "test").await;
    browser.says("#webhooks-said", "A test is on its way").await;
    browser.says("#told", "webhook.test").await;
    browser.says("#told", "failed").await;
    press_in(&browser, "told", "attempts").await;
    browser.says("#attempts-title", "Attempts of webhook.test").await;
    browser.says("#attempts-list", "500").await;
    browser.shows("#attempts:focus").await;
    browser.client.active_element().await.unwrap().send_keys("\u{e00c}").await.unwrap();
    browser.hides("#attempts").await;
    browser.shows("#told button[data-do=attempts]:focus").await;
    press_in(&browser, "told", "again").await;
    browser.says("#told", "delivered").await;

    // An event by itself; switched off, nothing is told.
    app.client.post("/api/v1/incidents", json!({"title": "The door squeaks"})).await.expect(201);
    browser.says("#told", "incident.opened").await;
    let told =
        receiver.until("the event", |all| all.iter().any(|one| one.json()["type"] == "incident.opened"));
    assert!(told.await.iter().all(|one| one.header("webhook-signature").is_some()));
    press_in(&browser, "webhooks-list", "off").await;
    browser.says("#webhooks-said", "It is off").await;
    browser.shows("#webhooks-list button[data-do=on]:focus").await;
    let hooks = app.client.all("/api/v1/webhooks").await;
    assert_eq!((&hooks[0]["is_active"], &hooks[0]["disabled_reason"]), (&json!(false), &json!("by_hand")));
    press_in(&browser, "webhooks-list", "on").await;
    browser.shows("#webhooks-list button[data-do=off]").await;

    // It goes elsewhere, hears more, and signs with another secret; both of them for a day.
    let change = async || {
        press_in(&browser, "webhooks-list", "change").await;
        browser.shows("#change-form").await;
    };
    change().await;
    browser.types("#change-form [name=event_types]", "incident.melted").await;
    browser.presses("#change-form [type=submit]").await;
    browser.says("#change-error", "unknown event type \"incident.melted\"").await;
    browser.types("#change-form [name=url]", &receiver.url("/other")).await;
    browser.types("#change-form [name=event_types]", "incident.opened incident.closed").await;
    browser.presses("#change-form [type=submit]").await;
    browser.says("#webhooks-said", "It is changed").await;
    browser.says("#webhooks-list", "/other").await;
    let hooks = app.client.all("/api/v1/webhooks").await;
    assert_eq!(hooks[0]["event_types"], json!(["incident.closed", "incident.opened"]));
    assert_eq!(hooks[0]["description"], "<img src=x onerror=document.title=1>", "what was not touched");
    change().await;
    browser.presses("#secret-form [type=submit]").await;
    let other = browser.says("#webhook-secret-text", "whsec_").await;
    assert_ne!(other, secret);
    browser.says("#webhook-secret-before", "the one before signs them as well").await;
    browser.presses("#webhook-secret-kept").await;
    assert_eq!(browser.client.execute(left, vec![json!(other)]).await.unwrap(), json!(false));
    press_in(&browser, "webhooks-list", "test").await;
    let told =
        receiver.until("a test elsewhere", |all| all.iter().any(|one| one.uri.path() == "/other")).await;
    let signed = told.iter().find(|one| one.uri.path() == "/other").unwrap().header("webhook-signature");
    assert_eq!(signed.unwrap().split(' ').count(), 2);
    // Deleted is nothing by one press.
    change().await;
    browser.presses("#delete-form [type=submit]").await;
    assert_eq!(app.client.all("/api/v1/webhooks").await.len(), 1);
    browser.presses("#delete-form [name=sure]").await;
    browser.presses("#delete-form [type=submit]").await;
    browser.says("#webhooks-said", "It is deleted").await;
    browser.shows("#webhooks-list-empty").await;
    assert_eq!(app.client.all("/api/v1/webhooks").await.len(), 0);

    // Who may not see them has no way there, and is told so in the API's words.
    own_password(&app, "agent").await;
    browser.presses("#logout").await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#webhooks-error", "webhooks.read").await;
    browser.hides("#pages [data-page=webhooks]").await;
    browser.hides("#webhook-form").await;
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_looks_after_their_account() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    own_password(&app, "agent").await;
    browser.goto(&format!("{}/?page=account", app.process.base)).await;
    sign_in(&browser, "agent@acme.example", OWN).await;

    // The profile.
    browser.types("#profile-form [name=time_zone]", "Mars/Olympus").await;
    browser.presses("#profile-form [type=submit]").await;
    browser.says("#profile-error", "time zone").await;
    browser.types("#profile-form [name=time_zone]", "Europe/Berlin").await;
    browser.types("#profile-form [name=name]", "Grace <b>Hopper</b>").await;
    browser.presses("#profile-form [type=submit]").await;
    browser.says("#profile-said", "Saved").await;
    let me = app.agent.get("/api/v1/users/me").await.expect(200);
    assert_eq!((&me["name"], &me["time_zone"]), (&json!("Grace <b>Hopper</b>"), &json!("Europe/Berlin")));

    // Somewhere else they are signed in, too; that is ended.
    let elsewhere = json!({"email": "agent@acme.example", "password": OWN});
    let elsewhere = app.client.with_token("").post("/api/v1/auth/login", elsewhere).await.expect(200);
    let elsewhere = app.client.with_token(elsewhere["access"].as_str().unwrap());
    browser.says("#logins", "this one").await;
    browser.shows("#logins tr:nth-child(2)").await;
    // The login is older than ten minutes by now: who asks shows again who they are.
    let mut owner = app.db.owner().await;
    sqlx::query("update sessions set login_at = login_at - interval '11 minutes'")
        .execute(&mut owner)
        .await
        .unwrap();
    browser.presses("#logins-others").await;
    browser.types("#again-form [name=password]", "not this").await;
    browser.presses("#again-form [type=submit]").await;
    browser.says("#again-error", "password").await;
    elsewhere.get("/api/v1/users/me").await.expect(200);
    browser.types("#again-form [name=password]", OWN).await;
    browser.presses("#again-form [type=submit]").await;
    browser.hides("#again").await;
    browser.hides("#logins tr:nth-child(2)").await;
    elsewhere.get("/api/v1/users/me").await.expect(401);

    // A second factor by one's own will.
    browser.types("#factor-begin [name=password]", "not this").await;
    browser.presses("#factor-begin [type=submit]").await;
    browser.says("#factor-begin-error", "password").await;
    browser.types("#factor-begin [name=password]", OWN).await;
    browser.presses("#factor-begin [type=submit]").await;
    browser.shows("#factor-code svg").await;
    let secret = browser.says("#factor-secret", " ").await;
    browser.types("#factor-confirm [name=code]", &code(&secret, 0)).await;
    browser.presses("#factor-confirm [type=submit]").await;
    assert_eq!(browser.says("#factor-codes-text", "-").await.lines().count(), 10);
    browser.presses("#factor-codes-kept").await;
    browser.says("#factor-state", "10 recovery codes are left").await;
    let left = "return document.documentElement.outerHTML.includes(arguments[0])";
    let left = browser.client.execute(left, vec![json!(secret.replace(' ', ""))]).await.unwrap();
    assert_eq!(left, json!(false), "nor does the link with the secret");
    browser.types("#factor-off [name=password]", OWN).await;
    browser.types("#factor-off [name=code]", &code(&secret, 1)).await;
    browser.presses("#factor-off [type=submit]").await;
    browser.says("#factor-state", "Off.").await;

    // Another password.
    browser.types("#password-form [name=current]", OWN).await;
    browser.types("#password-form [name=new]", "eleven white swans fly").await;
    browser.presses("#password-form [type=submit]").await;
    browser.says("#password-said", "It is changed").await;
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
}
