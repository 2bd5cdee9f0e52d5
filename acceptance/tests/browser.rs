//! A real browser, for stories of the console: it clicks what is to be seen and types into what has the focus.

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long something may take to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A headless Chromium with a profile of its own; gone when it is dropped.
pub struct Browser {
    _driver: Child,
    pub client: Client,
    /// The argument that no other browser has.
    profile: String,
}

impl Drop for Browser {
    /// The driver goes with its handle, and would leave the browser behind. Only when all of it has ended its folder can be taken away.
    fn drop(&mut self) {
        let still_there = || {
            let killed =
                std::process::Command::new("pkill").args(["-KILL", "-f", "--", &self.profile]).status();
            killed.is_ok_and(|status| status.success())
        };
        let begin = Instant::now();
        while still_there() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Browser {
    /// Without a browser there is nothing to test (`None`); on CI there must be one. What it downloads goes to `downloads` in the folder.
    pub async fn start(folder: &std::path::Path) -> Option<Browser> {
        if !has_browser() {
            eprintln!("skipped: no chromedriver");
            return None;
        }
        let port = testkit::free_port();
        // Browsers put folders of their own where temporary files are, and leave them there when they are killed.
        let temporary = folder.join("temporary");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("TMPDIR", &temporary)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is installed (script/setup does it)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("started successfully") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = format!("--user-data-dir={}", folder.join("browser").display());
        // Pages of others (a provider's) may name hosts outside: nobody is asked there.
        let options = json!({"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", &profile,
        ], "prefs": {"download.default_directory": folder.join("downloads")}});
        let capabilities = [
            ("goog:chromeOptions".to_owned(), options),
            ("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"})),
        ];
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.into_iter().collect())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser session");
        Some(Browser { _driver: driver, client, profile })
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Looks until the script answers something that is true.
    async fn until(&self, what: &str, script: &str, about: &[&str]) -> Value {
        let (begin, about) = (Instant::now(), about.iter().map(|word| json!(word)).collect::<Vec<_>>());
        loop {
            // Between two pages there is none that could answer.
            let found = self.client.execute(script, about.clone()).await.unwrap_or_default();
            if !matches!(found, Value::Null | Value::Bool(false)) {
                return found;
            }
            if begin.elapsed() > PATIENCE {
                let page = self.client.execute("return document.body.innerText", Vec::new()).await;
                panic!("the page never showed {what}; it says:\n{}", page.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until this text is somewhere.
    pub async fn sees(&self, text: &str) {
        let xpath = format!("//*[contains(normalize-space(text()), \"{text}\")]");
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::XPath(&xpath)).await;
        if found.is_err() {
            panic!("the page never showed {text:?}:\n{}", self.client.source().await.unwrap_or_default());
        }
    }

    /// Waits until this element can be seen.
    pub async fn shows(&self, css: &str) {
        self.until(css, "return document.querySelector(arguments[0])?.checkVisibility() ?? false", &[css])
            .await;
    }

    /// Waits until nobody can see it any more.
    pub async fn hides(&self, css: &str) {
        let script = "return !document.querySelector(arguments[0])?.checkVisibility()";
        self.until(&format!("{css} going away"), script, &[css]).await;
    }

    /// Waits until this element can be seen and says that, and answers all that it says.
    pub async fn says(&self, css: &str, part: &str) -> String {
        let script = "const found = document.querySelector(arguments[0]); \
                      return Boolean(found?.checkVisibility() && found.innerText.includes(arguments[1])) && found.innerText";
        let found = self.until(&format!("{part:?} in {css}"), script, &[css, part]).await;
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Types it in place of what stands there.
    pub async fn types(&self, css: &str, text: &str) {
        self.shows(css).await;
        let field = self.client.find(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub async fn presses(&self, css: &str) {
        for _ in 0..100 {
            self.shows(css).await;
            match self.client.find(Locator::Css(css)).await.unwrap().click().await {
                Ok(()) => return,
                // Drawn anew between the look and the click.
                Err(error) if error.is_stale_element_reference() => {}
                Err(error) => panic!("{css} cannot be pressed: {error}"),
            }
        }
        panic!("{css} never stands still");
    }

    /// What the browser has to say about the page: refusals of its policy, errors of its scripts. Answers that are no 2xx are the page's business.
    pub async fn complaints(&self) -> Vec<Value> {
        let log = self.client.issue_cmd(BrowserLog).await.unwrap();
        let all = log.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|line| line["source"] != "network" && line["level"] != "DEBUG").collect()
    }
}

/// Without a browser there is nothing to test; on CI there must be one.
fn has_browser() -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join("chromedriver").exists());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "chromedriver is missing: script/setup --tests installs it"
    );
    there
}

/// Chromium's own command: the lines of its log since the last time.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_leaves_lies_in_the_folder_of_its_test() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(folder.path()).await else { return };
    browser.goto("about:blank").await;
    let left =
        std::fs::read_dir(folder.path().join("temporary")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(left.iter().any(|name| name.contains("org.chromium")), "{left:?}");
    drop(browser);
    let path = folder.path().to_owned();
    folder.close().unwrap();
    assert!(!path.exists());
}
