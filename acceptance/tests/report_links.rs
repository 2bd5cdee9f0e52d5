//! Story: a manager without a login opens the link in a report's mail and has the file. Nobody on the way learns the link's token: it stands
//! behind `#`, and is sent in a body.

use crate::browser::Browser;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Too long for a mail.
const INCIDENTS: i32 = 15_000;

/// What stands between a browser and the program, as a proxy does, and keeps every byte that the browser sends.
struct Way {
    base: String,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Way {
    async fn to(server: &str) -> Way {
        let server = server.strip_prefix("http://").expect("clear text").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(Way::pass(client, upstream, kept.clone()));
            }
        });
        Way { base, sent }
    }

    async fn pass(client: TcpStream, upstream: TcpStream, kept: Arc<Mutex<Vec<u8>>>) {
        let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), upstream.into_split());
        let answering = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
        let mut piece = [0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut piece).await {
            kept.lock().unwrap().extend_from_slice(&piece[..n]);
            if to.write_all(&piece[..n]).await.is_err() {
                break;
            }
        }
        answering.abort();
    }

    fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned()
    }
}

async fn incidents(app: &App) {
    sqlx::query(
        "insert into tickets (id, organization_id, kind, number, title, status, impact, urgency, priority, source, created_at, updated_at)
         select gen_random_uuid(), $1, 'incident', 'INC' || lpad(n::text, 7, '0'), repeat('x', 490), 'new', 'low', 'low', 'low', 'api',
                now() - interval '1 hour', now()
           from generate_series(1, $2) as n",
    )
    .bind(app.organization.id.0)
    .bind(INCIDENTS)
    .execute(&mut app.db.owner().await)
    .await
    .unwrap();
}

/// The file in the folder of downloads, once it is whole.
async fn saved(folder: &Path) -> Vec<u8> {
    for _ in 0..1000 {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        if let Some(file) =
            files.map(|file| file.path()).find(|path| path.extension() == Some("csv".as_ref()))
        {
            return std::fs::read(file).unwrap();
        }
        // Of a browser's files nobody tells.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was saved");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_gives_the_file_and_nobody_learns_its_token() {
    let app = App::start_with(&[("RELAYDESK_LOG", "debug")]).await;
    incidents(&app).await;
    let body = json!({"kind": "incidents_and_sla", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
                      "recipients": ["boss@acme.example"]});
    let started = app.client.post("/api/v1/reports", body).await.expect(202);
    let mail = app.outbox.wait_for(1, Duration::from_secs(90)).await.remove(0);
    // Quoted-printable breaks long lines.
    let text = mail.text().replace("=\r\n", "");
    let (_, token) = text.split_once("/report#").expect("a link");
    let token = token.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next().unwrap();
    assert!(token.starts_with("rdl_") && token.len() > 40, "{token}");
    assert!(!text.contains("/downloads/"), "nothing in a path");

    let path = format!("/api/v1/report-executions/{}/csv", started["execution"].as_str().unwrap());
    let whole = app.client.get(&path).await.bytes;
    assert!(whole.len() > 7 << 20, "it is not attached");
    let nobody = app.client.with_token("");
    let file = nobody.post("/downloads/reports", json!({"token": token})).await;
    assert!(file.bytes == whole, "{}", file.status);
    let way = Way::to(&app.process.base).await;
    in_a_browser(&app, &way, token, &whole).await;
    let log = std::fs::read_to_string(app.folder.path().join("relaydesk.log")).unwrap();
    assert!(log.contains("/downloads/reports") && !log.contains(token), "the log has the route and no token");
}

async fn in_a_browser(app: &App, way: &Way, token: &str, whole: &[u8]) {
    let folder = app.folder.path();
    let Some(browser) = Browser::start(folder).await else { return };
    let page = &browser.client;
    page.goto(&format!("{}/report#{token}", way.base)).await.unwrap();
    browser.sees("was handed to your browser").await;
    assert!(saved(&folder.join("downloads")).await == whole, "byte for byte");
    let address = async || page.current_url().await.unwrap().to_string();
    assert_eq!(address().await, format!("{}/report", way.base), "nobody reads it over a shoulder");

    // A second link where the first one was opened; the page is the same, and says what is wrong.
    page.goto(&format!("{}/report#rdl_wrong", way.base)).await.unwrap();
    browser.sees("No report has this link").await;
    assert_eq!(address().await, format!("{}/report", way.base));
    page.refresh().await.unwrap();
    browser.sees("This link is not complete").await;
    sqlx::query("update report_executions set download_until = now() - interval '1 second'")
        .execute(&mut app.db.owner().await)
        .await
        .unwrap();
    page.goto(&format!("{}/report#{token}", way.base)).await.unwrap();
    browser.sees("This link has expired").await;
    page.clone().close().await.unwrap();

    let sent = way.sent();
    assert!(
        sent.contains("GET /report HTTP/1.1") && sent.contains("POST /downloads/reports HTTP/1.1"),
        "{sent}"
    );
    let bodies = sent.matches(&format!("{{\"token\":\"{token}\"}}")).count();
    assert_eq!((bodies, sent.matches(token).count()), (2, 2), "in bodies and nowhere else: {sent}");
}
