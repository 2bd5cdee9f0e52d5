//! Story: an inventory becomes configuration items, and stays in step with them.

use serde_json::{Value, json};
use std::fmt::Write;
use testkit::App;
use testkit::sinks::{Answer, HttpSink};

const SOURCES: &str = "/api/v1/discovery-sources";
const ITEMS: &str = "/api/v1/configuration-items";

/// Runs or previews the source and waits for the end.
async fn run(app: &App, source: &Value, mode: &str) -> Value {
    let path = format!("{SOURCES}/{}", source["id"].as_str().unwrap());
    let started = app.client.post(&format!("{path}/{mode}"), json!({})).await.expect(202);
    assert!(started["job"].is_string());
    let run = format!("{path}/runs/{}", started["run"].as_str().unwrap());
    app.client.until(&run, |run| ["succeeded", "failed"].contains(&run["status"].as_str().unwrap())).await
}

fn counts(run: &Value) -> [u64; 6] {
    assert_eq!(run["status"], "succeeded", "{run}");
    ["read", "created", "updated", "unchanged", "missing", "failed"]
        .map(|name| run["counts"][name].as_u64().unwrap())
}

fn hosts(range: std::ops::Range<u32>) -> Vec<Value> {
    range
        .map(|n| json!({"name": format!("host{n}"), "class": "server", "serial": format!("SN-{n:05}"), "ram_gb": 64, "rack": n % 40}))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_items_over_http_with_exact_counts() {
    let app = App::start().await;
    let inventory = HttpSink::start().await;
    let serve = |items: Vec<Value>| inventory.otherwise(Answer::status(200).json(&json!({"hosts": items})));
    serve(hosts(0..1000));
    let source = json!({
        "name": "data centre", "format": "json", "location": inventory.url("/hosts.json"),
        "identification_keys": ["serial", "name"], "auth_header": {"name": "Authorization", "value": "Bearer s3cret"},
    });
    let source = app.client.post(SOURCES, source).await.expect(201);
    assert!(!source.to_string().contains("s3cret"));

    let preview = run(&app, &source, "preview").await;
    assert_eq!(counts(&preview), [1000, 1000, 0, 0, 0, 0]);
    assert_eq!(app.agent.get(ITEMS).await.expect(200)["items"], json!([]), "a preview changes nothing");
    let request = inventory.requests().pop().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));

    let began = std::time::Instant::now();
    assert_eq!(counts(&run(&app, &source, "run").await), [1000, 1000, 0, 0, 0, 0]);
    assert!(began.elapsed().as_secs() < 5, "a thousand items took {:?}", began.elapsed());
    assert_eq!(counts(&run(&app, &source, "run").await), [1000, 0, 0, 1000, 0, 0]);
    assert_eq!(app.agent.all(ITEMS).await.len(), 1000);

    // Five are new, three have more memory, ten are gone, one row is unusable.
    let mut changed = hosts(10..1005);
    for host in &mut changed[..3] {
        host["ram_gb"] = json!(128);
    }
    changed.push(json!({"name": "", "serial": "To Be Filled By O.E.M."}));
    serve(changed);
    let expected = [996, 5, 3, 987, 10, 1];
    let preview = run(&app, &source, "preview").await;
    assert_eq!(counts(&preview), expected);
    let update = &preview["sample"][0];
    assert_eq!(update["differences"], json!([{"field": "attributes.ram_gb", "from": 64, "to": 128}]));
    assert_eq!(preview["errors"][0]["row"], 996);
    assert_eq!(app.agent.all(&format!("{ITEMS}?missing=true")).await.len(), 0);
    assert_eq!(counts(&run(&app, &source, "run").await), expected);
    assert_eq!(app.agent.all(&format!("{ITEMS}?missing=true")).await.len(), 10);
    assert_eq!(counts(&run(&app, &source, "run").await), [996, 0, 0, 995, 0, 1]);

    // What is back is not missing any more.
    serve(hosts(0..1005));
    assert_eq!(counts(&run(&app, &source, "run").await), [1005, 0, 13, 992, 0, 0]);
    assert_eq!(app.agent.all(&format!("{ITEMS}?missing=true")).await.len(), 0);

    // An inventory that lists nothing is broken, not empty.
    serve(vec![]);
    let broken = run(&app, &source, "run").await;
    assert_eq!(broken["status"], "failed");
    assert!(broken["error"].as_str().unwrap().contains("1005 items would go missing"), "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheet_from_the_folder_and_nothing_beside_it() {
    let app = App::start().await;
    let mut sheet = String::from("\u{feff}Name;Typ;Seriennummer;Standort\r\n");
    for n in 0..50 {
        write!(sheet, "srv{n};server;S{n};\"Köln; Halle {n}\"\r\n").unwrap();
    }
    sheet.push_str("kaputt;zeile\r\n");
    std::fs::write(app.discovery.join("servers.csv"), &sheet).unwrap();
    let options = json!({"mapping": {
        "name": "Name", "class": "Typ", "identifiers.serial": "Seriennummer", "attributes.location": "Standort"
    }});
    let body = json!({
        "name": "sheet", "format": "csv", "location": "servers.csv", "identification_keys": ["serial"], "options": options,
    });
    let source = app.client.post(SOURCES, body).await.expect(201);
    let first = run(&app, &source, "run").await;
    assert_eq!(counts(&first), [51, 50, 0, 0, 0, 1]);
    assert!(first["errors"][0]["error"].as_str().unwrap().contains("2 fields"), "{first}");
    let found = app.agent.get(&format!("{ITEMS}?identifier=S7")).await.expect(200);
    assert_eq!(found["items"][0]["attributes"]["location"], "Köln; Halle 7");

    for location in ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd"] {
        let path = format!("{SOURCES}/{}", source["id"].as_str().unwrap());
        app.client.patch(&path, json!({"location": location})).await.expect(200);
        let refused = run(&app, &source, "run").await;
        assert_eq!(refused["status"], "failed");
        assert!(refused["error"].as_str().unwrap().contains("RELAYDESK_DISCOVERY_DIR"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_name_configuration_items() {
    let app = App::start().await;
    let item = json!({"name": "db1", "class": "server", "identifiers": {"serial": "S1"}, "attributes": {"os": "debian"}});
    let db1 = app.client.post(ITEMS, item.clone()).await.expect(201);
    assert_eq!(app.client.post(ITEMS, item).await.expect(422)["errors"][0]["pointer"], "/identifiers");
    let shop = app.client.post(ITEMS, json!({"name": "shop", "class": "service"})).await.expect(201);
    let relation = json!({"from": shop["id"], "to": db1["id"], "kind": "runs_on"});
    app.client.post("/api/v1/ci-relationships", relation).await.expect(201);
    let related =
        app.agent.all(&format!("/api/v1/ci-relationships?item={}", db1["id"].as_str().unwrap())).await;
    assert_eq!(related.len(), 1);

    let incident = json!({"title": "shop is slow", "configuration_items": [db1["id"], shop["id"]]});
    let incident = app.agent.post("/api/v1/incidents", incident).await.expect(201);
    assert_eq!(incident["configuration_items"].as_array().unwrap().len(), 2);
    let named = format!("/api/v1/incidents?configuration_item={}", db1["id"].as_str().unwrap());
    assert_eq!(app.agent.all(&named).await.len(), 1);
    assert_eq!(app.agent.all(&format!("{ITEMS}?q=debian")).await.len(), 1);
    assert_eq!(app.end_user.get(ITEMS).await.status, 403);

    let path = format!("{ITEMS}/{}", db1["id"].as_str().unwrap());
    let stale = app
        .client
        .request(reqwest::Method::PATCH, &path)
        .header("if-match", "\"7\"")
        .json(&json!({"status": "retired"}));
    assert_eq!(app.client.send(stale).await.status, 412);
    let changed = app.client.patch(&path, json!({"status": "retired"})).await.expect(200);
    assert_eq!((&changed["status"], &changed["name"]), (&json!("retired"), &json!("db1")));
}
