//! Prometheus Alertmanager, webhook payload version 4
//! (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>). Grafana's Alertmanager sends the same shape.

use super::InvalidPayload;
use super::json::{Reader, document, kind_of, one_line};
use chrono::{DateTime, Utc};
use domain::alert::{AlertStatus, Notification, Signal};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

pub fn parse(body: &[u8], received_at: DateTime<Utc>) -> Result<Notification, InvalidPayload> {
    let document = document(body)?;
    let mut reader = Reader::default();
    let nothing = Map::new();
    let payload = document.as_object().unwrap_or_else(|| {
        reader.fault("", format!("expected an object, got {}", kind_of(&document)));
        &nothing
    });
    if let Some(version) = payload.get("version").filter(|version| *version != "4") {
        reader.fault("/version", format!("expected \"4\", got {version}"));
    }
    let mut signals = Vec::new();
    match payload.get("alerts") {
        Some(Value::Array(alerts)) if !alerts.is_empty() => {
            for (index, alert) in alerts.iter().enumerate() {
                signals.extend(signal(&mut reader, alert, &format!("/alerts/{index}"), received_at));
            }
        }
        Some(Value::Array(_)) => reader.fault("/alerts", "expected at least one alert"),
        Some(other) => reader.fault("/alerts", format!("expected an array, got {}", kind_of(other))),
        None if document.is_object() => reader.fault("/alerts", "missing: expected an array of alerts"),
        None => {}
    }
    // Not needed, and so no other word for it is a fault.
    let group_status = payload.get("status").and_then(Value::as_str).and_then(|status| status.parse().ok());
    let annotations = reader.labels(payload, "", "commonAnnotations");
    let common = reader.labels(payload, "", "commonLabels");
    let title = first(&annotations, &["summary", "title"]).or_else(|| {
        common.get("alertname").map(|name| match signals.len() {
            0 | 1 => name.clone(),
            n => format!("{name} ({n} alerts)"),
        })
    });
    let notification = Notification {
        group_key: reader.text(payload, "", "groupKey"),
        title: title.map(|title| one_line(&title, 500)),
        url: reader.text(payload, "", "externalURL"),
        truncated: payload.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or(0),
        group_status,
        signals,
    };
    reader.finish(notification)
}

fn signal(reader: &mut Reader, alert: &Value, at: &str, received_at: DateTime<Utc>) -> Option<Signal> {
    let Value::Object(alert) = alert else {
        reader.fault(at, format!("expected an object, got {}", kind_of(alert)));
        return None;
    };
    let status = status(reader, alert, at);
    let labels = reader.labels(alert, at, "labels");
    if labels.is_empty() {
        reader.fault(format!("{at}/labels"), "missing: an alert is identified by its labels");
    }
    let annotations = reader.labels(alert, at, "annotations");
    let fingerprint = reader.text(alert, at, "fingerprint").unwrap_or_else(|| fingerprint_of(&labels));
    if fingerprint.chars().count() > 255 {
        reader.fault(format!("{at}/fingerprint"), "longer than 255 characters");
    }
    let starts_at = reader.time(alert, at, "startsAt");
    let ends_at = reader.time(alert, at, "endsAt");
    let status = status?;
    let over = (status == AlertStatus::Resolved).then(|| ends_at.unwrap_or(received_at));
    Some(Signal {
        fingerprint,
        status,
        severity: labels
            .get("severity")
            .or_else(|| labels.get("priority"))
            .map_or_else(String::new, |severity| one_line(&severity.to_lowercase(), 64)),
        title: title(&labels, &annotations),
        description: first(&annotations, &["description", "message"]).unwrap_or_default(),
        source_url: first(&annotations, &["runbook_url"]).or_else(|| reader.text(alert, at, "generatorURL")),
        labels,
        // Only a resolve can come without its start; the end is then the only time we have.
        starts_at: starts_at.or(over).unwrap_or(received_at),
        ends_at: over,
    })
}

fn status(reader: &mut Reader, alert: &Map<String, Value>, at: &str) -> Option<AlertStatus> {
    match alert.get("status").and_then(Value::as_str) {
        Some("firing") => Some(AlertStatus::Firing),
        Some("resolved") => Some(AlertStatus::Resolved),
        _ => {
            let given = alert.get("status").map_or("nothing".to_owned(), Value::to_string);
            reader.fault(format!("{at}/status"), format!("expected \"firing\" or \"resolved\", got {given}"));
            None
        }
    }
}

/// The summary; else the alert's name with the instance it is about.
fn title(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> String {
    let title = first(annotations, &["summary", "title"]).unwrap_or_else(|| {
        let name = labels.get("alertname").map_or("alert", String::as_str);
        match first(labels, &["instance", "service", "job"]) {
            Some(subject) => format!("{name} on {subject}"),
            None => name.to_owned(),
        }
    });
    one_line(&title, 500)
}

fn first(map: &BTreeMap<String, String>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| map.get(*name)).filter(|text| !text.is_empty()).cloned()
}

