//! What the demo begins with. The organization and its admin are made like `relaydesk admin` makes them; everything else
//! goes through the public API, like a person would.

use super::{Account, Facts, secret};
use crate::commands::admin;
use anyhow::{Context, bail};
use connectors::http::{Client, Destinations, Request};
use domain::Role;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use store::Db;

pub const ORGANIZATION: &str = "demo";
const ADMIN: &str = "ada@demo.example";
const AGENT: &str = "grace@demo.example";
const MAILBOX: &str = "support@demo.example";

/// The accounts of an earlier start, or new ones.
pub async fn accounts(db: &Db, folder: &Path) -> anyhow::Result<(Facts, bool)> {
    if let Ok(bytes) = std::fs::read(folder.join("demo.json")) {
        let facts = serde_json::from_slice(&bytes).context("demo.json is damaged: start with --fresh")?;
        return Ok((facts, false));
    }
    let mut system = db.begin_system().await?;
    if store::organizations::find_by_slug(&mut system, ORGANIZATION).await?.is_some() {
        bail!("the database holds a demo whose demo.json is gone: start with --fresh, or put the file back");
    }
    drop(system);
    admin::create_organization(db, ORGANIZATION, "Demo Ltd", "Europe/Berlin").await?;
    let mut tx = admin::in_organization(db, ORGANIZATION).await?;
    let (admin_password, agent_password) = (secret(), secret());
    admin::create_user(&mut tx, ADMIN, "Ada Lovelace", Role::Admin, &admin_password.clone().into()).await?;
    admin::create_user(&mut tx, AGENT, "Grace Hopper", Role::Agent, &agent_password.clone().into()).await?;
    let token = admin::create_token(&mut tx, ADMIN, "demo.json").await?;
    tx.commit().await?;
    let facts = Facts {
        api: String::new(),
        smtp: String::new(),
        organization: ORGANIZATION.to_owned(),
        admin: Account { email: ADMIN.to_owned(), password: admin_password },
        agent: Account { email: AGENT.to_owned(), password: agent_password },
        token: token.expose_secret().to_owned(),
        hooks: BTreeMap::new(),
        mailboxes: vec![MAILBOX.to_owned()],
    };
    Ok((facts, true))
}

/// The API with the admin's token.
pub struct Api {
    http: Client,
    base: String,
    token: String,
}

impl Api {
    pub fn new(facts: &Facts) -> anyhow::Result<Api> {
        let loopback = ["127.0.0.0/8", "::1/128", "0.0.0.0/8"].map(|net| net.parse().expect("a network"));
        let http = Client::new(Destinations::allowing(loopback))?;
        Ok(Api { http, base: facts.api.replace("//0.0.0.0", "//127.0.0.1"), token: facts.token.clone() })
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Request::post_json(format!("{}/api/v1/{path}", self.base), body)
            .header("authorization", format!("Bearer {}", self.token));
        let response = self.http.send(request).await.with_context(|| format!("POST {path}"))?;
        Ok(serde_json::from_slice(&response.body).unwrap_or_default())
    }

    /// Posts and answers the new object's id.
    async fn create(&self, path: &str, body: Value) -> anyhow::Result<String> {
        let made = self.post(path, &body).await?;
        made["id"].as_str().map(str::to_owned).with_context(|| format!("POST {path} answered no id: {made}"))
    }
}

/// Fills a fresh demo; the hooks' tokens are shown once, so they go into the facts.
pub async fn fill(facts: &mut Facts, folder: &Path) -> anyhow::Result<()> {
    let api = Api::new(facts)?;
    let manager = api
        .create(
            "users",
            json!({"email": "edsger@demo.example", "name": "Edsger Dijkstra", "role": "manager"}),
        )
        .await?;
    let team = api
        .create("teams", json!({"name": "Service desk", "email": "desk@demo.example", "manager": manager}))
        .await?;
    let operations = api.create("teams", json!({"name": "Operations", "manager": manager})).await?;
    api.post(&format!("teams/{team}/members"), &json!({"user": manager})).await?;
    api.create("users", json!({"email": "linus@customer.example", "name": "Linus", "role": "end_user"}))
        .await?;

    let mailbox =
        api.post("mailboxes", &json!({"address": MAILBOX, "name": "Support", "team": team})).await?;
    keep_hook(facts, "email", &mailbox);
    for kind in ["alertmanager", "generic"] {
        let source = api
            .post("alert-sources", &json!({"kind": kind, "name": format!("Demo {kind}"), "team": operations}))
            .await?;
        keep_hook(facts, kind, &source);
    }
    channels_and_policies(&api, &operations).await?;
    reports_and_inventory(&api, folder).await?;
    for (title, impact, urgency, requester) in [
        ("Printer on floor 3 prints only blank pages", "low", "medium", "linus@customer.example"),
        ("VPN drops every few minutes", "medium", "high", "barbara@customer.example"),
        ("New laptop does not wake from sleep", "low", "low", "ken@customer.example"),
    ] {
        let ticket = json!({"title": title, "impact": impact, "urgency": urgency, "requester": requester, "team": team});
        api.create("incidents", ticket).await?;
    }
    Ok(())
}

