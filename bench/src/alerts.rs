//! From the Alertmanager hook to durable incidents: `count` posts, each a different group with one firing alert. The
//! clock stops when the last one is an incident.

use crate::demo::Demo;
use crate::jobs::{self, private_broker};
use anyhow::{Context, Result, ensure};
use queue::Transport;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The usual lanes; what hooks bring comes by way of the broker.
const BY_BROKER: &str =
    "ingest=16@rabbitmq,react=8,timers=8,outbound=16,mail=8,reports=2,discovery=2,maintenance=2";

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Delete the demo's notification rules first: no message is sent for each incident.
    #[arg(long)]
    without_rules: bool,
    /// The way from the hook to the inbox; for rabbitmq a private broker is started
    #[arg(long, default_value = "postgres", value_parser = jobs::transport)]
    transport: Transport,
}

pub async fn run(args: Args) -> Result<Value> {
    let broker = match args.transport {
        Transport::Postgres => None,
        Transport::Rabbitmq => Some(private_broker().await?),
    };
    let settings =
        broker.iter().flat_map(|broker| [("RELAYDESK_LANES", BY_BROKER), ("AMQP_URL", broker.url())]);
    let demo = Demo::start_with(&settings.collect::<Vec<_>>()).await?;
    if broker.is_some() {
        // Until then the database takes them.
        while demo.metric("relaydesk_amqp_connected", "hooks_in").await? < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let hook =
        demo.facts["hooks"]["alertmanager"].as_str().context("no alertmanager hook in demo.json")?.to_owned();
    if args.without_rules {
        let rules: Value =
            demo.http.get(format!("{}/api/v1/notification-rules", demo.api)).send().await?.json().await?;
        for rule in rules["items"].as_array().context("no list of rules")? {
            let id = rule["id"].as_str().context("a rule without id")?;
            let url = format!("{}/api/v1/notification-rules/{id}", demo.api);
            demo.http.delete(url).send().await?.error_for_status()?;
        }
    }
    let before = opened(&demo).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let posters: Vec<_> = (0..args.connections)
        .map(|_| {
            let (http, hook, next) = (demo.http.clone(), hook.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.count {
                        return anyhow::Ok(());
                    }
                    let answer = http.post(&hook).json(&payload(number)).send().await?;
                    ensure!(answer.status() == 202, "the hook answered {}", answer.status());
                }
            })
        })
        .collect();
    for poster in posters {
        poster.await??;
    }
    let accepted = began.elapsed();
    while opened(&demo).await? - before < args.count as f64 {
        ensure!(
            began.elapsed() < Duration::from_secs(600),
            "not all alerts became incidents within ten minutes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = began.elapsed();
    demo.stop().await?;
    Ok(json!({
        "bench": "alerts", "alerts": args.count, "connections": args.connections,
        "without_rules": args.without_rules, "transport": args.transport.as_str(),
        "accepted_per_second": args.count as f64 / accepted.as_secs_f64(),
        "incidents_per_second": args.count as f64 / done.as_secs_f64(),
    }))
}

async fn opened(demo: &Demo) -> Result<f64> {
    demo.metric("relaydesk_alert_ingest_total", "opened").await
}

fn payload(number: usize) -> Value {
    let labels = json!({"alertname": "DiskFull", "instance": format!("host{number}.bench.example"), "severity": "critical"});
    let group = format!("{{}}:{{alertname=\"DiskFull\", instance=\"host{number}.bench.example\"}}");
    json!({
        "version": "4", "groupKey": group, "truncatedAlerts": 0, "status": "firing", "receiver": "relaydesk",
        "groupLabels": labels, "commonLabels": labels, "commonAnnotations": {"summary": "disk is almost full"},
        "externalURL": "http://alertmanager.bench.example",
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": {"summary": "disk is almost full"},
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.bench.example", "fingerprint": format!("{number:016x}"),
        }],
    })
}