/// Alertmanager sends a fingerprint; senders that imitate it may not: then the labels are the identity, as there.
fn fingerprint_of(labels: &BTreeMap<String, String>) -> String {
    let text: String = labels.iter().map(|(name, value)| format!("{name}\u{1f}{value}\u{1e}")).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRING: &[u8] = include_bytes!("../../fixtures/alertmanager/firing.json");
    const RESOLVED: &[u8] = include_bytes!("../../fixtures/alertmanager/resolved.json");
    const PARTLY: &[u8] = include_bytes!("../../fixtures/alertmanager/partly_resolved_truncated.json");

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn reads_a_firing_group() {
        let notification = parse(FIRING, now()).unwrap();
        assert_eq!(notification.group_key.as_deref(), Some(r#"{}/{team="db"}:{alertname="DiskAlmostFull"}"#));
        assert_eq!(notification.signals.len(), 2);
        let signal = &notification.signals[0];
        assert_eq!(signal.fingerprint, "5f7a2c0be4d19386");
        assert_eq!(signal.status, AlertStatus::Firing);
        assert_eq!(signal.severity, "critical");
        assert_eq!(signal.title, "Disk of db1 is 97% full");
        assert_eq!(signal.starts_at.to_rfc3339(), "2026-03-01T11:57:41.123456+00:00");
        assert_eq!(signal.ends_at, None);
        assert_eq!(notification.title.as_deref(), Some("DiskAlmostFull (2 alerts)"));
    }

    #[test]
    fn reads_an_end() {
        let notification = parse(RESOLVED, now()).unwrap();
        assert!(notification.signals.iter().all(|signal| signal.status == AlertStatus::Resolved));
        assert_eq!(notification.signals[0].ends_at, Some("2026-03-01T12:04:11Z".parse().unwrap()));
    }

    #[test]
    fn reads_a_mixed_group_that_was_cut() {
        let notification = parse(PARTLY, now()).unwrap();
        assert_eq!(notification.truncated, 7);
        assert!(notification.has_unnamed());
        let statuses: Vec<_> = notification.signals.iter().map(|signal| signal.status).collect();
        assert_eq!(statuses, [AlertStatus::Firing, AlertStatus::Resolved]);
    }

    #[test]
    fn a_group_that_fires_without_naming_what_does() {
        let read = |group: &str, alert: &str, truncated: u64| {
            let body = format!(
                r#"{{"status": "{group}", "truncatedAlerts": {truncated},
                     "alerts": [{{"status": "{alert}", "labels": {{"alertname": "A"}}}}]}}"#
            );
            parse(body.as_bytes(), now()).unwrap().has_unnamed()
        };
        assert!(read("firing", "resolved", 0));
        assert!(read("firing", "firing", 2));
        assert!(read("resolved", "resolved", 2));
        assert!(!read("firing", "firing", 0));
        assert!(!read("resolved", "resolved", 0));
    }

    #[test]
    fn says_where_it_is_wrong() {
        let body = br#"{"version": "3", "alerts": [{"status": "burning", "labels": {"a": {}}}, 7,
            {"status": "firing", "labels": {"a": 1}, "startsAt": "yesterday"}]}"#;
        let pointers: Vec<_> =
            parse(body, now()).unwrap_err().faults.into_iter().map(|f| f.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/version",
                "/alerts/0/status",
                "/alerts/0/labels/a",
                "/alerts/0/labels",
                "/alerts/1",
                "/alerts/2/startsAt"
            ]
        );
        assert_eq!(
            parse(b"{}", now()).unwrap_err().to_string(),
            "/alerts: missing: expected an array of alerts"
        );
        assert_eq!(parse(b"[]", now()).unwrap_err().to_string(), "expected an object, got an array");
    }

    #[test]
    fn lives_with_little() {
        let body = br#"{"alerts": [{"status": "firing", "labels": {"alertname": "Up\u0000Down"}, "endsAt": "0001-01-01T00:00:00Z"}]}"#;
        let notification = parse(body, now()).unwrap();
        let signal = &notification.signals[0];
        assert_eq!((signal.starts_at, signal.ends_at), (now(), None));
        assert_eq!(signal.title, "Up\u{fffd}Down");
        assert_eq!(signal.fingerprint, parse(body, now()).unwrap().signals[0].fingerprint);
    }

    proptest! {
        /// A byte changed anywhere gives an answer, not a panic.
        #[test]
        fn damage_is_survived(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = FIRING.to_vec();
            let at = place.index(body.len());
            body[at] = byte;
            let _ = parse(&body, now());
        }
    }
}
