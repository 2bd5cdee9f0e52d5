//! Story: messages leave through workers in another network, which have no database and reach one address: the broker's. Their user
//! there may do what docs/remote-workers.md gives it, and nothing else.

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::sinks::{Answer, HttpSink, SmtpSink};
use testkit::{App, BrokerNode, Client, Process};

const WAIT: Duration = Duration::from_secs(120);
/// 32 bytes each.
const KEY: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "b:ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Of "secret", with four bytes of salt (`rabbit_password_hashing_sha256`).
const HASH: &str = "AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz";
const LANES: &str = "outbound,mail,discovery";

/// A broker with a user for each side, and the URLs of both.
async fn broker(folder: &Path) -> Option<(BrokerNode, String, String)> {
    let user = |name: &str| json!({"name": name, "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""});
    let may = |user: &str, configure: &str, write: &str, read: &str| json!({"user": user, "vhost": "relaydesk", "configure": configure, "write": write, "read": read});
    let lanes = LANES.replace(',', "|");
    let definitions = json!({
        "vhosts": [{"name": "relaydesk"}],
        "users": [user("platform"), user("far")],
        "permissions": [
            may("platform", "^relaydesk\\.", "^relaydesk\\.", "^relaydesk\\."),
            may(
                "far",
                "^relaydesk\\.remote\\.words/",
                "^relaydesk\\.remote\\.(answers$|words/)",
                &format!("^relaydesk\\.remote\\.(words$|words/|({lanes})$)"),
            ),
        ],
    });
    let file = folder.join("definitions.json");
    std::fs::write(&file, definitions.to_string()).unwrap();
    let node = BrokerNode::start_with(vec![format!("load_definitions = {}", file.display())]).await?;
    let url = node.names().url;
    let (_, place) = url.split_once('@').unwrap();
    let of = |user: &str| format!("amqp://{user}:secret@{place}");
    let urls = (of("platform"), of("far"));
    Some((node, urls.0, urls.1))
}

/// The other network: a relay, and the keys and address of the broker.
struct Far<'a> {
    url: &'a str,
    relay: &'a SmtpSink,
    folder: &'a Path,
}

impl Far<'_> {
    async fn worker(&self, key: &str) -> Process {
        let relay = self.relay.url();
        let args =
            ["worker", "--remote", "--lanes", LANES, "--amqp-url", self.url, "--listen", "127.0.0.1:0"];
        let env = [
            ("RELAYDESK_REMOTE_KEYS", key),
            ("RELAYDESK_MAIL_URL", relay.as_str()),
            ("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", "127.0.0.0/8"),
        ];
        Process::start(&args, &env, self.folder).await
    }

    /// Once it gets requests.
    async fn ready_worker(&self) -> (Process, Client) {
        let process = self.worker(KEY).await;
        let client = Client::new(&process.base, "");
        let begun = Instant::now();
        while client.get("/readyz").await.status != 200 {
            assert!(begun.elapsed() < WAIT, "the remote worker gets no requests");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        (process, client)
    }
}

async fn open(app: &App, title: &str) -> String {
    let incident = json!({"title": title, "impact": "high", "urgency": "high"});
    let incident = app.end_user.post("/api/v1/incidents", incident).await.expect(201);
    incident["number"].as_str().unwrap().to_owned()
}

async fn until_sent(app: &App, number: &str, messages: usize) {
    let ledger = format!("/api/v1/notifications?status=sent&ticket={number}");
    let all = |list: &Value| list["items"].as_array().is_some_and(|items| items.len() >= messages);
    app.client.within(WAIT, &ledger, all).await;
}

/// A counter of a process.
async fn counted(client: &Client, metric: &str) -> u64 {
    let metrics = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
    let value = |line: &str| line.strip_prefix(metric).and_then(|rest| rest.trim().parse().ok());
    metrics.lines().find_map(value).unwrap_or(0)
}

/// What the chat got about it: at least once, always under the same key.
fn about(chat: &HttpSink, title: &str) -> usize {
    let all = chat.requests().into_iter();
    let all: Vec<_> = all.filter(|r| r.json()["text"].as_str().unwrap().contains(title)).collect();
    let keys: Vec<_> = all.iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys.windows(2).all(|two| two[0] == two[1]), "{keys:?}");
    all.len()
}

async fn signal(process: &Process, name: &str) {
    let pid = process.pid().to_string();
    let sent = tokio::process::Command::new("kill").args([name, &pid]).status().await.unwrap();
    assert!(sent.success());
}

/// Announces new incidents in a chat and by mail, both of which only the other network reaches.
async fn announce(app: &App, chat: &HttpSink) {
    let config = json!({"webhook_url": chat.url("/services/T/B/x")});
    let channels = [("slack", config), ("email", json!({"to": ["operations@acme.example"]}))];
    for (kind, config) in channels {
        let channel = json!({"kind": kind, "name": kind, "config": config});
        let channel = app.client.post("/api/v1/notification-channels", channel).await.expect(201);
        let rule = json!({"event": "incident.opened", "channel": channel["id"], "conditions": {}});
        app.client.post("/api/v1/notification-rules", rule).await.expect(201);
    }
}

fn platform(url: &str) -> [(&str, &str); 5] {
    [
        ("AMQP_URL", url),
        ("RELAYDESK_REMOTE_LANES", LANES),
        ("RELAYDESK_REMOTE_KEYS", KEY),
        ("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", ""),
        ("RELAYDESK_MAIL_URL", ""),
    ]
}

