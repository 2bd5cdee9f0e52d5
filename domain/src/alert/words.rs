//! The words of an incident that an alert opened: its title, description and comments.

use super::{Notification, Signal};
use std::fmt::Write;

/// A ticket's title holds 500 characters.
const TITLE: usize = 500;
/// How many alerts a text names before it says "and N more".
const NAMED: usize = 20;

/// The sender's title of the group; else the title of its only alert; else the first with the number of the others.
pub fn group_title(notification: &Notification, signals: &[&Signal]) -> String {
    let first = signals.first().map_or("alert", |signal| signal.title.as_str());
    let title = match &notification.title {
        Some(title) if signals.len() > 1 => title.clone(),
        _ if signals.len() > 1 => format!("{first} (and {} more)", signals.len() - 1),
        _ => first.to_owned(),
    };
    shortened(&title, TITLE)
}

/// What an agent sees first: the sender's text, then the facts of each alert.
pub fn description(notification: &Notification, signals: &[&Signal]) -> String {
    let mut out = String::new();
    for (index, signal) in signals.iter().take(NAMED).enumerate() {
        if index > 0 {
            out.push_str("\n\n");
        }
        if signals.len() > 1 {
            let _ = writeln!(out, "{}", signal.title);
        }
        if !signal.description.is_empty() {
            let _ = writeln!(out, "{}\n", shortened(&signal.description, 5000));
        }
        if !signal.severity.is_empty() {
            let _ = writeln!(out, "severity: {}", signal.severity);
        }
        let _ = writeln!(out, "since: {}", signal.starts_at.format("%Y-%m-%d %H:%M:%S UTC"));
        for (name, value) in signal.labels.iter().take(50) {
            let _ = writeln!(out, "{name}: {}", shortened(value, 300));
        }
        if let Some(url) = &signal.source_url {
            let _ = writeln!(out, "source: {url}");
        }
    }
    if signals.len() > NAMED {
        let _ = writeln!(out, "\nand {} more alerts", signals.len() - NAMED);
    }
    if notification.truncated > 0 {
        let _ = writeln!(out, "\n{} further alerts were left out by the sender", notification.truncated);
    }
    if let Some(url) = &notification.url {
        let _ = writeln!(out, "\nmonitoring: {url}");
    }
    out.trim_end().to_owned()
}

/// The internal comment about a change within an open incident.
pub fn group_comment(
    joined: &[&Signal],
    ended: &[&Signal],
    still_firing: usize,
    unnamed: bool,
    raised: Option<&str>,
) -> String {
    let mut out = String::new();
    for (signals, what) in [(joined, "new alert"), (ended, "resolved")] {
        for signal in signals.iter().take(NAMED) {
            let _ = writeln!(out, "{what}: {}", shortened(&signal.title, 300));
        }
        if signals.len() > NAMED {
            let _ = writeln!(out, "{what}: {} more", signals.len() - NAMED);
        }
    }
    if let Some(raised) = raised {
        let _ = writeln!(out, "{raised}");
    }
    let _ = write!(
        out,
        "{}",
        match still_firing {
            0 if unnamed =>
                "none of the alerts we know of fires any more, but the sender does not name all of them"
                    .to_owned(),
            0 => "no alert of this incident fires any more".to_owned(),
            1 => "1 alert of this incident is firing".to_owned(),
            n => format!("{n} alerts of this incident are firing"),
        }
    );
    out
}

pub fn note_of_resolution(source: &str, ended: &[&Signal]) -> String {
    match ended {
        [one] => format!("resolved by {source}: {}", shortened(&one.title, 300)),
        _ => format!("resolved by {source}: no alert of this incident fires any more"),
    }
}

fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::super::AlertStatus;
    use super::*;
    use chrono::DateTime;
    use std::collections::BTreeMap;

    fn signal(title: &str) -> Signal {
        Signal {
            fingerprint: title.into(),
            status: AlertStatus::Firing,
            severity: "critical".into(),
            title: title.into(),
            description: "the disk is nearly full".into(),
            labels: BTreeMap::from([("instance".into(), "db1".into())]),
            source_url: Some("http://prometheus/graph".into()),
            starts_at: DateTime::UNIX_EPOCH,
            ends_at: None,
        }
    }

    fn notification() -> Notification {
        Notification {
            group_key: None,
            title: None,
            url: None,
            truncated: 3,
            group_status: None,
            signals: vec![],
        }
    }

    #[test]
    fn titles_fit_a_ticket() {
        let long = signal(&"ü".repeat(900));
        assert_eq!(group_title(&notification(), &[&long]).chars().count(), 500);
        assert_eq!(group_title(&notification(), &[&signal("a"), &signal("b")]), "a (and 1 more)");
    }

    #[test]
    fn the_description_names_the_facts() {
        let text = description(&notification(), &[&signal("a")]);
        assert_eq!(
            text,
            "the disk is nearly full\n\nseverity: critical\nsince: 1970-01-01 00:00:00 UTC\ninstance: db1\n\
             source: http://prometheus/graph\n\n3 further alerts were left out by the sender"
        );
    }

    #[test]
    fn a_storm_stays_readable() {
        let signals: Vec<_> = (0..100).map(|n| signal(&format!("alert {n}"))).collect();
        let all: Vec<_> = signals.iter().collect();
        assert!(description(&notification(), &all).contains("and 80 more alerts"));
        let comment = group_comment(&all, &[], 100, false, Some("impact raised to high"));
        assert!(comment.lines().count() < 30);
        assert!(comment.ends_with("100 alerts of this incident are firing"));
    }
}
