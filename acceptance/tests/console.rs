//! Story: an operator looks at the board in a browser and sees a mail become a ticket without touching anything; the link in
//! a message opens its ticket there.

use crate::browser::Browser;
use fantoccini::{Client, Locator};
use serde_json::json;
use std::time::Duration;
use testkit::Demo;

#[tokio::test(flavor = "multi_thread")]
async fn the_board_shows_a_new_mail_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    let demo = Demo::start(folder.path(), &[]).await;
    let page = &browser.client;
    page.goto(&demo.process.base).await.unwrap();

    let form = page.form(Locator::Id("login-form")).await.unwrap();
    form.set_by_name("email", demo.facts["admin"]["email"].as_str().unwrap()).await.unwrap();
    form.set_by_name("password", "wrong").await.unwrap();
    page.find(Locator::Css("#login-form button")).await.unwrap().click().await.unwrap();
    page.wait()
        .at_most(Duration::from_secs(10))
        .for_element(Locator::XPath("//*[@id='login-error' and text() != '']"))
        .await
        .unwrap();

    form.set_by_name("password", demo.facts["admin"]["password"].as_str().unwrap()).await.unwrap();
    page.find(Locator::Css("#login-form button")).await.unwrap().click().await.unwrap();
    page.wait()
        .at_most(Duration::from_secs(10))
        .for_element(Locator::Css("#live[data-state=on]"))
        .await
        .unwrap();
    browser.sees("ingest").await;

    let markup = "<img src=x onerror=document.title=1> from a mail";
    testkit::send_mail(
        demo.smtp,
        "ada@browser.example",
        demo.mailbox(),
        markup,
        "The page must show this as text.",
    )
    .await;
    browser.sees(markup).await;
    assert_eq!(page.title().await.unwrap(), "Relaydesk", "text from a mail is never markup");
    browser.sees("ingest_mail").await;
    a_link_opens_its_ticket(&demo, &browser, markup).await;
    assert_eq!(browser.complaints().await, Vec::<serde_json::Value>::new());

    page.clone().close().await.unwrap();
}

/// What stands there; looked for again when the page has drawn it anew between the look and the answer.
async fn text(page: &Client, what: Locator<'_>) -> String {
    for _ in 0..100 {
        let found = page.wait().at_most(Duration::from_secs(20)).for_element(what).await.unwrap();
        match found.text().await {
            Ok(text) => return text,
            Err(error) if error.is_stale_element_reference() => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never stands still: {what:?}");
}

/// The panel of one ticket: its facts, public comments and history, as text, and by keyboard.
async fn a_link_opens_its_ticket(demo: &Demo, browser: &Browser, title: &str) {
    let page = &browser.client;
    let tickets = demo.client.all("/api/v1/incidents").await;
    let ticket = tickets.iter().find(|ticket| ticket["title"] == title).expect("the ticket of the mail");
    let number = ticket["number"].as_str().expect("a number").to_owned();
    let path = format!("/api/v1/incidents/{number}");
    let say = async |body: &str, visibility: &str| {
        let comment = json!({"body": body, "visibility": visibility});
        demo.client.post(&format!("{path}/add_comment"), comment).await.expect(201);
    };
    say("<b>We are on our way</b><script>document.title = 2</script>", "public").await;
    say("between ourselves", "internal").await;

    page.goto(&format!("{}/?ticket={number}", demo.process.base)).await.unwrap();
    browser.sees(&format!("{number}: {title}")).await;
    browser.sees("<b>We are on our way</b><script>document.title = 2</script>").await;
    browser.sees("The page must show this as text.").await;
    let text = text(page, Locator::Id("ticket")).await;
    for part in ["Status", "Priority", "medium", "ada", "History", "commented"] {
        assert!(text.contains(part), "{part:?} is not in the panel: {text}");
    }
    let comments = self::text(page, Locator::Id("ticket-comments")).await;
    assert!(!comments.contains("between ourselves"), "public comments only: {comments}");
    assert_eq!(page.title().await.unwrap(), format!("{number} – Relaydesk"), "text is never markup");
    let row = Locator::Css("#tickets tr[aria-current] a");
    assert_eq!(self::text(page, row).await, number);
    if let Some(file) = std::env::var_os("RELAYDESK_SCREENSHOT") {
        std::fs::write(file, page.screenshot().await.unwrap()).unwrap();
    }
    // A change shows by itself.
    say("A new cable is laid.", "public").await;
    browser.sees("A new cable is laid.").await;

    // Escape closes it and leads back to the row; Enter opens it again; so does the way back.
    let press = async |key: char| {
        page.active_element().await.unwrap().send_keys(&String::from(key)).await.unwrap();
    };
    let closed = Locator::Css("#ticket[hidden]");
    let opened = Locator::Css("#ticket:not([hidden]):focus");
    let wait = || page.wait().at_most(Duration::from_secs(10));
    wait().for_element(opened).await.unwrap();
    press('\u{e00c}').await;
    wait().for_element(closed).await.unwrap();
    wait().for_element(Locator::Css("#tickets a:focus")).await.unwrap();
    press('\u{e007}').await;
    wait().for_element(opened).await.unwrap();
    page.back().await.unwrap();
    wait().for_element(closed).await.unwrap();
    page.goto(&format!("{}/?ticket=INC9999999", demo.process.base)).await.unwrap();
    browser.sees("There is no INC9999999, or it is not for you to see.").await;
}
