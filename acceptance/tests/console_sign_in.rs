//! Story: people sign in to the console in a browser: with their organization's account, with a password that somebody gave them, with one that they
//! forgot, and with a second factor.

use crate::browser::Browser;
use actions::totp;
use chrono::Utc;
use fantoccini::Locator;
use serde_json::{Value, json};
use testkit::{App, OidcProvider};

pub const KEYS: (&str, &str) = ("RELAYDESK_JOB_KEYS", "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
const GIVEN: &str = "seven grey herons wade";
pub const OWN: &str = "nine green otters swim";

/// Links of its mails, and what a provider sends back, lead to where it listens.
pub async fn desk() -> App {
    let listen = format!("127.0.0.1:{}", testkit::free_port());
    let base = format!("http://{listen}");
    App::start_with(&[KEYS, ("RELAYDESK_HTTP_LISTEN", &listen), ("RELAYDESK_BASE_URL", &base)]).await
}

/// An admin gives the agent a password.
async fn give_password(app: &App) {
    let agent = app.organization.agent.user_id().unwrap().0;
    app.client
        .post(&format!("/api/v1/users/{agent}/set-password"), json!({"password": GIVEN}))
        .await
        .expect(204);
}

/// One of their own, [`OWN`], by the link of a mail.
pub async fn own_password(app: &App, role: &str) {
    let (email, anybody) = (format!("{role}@acme.example"), app.client.with_token(""));
    anybody.post("/api/v1/auth/password-reset", json!({"email": email})).await.expect(202);
    let link = link(app, &email).await;
    let (_, token) = link.split_once("#reset=").unwrap();
    let chosen = json!({"token": token, "new_password": OWN});
    anybody.post("/api/v1/auth/password-confirm", chosen).await.expect(204);
}

/// The link of the mail to somebody, as their mail program would show it.
async fn link(app: &App, to: &str) -> String {
    let is_theirs = |mail: &&testkit::sinks::Mail| mail.to == [to] && mail.text().contains("#reset=");
    let is_there = |mails: &[testkit::sinks::Mail]| mails.iter().any(|mail| is_theirs(&mail));
    let mails = app.outbox.until("a mail with a link", is_there).await;
    let text = mails.iter().find(is_theirs).unwrap().text();
    let text = text.replace("=\r\n", "").replace("=3D", "=");
    let at = text.find(&format!("{}/#reset=", app.process.base)).expect("a link to where it listens");
    text[at..].chars().take_while(|c| !c.is_whitespace() && *c != '"' && *c != '<').collect()
}

/// Fills in the first form.
pub async fn sign_in(browser: &Browser, email: &str, password: &str) {
    browser.types("#login-form [name=email]", email).await;
    browser.types("#login-form [name=password]", password).await;
    browser.presses("#login-form [type=submit]").await;
}

async fn sign_out(browser: &Browser) {
    browser.presses("#logout").await;
    browser.shows("#login-form").await;
    assert_eq!(browser.client.execute("return sessionStorage.length", Vec::new()).await.unwrap(), json!(0));
}

async fn no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_button_of_the_organizations_account() {
    let grace = json!({"sub": "grace", "email": "grace@acme.example", "email_verified": true, "name": "Grace Hopper"});
    let mallory = json!({"sub": "mallory", "email": "admin@acme.example", "email_verified": false});
    let Some(provider) = OidcProvider::start(&[grace, mallory]).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    // Of two organizations nobody knows yet which one it is.
    testkit::organization(&app.db, "other").await;
    let settings = json!({"name": "Acme account", "issuer": provider.issuer, "client_id": "relaydesk", "client_secret": "any",
                          "creates_users": true, "default_role": "agent"});
    app.client.post("/api/v1/identity-providers", settings).await.expect(201);
    let ticket =
        app.client.post("/api/v1/incidents", json!({"title": "The lift is stuck"})).await.expect(201);
    let number = ticket["number"].as_str().unwrap();

    // The link of a message leads to the sign-in, which asks for the organization.
    browser.goto(&format!("{}/?ticket={number}", app.process.base)).await;
    browser.presses("#organization-form summary").await;
    browser.types("#organization-form input", "acne").await;
    browser.presses("#organization-form button").await;
    browser.says("#organization-error", "There is no such sign-in for “acne”").await;
    browser.hides("#providers").await;
    browser.types("#organization-form input", "acme").await;
    browser.presses("#organization-form button").await;
    browser.says("#providers button", "Sign in with Acme account").await;

    // Somebody whom the provider does not vouch for.
    browser.presses("#providers button").await;
    browser.types("[name=sub]", "mallory").await;
    browser.presses("form button").await;
    browser.says("#login-error", "does not say that your e-mail address is verified").await;

    // The console remembers whose button it was; she lands where the link led.
    browser.presses("#providers button").await;
    browser.types("[name=sub]", "grace").await;
    browser.presses("form button").await;
    browser.says("#ticket-title", "The lift is stuck").await;
    browser.says("#organization", "Grace Hopper (agent)").await;
    browser.shows("#live[data-state=on]").await;
    let landed = browser.client.current_url().await.unwrap();
    assert_eq!((landed.query(), landed.fragment()), (Some(&*format!("ticket={number}")), None));
    sign_out(&browser).await;
    browser.says("#providers button", "Sign in with Acme account").await;

    // A code that was used, or that somebody made up, says so and leaves the way open.
    browser.client.execute("sessionStorage.begun = 'word'", Vec::new()).await.unwrap();
    browser.goto(&format!("{}/?begun=word#sign_in=rdc_made-up", app.process.base)).await;
    browser.says("#login-error", "the code is not valid, was used, or has expired").await;
    assert_eq!(browser.client.current_url().await.unwrap().fragment(), None);
    browser.goto(&format!("{}/#sign_in_error=constructor", app.process.base)).await;
    assert_eq!(
        browser.says("#login-error", " ").await,
        "Signing in failed.",
        "a link chooses none but our words"
    );
    // So does an answer of the provider that belongs to no question (it refuses without the state).
    browser.presses("#providers button").await;
    browser.presses("[name=action][value=deny]").await;
    browser.says("#login-error", "was begun in another window: try again").await;
    browser.shows("#providers button").await;
    no_complaints(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_given_a_password_chooses_one_first() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    give_password(&app).await;
    browser.goto(&app.process.base).await;
    sign_in(&browser, "agent@acme.example", "something else").await;
    browser.shows("#login-error:not(:empty)").await;
    sign_in(&browser, "agent@acme.example", GIVEN).await;
    browser.says("#reset-title", "Choose a password of your own").await;
    browser.hides("#board").await;
    browser.hides("#pages").await;

    // What was typed is gone with the page; then it is typed again.
    browser.client.refresh().await.unwrap();
    browser.says("#login-said", "Sign in again to choose a password of your own").await;
    sign_in(&browser, "agent@acme.example", GIVEN).await;

    // The API's own words.
    browser.types("#reset-password", "short").await;
    browser.presses("#reset-form [type=submit]").await;
    browser.says("#reset-error", "new password").await;
    browser.says("#reset-error", "12").await;
    browser.types("#reset-password", GIVEN).await;
    browser.presses("#reset-form [type=submit]").await;
    browser.hides("#reset-error:empty").await;
    browser.types("#reset-password", OWN).await;
    browser.presses("#reset-show").await;
    let shown = browser.client.find(Locator::Id("reset-password")).await.unwrap();
    assert_eq!(shown.attr("type").await.unwrap().as_deref(), Some("text"));
    browser.presses("#reset-form [type=submit]").await;
    browser.shows("#board").await;
    browser.shows("#live[data-state=on]").await;

    sign_out(&browser).await;
    sign_in(&browser, "agent@acme.example", GIVEN).await;
    browser.shows("#login-error:not(:empty)").await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.shows("#board").await;
    no_complaints(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_two_organizations_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    own_password(&app, "agent").await;
    let other = testkit::organization(&app.db, "other").await;
    let same = "update users set email = 'agent@acme.example', credential_is_shared = false,
                       password_hash = (select password_hash from users where organization_id = $1 and role = 'agent')
                 where organization_id = $2 and role = 'agent'";
    let same = sqlx::query(same).bind(app.organization.id.0).bind(other.id.0);
    same.execute(&mut app.db.owner().await).await.unwrap();

    browser.goto(&app.process.base).await;
    browser.hides("#login-organization").await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#login-error", "you are in more than one organization: name the one you mean").await;
    browser.types("#login-organization input", "other").await;
    browser.presses("#login-form [type=submit]").await;
    browser.shows("#live[data-state=on]").await;
    let me = "return fetch('/api/v1/organizations', {headers: {authorization: `Bearer ${sessionStorage.access}`}}).then(a => a.json())";
    let seen = browser.client.execute(me, Vec::new()).await.unwrap();
    assert_eq!(seen["items"][0]["slug"], "other");
    no_complaints(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgot_a_password_gets_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    browser.goto(&app.process.base).await;
    browser.presses("#forgotten").await;
    browser.says("#login-error", "Type your e-mail address first").await;
    let mut words = Vec::new();
    for email in ["nobody@acme.example", "agent@acme.example"] {
        browser.types("#login-form [name=email]", email).await;
        browser.presses("#forgotten").await;
        words.push(browser.says("#login-said", "a mail with a link is on its way").await);
    }
    assert_eq!(words[0], words[1], "who is known is not told");

    // Opened where the console is open already. The token does not stay in the address.
    let link = link(&app, "agent@acme.example").await;
    browser.goto(&link).await;
    browser.says("#reset-title", "New password").await;
    assert_eq!(browser.client.current_url().await.unwrap().fragment(), None);
    browser.types("#reset-password", "password1234").await;
    browser.presses("#reset-form [type=submit]").await;
    browser.says("#reset-error", "new password").await;
    browser.types("#reset-password", OWN).await;
    browser.presses("#reset-form [type=submit]").await;
    browser.says("#login-said", "The password is set: sign in with it").await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#organization", "agent (agent)").await;

    // Once. And who is signed in, and opens it, stays so.
    browser.goto(&link).await;
    browser.types("#reset-password", "eleven white swans fly").await;
    browser.presses("#reset-form [type=submit]").await;
    browser.says("#reset-error", "was used, or has expired: ask for a new mail").await;
    browser.presses("#reset-form [data-back]").await;
    browser.says("#organization", "agent (agent)").await;
    browser.shows("#board").await;
    no_complaints(&browser).await;
}

/// What the authenticator shows, `ahead` half minutes from now.
#[expect(clippy::disallowed_methods, reason = "an authenticator has a clock of its own")]
pub fn code(secret: &str, ahead: i64) -> String {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0u32, 0);
    for letter in secret.chars().filter(|c| !c.is_whitespace()) {
        buffer = buffer << 5 | "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(letter).expect("base32") as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    totp::code(&bytes, totp::step_at(Utc::now()) + ahead)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_set_up_and_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let app = desk().await;
    own_password(&app, "agent").await;
    let organization = format!("/api/v1/organizations/{}", app.organization.id.0);
    app.client.patch(&organization, json!({"mfa_required_roles": ["agent"]})).await.expect(200);

    browser.goto(&app.process.base).await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#code-title", "Set up a second factor").await;
    let drawn = "const at = document.querySelector('#enrol-code svg').getBoundingClientRect(); return [at.width, at.height]";
    let size = browser.client.execute(drawn, Vec::new()).await.unwrap();
    assert!(size[0].as_f64() > Some(150.0) && size[0] == size[1], "a square that a camera can read: {size}");
    let opens = browser.client.find(Locator::Id("enrol-link")).await.unwrap().attr("href").await.unwrap();
    let secret = browser.says("#enrol-secret", " ").await;
    assert!(opens.unwrap().contains(&secret.replace(' ', "")), "the link says the same as the text");

    // A wrong one in the API's words; then the right one, and codes for the day when the telephone is lost.
    let wrong = if code(&secret, 0) == "000000" { "000001" } else { "000000" };
    browser.types("#code-form [name=code]", wrong).await;
    browser.presses("#code-form [type=submit]").await;
    browser.says("#code-error", "code is wrong, or was used before").await;
    browser.types("#code-form [name=code]", &code(&secret, 0)).await;
    browser.presses("#code-form [type=submit]").await;
    let codes = browser.says("#recovery-codes", "-").await;
    let codes: Vec<&str> = codes.lines().collect();
    assert_eq!(codes.len(), 10);
    browser.presses("#recovery-kept").await;
    browser.shows("#board").await;
    let left = "return document.documentElement.outerHTML.includes(arguments[0])";
    for secret in [codes[0], &secret, &secret.replace(' ', "")] {
        let left = browser.client.execute(left, vec![json!(secret)]).await.unwrap();
        assert_eq!(left, json!(false), "what is shown once does not stay on the page");
    }
    sign_out(&browser).await;

    // Asked for from now on; one may turn back.
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.says("#code-title", "Second factor").await;
    browser.hides("#enrol").await;
    browser.presses("#code-form [data-back]").await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.types("#code-form [name=code]", &code(&secret, 1)).await;
    browser.presses("#code-form [type=submit]").await;
    browser.shows("#board").await;
    sign_out(&browser).await;

    // The telephone is lost.
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.types("#code-form [name=code]", codes[3]).await;
    browser.presses("#code-form [type=submit]").await;
    browser.shows("#board").await;
    sign_out(&browser).await;
    sign_in(&browser, "agent@acme.example", OWN).await;
    browser.types("#code-form [name=code]", codes[3]).await;
    browser.presses("#code-form [type=submit]").await;
    browser.says("#code-error", "code is wrong, or was used before").await;
    browser.hides("#board").await;
    no_complaints(&browser).await;
}