/// Hook URLs end in the token; the address in front of it is set anew at each start.
fn keep_hook(facts: &mut Facts, kind: &str, made: &Value) {
    let url = ["hook_url", "url"].iter().find_map(|name| made[*name].as_str());
    if let Some(url) = url {
        facts.hooks.insert(kind.to_owned(), url.to_owned());
    }
}

async fn channels_and_policies(api: &Api, operations: &str) -> anyhow::Result<()> {
    let channel = api
        .create("notification-channels", json!({"kind": "email", "name": "Operations by mail", "config": {"to": ["operations@demo.example"]}}))
        .await?;
    for event in ["incident.opened", "sla.breached"] {
        let conditions =
            if event == "incident.opened" { json!({"priority": ["critical", "high"]}) } else { json!({}) };
        api.create(
            "notification-rules",
            json!({"event": event, "channel": channel, "conditions": conditions}),
        )
        .await?;
    }
    let chain = json!({"name": "Wake operations", "steps": [
        {"action": "assign_team", "team": operations},
        {"action": "notify_manager"},
        {"action": "raise_priority", "after_seconds": 600},
        {"action": "notify_channel", "channel": channel, "after_seconds": 600},
    ]});
    let chain = api.create("escalation-chains", chain).await?;
    let week: Vec<Value> = ["monday", "tuesday", "wednesday", "thursday", "friday"]
        .into_iter()
        .flat_map(|weekday| {
            [("08:00", "12:00"), ("13:00", "17:30")]
                .map(|(opens, closes)| json!({"weekday": weekday, "opens": opens, "closes": closes}))
        })
        .collect();
    let calendar = json!({
        "name": "Office hours", "time_zone": "Europe/Berlin", "windows": week,
        "holidays": [{"date": "2026-12-25", "name": "Christmas Day"}, {"date": "2027-01-01", "name": "New Year"}],
    });
    let calendar = api.create("business-calendars", calendar).await?;
    let urgent = json!({
        "name": "Around the clock", "position": 1, "conditions": {"priority": ["critical"]}, "warning_chain": null, "breach_chain": chain,
        "targets": [{"priority": "critical", "first_response_seconds": 900, "resolution_seconds": 14_400}],
    });
    api.create("sla-policies", urgent).await?;
    let office = json!({
        "name": "Office hours", "position": 2, "calendar": calendar, "warning_chain": null, "breach_chain": chain,
        "targets": [
            {"priority": "high", "first_response_seconds": 3_600, "resolution_seconds": 28_800},
            {"priority": "medium", "first_response_seconds": 14_400, "resolution_seconds": 86_400},
            {"priority": "low", "first_response_seconds": 28_800, "resolution_seconds": 259_200},
        ],
    });
    api.create("sla-policies", office).await?;
    Ok(())
}

async fn reports_and_inventory(api: &Api, folder: &Path) -> anyhow::Result<()> {
    let schedule = json!({
        "name": "Every morning", "kind": "incidents_and_sla", "cron": "0 7 * * *", "time_zone": "Europe/Berlin",
        "period": {"kind": "previous_day"}, "recipients": ["edsger@demo.example"],
    });
    api.create("report-schedules", schedule).await?;
    let file = folder.join("discovery").join("inventory.csv");
    tokio::fs::write(&file, include_str!("inventory.csv")).await?;
    let source = json!({
        "name": "Demo inventory", "format": "csv", "location": file, "identification_keys": ["serial_number", "hostname"],
    });
    let source = api.create("discovery-sources", source).await?;
    api.post(&format!("discovery-sources/{source}/run"), &json!({})).await?;
    Ok(())
}
