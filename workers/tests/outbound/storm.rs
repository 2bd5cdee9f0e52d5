//! A storm of alerts: what waits goes along, and every alert is told of as if it had come alone.

use crate::world::World;
use actions::alert_sources::{self, NewAlertSource};
use actions::jobs::IngestAlert;
use domain::alert::AlertSourceKind;
use domain::{Actor, ChannelKind, InboxId};
use queue::NewJob;
use queue::trace::TraceContext;
use serde_json::json;
use sqlx::Connection;
use std::collections::BTreeSet;
use store::inbox::{self, NewInbox};
use uuid::Uuid;

const ALERTS: usize = 60;

#[tokio::test]
async fn every_alert_of_a_storm_has_its_incident_its_trace_and_its_message() {
    let world = World::open().await;
    let (organization, actor) = (world.organization.id, Actor::system(world.organization.id, "test"));
    let sink = json!({"webhook_url": "https://hooks.example/services/T0/B0/x"});
    let channel = world.channel(ChannelKind::Slack, sink).await;
    world.rule("incident.opened", channel, json!({})).await;
    let mut tx = world.begin().await;
    let new = NewAlertSource::new(AlertSourceKind::Generic, "probe");
    let source = alert_sources::create(&mut tx, &actor, new).await.unwrap().source;
    let mut kept = Vec::new();
    for number in 0..ALERTS {
        let raw = match number {
            7 => b"{\"status\": \"firing\"".to_vec(),
            _ => json!({"status": "firing", "fingerprint": format!("disk{number}"), "title": format!("disk {number} is full"), "severity": "critical"})
                .to_string()
                .into_bytes(),
        };
        let id = InboxId::new();
        let new = NewInbox {
            id,
            source: "generic",
            channel_id: source.id.0,
            unique_key: &id.to_string(),
            content_type: "application/json",
            raw: &raw,
            headers: json!({}),
        };
        inbox::keep(&mut tx, &new).await.unwrap();
        let trace = TraceContext::new_root();
        let job = NewJob::of(&IngestAlert::new(id)).organization(organization);
        queue::enqueue(&mut tx, &[NewJob { trace_parent: Some(trace.to_string()), ..job }]).await.unwrap();
        kept.push((number, id, trace));
    }
    tx.commit().await.unwrap();
    world.drain_once().await.unwrap_or_else(|error| panic!("{error}"));

    let mut owner = world.test.owner().await;
    for (number, id, trace) in kept {
        let (status, incident): (String, Option<Uuid>) =
            sqlx::query_as("select status, ticket_id from inbox where id = $1")
                .bind(id.0)
                .fetch_one(&mut owner)
                .await
                .unwrap();
        if number == 7 {
            assert_eq!((status.as_str(), incident), ("failed", None), "half a payload");
            continue;
        }
        assert_eq!(status, "processed");
        let (title, in_history): (String, String) = sqlx::query_as(
            "select t.title, h.trace_id from tickets t join ticket_history h on h.ticket_id = t.id where t.id = $1",
        )
        .bind(incident)
        .fetch_one(&mut owner)
        .await
        .unwrap();
        assert_eq!(title, format!("disk {number} is full"));
        assert_eq!(in_history, trace.trace_id_hex());
        let traces: Vec<String> = sqlx::query_scalar(
            "select j.trace_parent from deliveries d join queue.jobs j on j.id = d.job_id where d.ticket_id = $1
             union all select h.trace_parent from deliveries d join queue.history h on h.id = d.job_id where d.ticket_id = $1",
        )
        .bind(incident)
        .fetch_all(&mut owner)
        .await
        .unwrap();
        assert!(matches!(&traces[..], [one] if one.contains(&trace.trace_id_hex())), "{traces:?}");
    }
    let numbers: BTreeSet<String> = sqlx::query_scalar("select number from tickets")
        .fetch_all(&mut owner)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let expected: BTreeSet<String> = (1..ALERTS).map(|n| format!("INC{n:07}")).collect();
    assert_eq!(numbers, expected, "no number twice, none left out");
    let transactions: i64 = sqlx::query_scalar("select count(distinct created_at) from tickets")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(transactions < 30, "{transactions} transactions for {ALERTS} alerts: none went along");
    owner.close().await.unwrap();
}
