//! The mail that brings a report.

use crate::Context;
use crate::context::parts;
use serde::Serialize;

/// All figures as they are to be read: numbers with their units.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub organization: String,
    /// For example `2026-11-20`, or `2026-11-09 to 2026-11-15`.
    pub period: String,
    pub time_zone: String,
    pub opened: i64,
    pub resolved: i64,
    pub open_at_end: i64,
    pub first_response_mean: String,
    pub first_response_median: String,
    pub resolution_mean: String,
    pub resolution_median: String,
    pub by_priority: Vec<Figure>,
    pub by_team: Vec<Figure>,
    pub by_source: Vec<Figure>,
    pub sla: Vec<SlaFigure>,
    /// The first incidents; the file has all.
    pub incidents: Vec<Incident>,
    /// How many are in the file only; 0: none.
    pub more: i64,
    /// `None`: the file is attached; else where to get it, because it is too large for a mail.
    pub download: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub count: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct SlaFigure {
    pub policy: String,
    pub metric: String,
    pub met: i64,
    pub breached: i64,
    /// `96.4 %`, or `–` when there was nothing.
    pub kept: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Incident {
    pub number: String,
    pub url: String,
    pub title: String,
    pub priority: String,
    pub status: String,
    pub team: String,
    pub opened: String,
    /// True: a target of it was broken.
    pub breached: bool,
}

impl Context for Report {
    const NAME: &'static str = "mail/report";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("mail/report": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        let incident = Incident {
            number: "INC0000123".into(),
            url: "https://desk.example/?ticket=INC0000123".into(),
            title: "=HYPERLINK(\"http://x\") <b>bold</b>".into(),
            priority: "critical".into(),
            status: "in progress".into(),
            team: "Network & Co".into(),
            opened: "2026-11-20 09:15".into(),
            breached: true,
        };
        let full = Report {
            organization: "Example & Sons".into(),
            period: "2026-11-20".into(),
            time_zone: "Europe/Berlin".into(),
            opened: 12,
            resolved: 9,
            open_at_end: 4,
            first_response_mean: "14 min".into(),
            first_response_median: "9 min".into(),
            resolution_mean: "3 h 20 min".into(),
            resolution_median: "1 h 05 min".into(),
            by_priority: vec![
                Figure { name: "critical".into(), count: 2 },
                Figure { name: "low".into(), count: 10 },
            ],
            by_team: vec![
                Figure { name: "Network & Co".into(), count: 7 },
                Figure { name: "no team".into(), count: 5 },
            ],
            by_source: vec![Figure { name: "email".into(), count: 12 }],
            sla: vec![SlaFigure {
                policy: "Office hours".into(),
                metric: "First response".into(),
                met: 27,
                breached: 1,
                kept: "96.4 %".into(),
            }],
            incidents: vec![incident.clone(), Incident { breached: false, ..incident }],
            more: 3,
            download: None,
        };
        let nothing = Report {
            opened: 0,
            resolved: 0,
            open_at_end: 0,
            first_response_mean: "–".into(),
            first_response_median: "–".into(),
            resolution_mean: "–".into(),
            resolution_median: "–".into(),
            by_priority: Vec::new(),
            by_team: Vec::new(),
            by_source: Vec::new(),
            sla: Vec::new(),
            incidents: Vec::new(),
            more: 0,
            download: Some("https://desk.example/report#rdl_0193".into()),
            ..full.clone()
        };
        vec![full, nothing]
    }
}