const STOPPED: &str = "relaydesk_remote_requests_total{outcome=\"stopped\"}";
const STALE: &str = "relaydesk_remote_answers_total{outcome=\"stale\"}";

#[tokio::test(flavor = "multi_thread")]
async fn messages_mails_and_inventories_pass_through_a_worker_without_a_database() {
    if !testkit::has_broker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((node, near, far)) = broker(folder.path()).await else { return };
    let app = App::start_with(&platform(&near)).await;
    let (chat, relay) = (HttpSink::start().await, SmtpSink::start().await);
    announce(&app, &chat).await;
    let far = Far { url: &far, relay: &relay, folder: folder.path() };

    // One has another key: it leaves the requests to others.
    let wrong = far.worker(OTHER_KEY).await;
    let (right, status) = far.ready_worker().await;
    let number = open(&app, "printer burns").await;
    until_sent(&app, &number, 2).await;
    wrong.kill().await;
    assert_eq!(about(&chat, "printer burns"), 1);
    assert_eq!(relay.wait_for(1, WAIT).await.len(), 1);
    assert!(counted(&status, "relaydesk_remote_requests_total{outcome=\"done\"}").await >= 2);

    // An inventory of that network.
    let inventory = HttpSink::start().await;
    inventory.otherwise(Answer::status(200).json(&json!({"hosts": [{"name": "nas1", "serial": "1"}]})));
    let source = json!({"name": "far", "format": "json", "location": inventory.url("/hosts.json"),
        "identification_keys": ["serial", "name"]});
    let source = app.client.post("/api/v1/discovery-sources", source).await.expect(201);
    let run = format!("/api/v1/discovery-sources/{}/run", source["id"].as_str().unwrap());
    app.client.post(&run, json!({})).await.expect(202);
    let named = |page: &Value| page["items"][0]["name"] == "nas1";
    app.client.within(WAIT, "/api/v1/configuration-items", named).await;

    // The broker is restarted while it is at it: what it does is not done again.
    chat.otherwise(Answer::status(200).body("ok").after(Duration::from_secs(3)));
    let number = open(&app, "house burns").await;
    chat.until("the message", |all| all.iter().any(|r| r.json()["text"].as_str().unwrap().contains("house")))
        .await;
    node.stop().await;
    assert_eq!(status.get("/readyz").await.status, 503);
    assert_eq!(status.get("/livez").await.status, 200);
    node.start_again().await;
    until_sent(&app, &number, 2).await;
    assert_eq!(about(&chat, "house burns"), 1);

    // Told to end while it is at it, it ends that first.
    let number = open(&app, "garden burns").await;
    chat.until("the message", |all| {
        all.iter().any(|r| r.json()["text"].as_str().unwrap().contains("garden"))
    })
    .await;
    assert_eq!(right.terminate().await, Some(0));
    let second = far.worker(KEY).await;
    until_sent(&app, &number, 2).await;
    assert_eq!(about(&chat, "garden burns"), 1);
    assert_eq!(second.terminate().await, Some(0));
    assert_eq!(app.process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_nothing_is_lost_and_what_comes_late_is_refused() {
    if !testkit::has_broker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((_node, near, far)) = broker(folder.path()).await else { return };
    let mut app = App::start_with(&platform(&near)).await;
    let (chat, relay) = (HttpSink::start().await, SmtpSink::start().await);
    announce(&app, &chat).await;
    let far = Far { url: &far, relay: &relay, folder: folder.path() };
    let (first, _) = far.ready_worker().await;
    let said = |title: &'static str| {
        move |all: &[testkit::sinks::Request]| {
            all.iter().any(|r| r.json()["text"].as_str().unwrap().contains(title))
        }
    };

    // Killed while it is at it.
    chat.script([Answer::status(200).body("ok").after(Duration::from_secs(60))]);
    let number = open(&app, "server burns").await;
    chat.until("the message", said("server burns")).await;
    first.kill().await;
    let (second, status) = far.ready_worker().await;
    until_sent(&app, &number, 2).await;
    assert_eq!(about(&chat, "server burns"), 2, "once by each");

    // Stopped while it is at it, until another has done it. When it goes on, it hears that its run is over, or its answer is refused.
    chat.script([Answer::status(200).body("ok").after(Duration::from_secs(8))]);
    let number = open(&app, "house burns").await;
    chat.until("the message", said("house burns")).await;
    signal(&second, "-STOP").await;
    let (third, _) = far.ready_worker().await;
    until_sent(&app, &number, 2).await;
    let refused = counted(&app.client, STALE).await;
    signal(&second, "-CONT").await;
    let begun = Instant::now();
    while counted(&app.client, STALE).await == refused && counted(&status, STOPPED).await == 0 {
        assert!(begun.elapsed() < WAIT, "it was neither stopped nor refused");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(about(&chat, "house burns"), 2);
    second.kill().await;

    // The platform is killed while a remote worker is at it: its lease ends, and its job runs again.
    chat.script([Answer::status(200).body("ok").after(Duration::from_secs(2))]);
    let number = open(&app, "garden burns").await;
    chat.until("the message", said("garden burns")).await;
    app.kill().await;
    app.start_again().await;
    until_sent(&app, &number, 2).await;
    let sent =
        app.client.get(&format!("/api/v1/notifications?status=sent&ticket={number}")).await.expect(200);
    assert_eq!(
        sent["items"].as_array().unwrap().len(),
        2,
        "a message and a mail, each once in the ledger: {sent}"
    );
    assert_eq!(third.terminate().await, Some(0));
    assert_eq!(app.process.terminate().await, Some(0));
}
