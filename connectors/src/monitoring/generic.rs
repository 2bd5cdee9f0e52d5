//! The plain JSON hook, for whatever can send a POST. One alert, or `{"alerts": [...]}` with several:
//!
//! ```json
//! {"dedup_key": "backup-nas1", "status": "firing", "severity": "critical", "title": "Backup of nas1 failed",
//!  "description": "exit code 12", "labels": {"host": "nas1"}, "source_url": "https://backup.example/runs/77"}
//! ```
//!
//! `dedup_key` (or `fingerprint`) says which alert it is; `title` is needed while it fires. `group` puts several alerts into
//! one incident; `starts_at` and `ends_at` default to the time of arrival.

use super::InvalidPayload;
use super::json::{Reader, document, kind_of, one_line};
use chrono::{DateTime, Utc};
use domain::alert::{AlertStatus, Notification, Signal};
use serde_json::{Map, Value};

/// How senders say that an alert fires, and that it is over; upper case is read as lower case.
const FIRING: [&str; 11] = [
    "firing",
    "alerting",
    "triggered",
    "trigger",
    "problem",
    "open",
    "active",
    "down",
    "critical",
    "warning",
    "error",
];
const RESOLVED: [&str; 11] = [
    "resolved",
    "resolve",
    "ok",
    "recovered",
    "recovery",
    "closed",
    "close",
    "clear",
    "cleared",
    "up",
    "normal",
];

pub fn parse(body: &[u8], received_at: DateTime<Utc>) -> Result<Notification, InvalidPayload> {
    let document = document(body)?;
    let mut reader = Reader::default();
    let mut notification = Notification {
        group_key: None,
        title: None,
        url: None,
        truncated: 0,
        group_status: None,
        signals: Vec::new(),
    };
    let Value::Object(payload) = &document else {
        reader.fault("", format!("expected an object, got {}", kind_of(&document)));
        return reader.finish(notification);
    };
    notification.group_key = reader.text(payload, "", "group");
    match payload.get("alerts") {
        None => notification.signals.extend(signal(&mut reader, payload, "", received_at)),
        Some(Value::Array(alerts)) if !alerts.is_empty() => {
            notification.title = reader.text(payload, "", "title").map(|title| one_line(&title, 500));
            for (index, alert) in alerts.iter().enumerate() {
                let at = format!("/alerts/{index}");
                match alert {
                    Value::Object(alert) => {
                        notification.signals.extend(signal(&mut reader, alert, &at, received_at));
                    }
                    other => reader.fault(at, format!("expected an object, got {}", kind_of(other))),
                }
            }
        }
        Some(Value::Array(_)) => reader.fault("/alerts", "expected at least one alert"),
        Some(other) => reader.fault("/alerts", format!("expected an array, got {}", kind_of(other))),
    }
    reader.finish(notification)
}

fn signal(
    reader: &mut Reader,
    alert: &Map<String, Value>,
    at: &str,
    received_at: DateTime<Utc>,
) -> Option<Signal> {
    let status = status(reader, alert, at);
    let key =
        ["dedup_key", "fingerprint"].into_iter().find_map(|name| Some((name, reader.text(alert, at, name)?)));
    let fingerprint = match key {
        Some((name, key)) => {
            if key.chars().count() > 255 {
                reader.fault(format!("{at}/{name}"), "longer than 255 characters");
            }
            Some(key)
        }
        None => {
            reader.fault(
                format!("{at}/dedup_key"),
                "missing: say by dedup_key or fingerprint which alert this is",
            );
            None
        }
    };
    let title = reader.text(alert, at, "title").or_else(|| reader.text(alert, at, "summary"));
    if title.is_none() && status == Some(AlertStatus::Firing) {
        reader.fault(format!("{at}/title"), "missing: becomes the title of the incident");
    }
    let severity = reader.text(alert, at, "severity").unwrap_or_default();
    let description = reader.text(alert, at, "description").unwrap_or_default();
    let labels = reader.labels(alert, at, "labels");
    let source_url = reader.text(alert, at, "source_url");
    let (starts_at, ends_at) = (reader.time(alert, at, "starts_at"), reader.time(alert, at, "ends_at"));
    let (status, fingerprint) = (status?, fingerprint?);
    let over = (status == AlertStatus::Resolved).then(|| ends_at.unwrap_or(received_at));
    Some(Signal {
        title: one_line(title.as_deref().unwrap_or(&fingerprint), 500),
        fingerprint,
        status,
        severity: one_line(&severity.to_lowercase(), 64),
        description,
        labels,
        source_url,
        starts_at: starts_at.or(over).unwrap_or(received_at),
        ends_at: over,
    })
}

fn status(reader: &mut Reader, alert: &Map<String, Value>, at: &str) -> Option<AlertStatus> {
    let Some(given) = alert.get("status").filter(|status| !status.is_null()) else {
        return Some(AlertStatus::Firing);
    };
    let word = given.as_str().unwrap_or_default().trim().to_lowercase();
    if FIRING.contains(&word.as_str()) {
        Some(AlertStatus::Firing)
    } else if RESOLVED.contains(&word.as_str()) {
        Some(AlertStatus::Resolved)
    } else {
        let detail = format!("expected one of {} or {}, got {given}", FIRING.join(", "), RESOLVED.join(", "));
        reader.fault(format!("{at}/status"), detail);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn reads_one_alert() {
        let notification = parse(include_bytes!("../../fixtures/generic/firing.json"), now()).unwrap();
        let signal = &notification.signals[0];
        assert_eq!(signal.fingerprint, "backup-nas1");
        assert_eq!((signal.status, signal.severity.as_str()), (AlertStatus::Firing, "critical"));
        assert_eq!(signal.starts_at, now());
        assert_eq!(signal.labels["host"], "nas1");
        assert_eq!(signal.labels["attempt"], "3");
    }

    #[test]
    fn reads_an_end_without_a_title() {
        let notification = parse(include_bytes!("../../fixtures/generic/resolved.json"), now()).unwrap();
        let signal = &notification.signals[0];
        assert_eq!((signal.status, signal.ends_at), (AlertStatus::Resolved, Some(now())));
        assert_eq!(signal.title, "backup-nas1");
    }

    #[test]
    fn reads_several_with_a_group() {
        let notification = parse(include_bytes!("../../fixtures/generic/batch.json"), now()).unwrap();
        assert_eq!(notification.group_key.as_deref(), Some("rack-7"));
        assert_eq!(notification.signals.len(), 2);
    }

    #[test]
    fn says_where_it_is_wrong() {
        let error = parse(br#"{"status": "purple", "title": 7}"#, now()).unwrap_err();
        let pointers: Vec<_> = error.faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/status", "/dedup_key", "/title"]);
        let error = parse(br#"{"alerts": [{"dedup_key": "a", "title": "t", "starts_at": "now"}]}"#, now())
            .unwrap_err();
        assert_eq!(error.faults[0].pointer, "/alerts/0/starts_at");
        let long = format!(r#"{{"dedup_key": "{}", "title": "t"}}"#, "x".repeat(256));
        assert!(parse(long.as_bytes(), now()).unwrap_err().to_string().contains("255"));
    }

    proptest! {
        #[test]
        fn any_json_is_survived(text in "[\\[\\]{}:,\"a-z0-9 ]{0,80}") {
            let _ = parse(text.as_bytes(), now());
        }
    }
}
