//! What the demo begins with. The organization and its admin are made like `relaydesk admin` makes them; everything else
//! goes through the public API, like a person would.

use super::{Account, Facts, secret};
use crate::commands::admin;
use anyhow::Context;
use connectors::http::{Client, Destinations, Request};
use domain::Role;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use store::{Db, Tx};

pub const ORGANIZATION: &str = "demo";
const ADMIN: &str = "ada@demo.example";
const AGENT: &str = "grace@demo.example";
/// The name of the API token in `demo.json`.
const TOKEN: &str = "demo.json";
const MAILBOX: &str = "support@demo.example";

/// The accounts of an earlier start and true; or new ones, and false: then [`fill`] has to follow. What an interrupted start has
/// made already stays; its passwords and its token, which nobody knows, are made anew.
pub async fn accounts(db: &Db, folder: &Path) -> anyhow::Result<(Facts, bool)> {
    match std::fs::read(folder.join("demo.json")) {
        Ok(bytes) => {
            let facts = serde_json::from_slice(&bytes)
                .context("demo.json is damaged: delete it for new passwords, or start with --fresh")?;
            return Ok((facts, true));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("demo.json cannot be read"),
    }
    let mut system = db.begin_system().await?;
    let is_there = store::organizations::find_by_slug(&mut system, ORGANIZATION).await?.is_some();
    drop(system);
    if !is_there {
        admin::create_organization(db, ORGANIZATION, "Demo Ltd", "Europe/Berlin").await?;
    }
    let mut tx = admin::in_organization(db, ORGANIZATION).await?;
    let admin = account(&mut tx, ADMIN, "Ada Lovelace", Role::Admin).await?;
    let agent = account(&mut tx, AGENT, "Grace Hopper", Role::Agent).await?;
    let token = admin::renew_token(&mut tx, ADMIN, TOKEN).await?;
    tx.commit().await?;
    let facts = Facts {
        api: String::new(),
        smtp: String::new(),
        organization: ORGANIZATION.to_owned(),
        admin,
        agent,
        token: token.expose_secret().to_owned(),
        hooks: BTreeMap::new(),
        mailboxes: vec![MAILBOX.to_owned()],
    };
    Ok((facts, false))
}

async fn account(tx: &mut Tx, email: &str, name: &str, role: Role) -> anyhow::Result<Account> {
    let password = secret();
    admin::set_password_or_create(tx, email, name, role, &password.clone().into()).await?;
    Ok(Account { email: email.to_owned(), password })
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

    /// The object of this list whose field `by` says the same as in `body`: found, or made. Answers it, and whether it is new.
    async fn ensure(&self, path: &str, by: &str, body: Value) -> anyhow::Result<(Value, bool)> {
        // What the demo begins with is among the first hundreds of everything.
        let order = if path == "incidents" { "&ordering=created_at" } else { "" };
        let url = format!("{}/api/v1/{path}?page_size=200{order}", self.base);
        let request = Request::get(url).header("authorization", format!("Bearer {}", self.token));
        let list = self.http.send(request).await.with_context(|| format!("GET {path}"))?;
        let list: Value = serde_json::from_slice(&list.body).unwrap_or_default();
        let found = list["items"].as_array().into_iter().flatten().find(|item| item[by] == body[by]);
        match found {
            Some(found) => Ok((found.clone(), false)),
            None => Ok((self.post(path, &body).await?, true)),
        }
    }

    /// The same, and only its id.
    async fn ensure_id(&self, path: &str, by: &str, body: Value) -> anyhow::Result<String> {
        let (object, _) = self.ensure(path, by, body).await?;
        object["id"].as_str().map(str::to_owned).with_context(|| format!("{path}: no id in {object}"))
    }

    /// The same for what has a hook, whose URL is shown once: what was there already gets a new one.
    async fn ensure_hook(&self, path: &str, by: &str, body: Value) -> anyhow::Result<Value> {
        let (object, is_new) = self.ensure(path, by, body).await?;
        match object["id"].as_str() {
            Some(id) if !is_new => self.post(&format!("{path}/{id}/rotate_token"), &json!({})).await,
            _ => Ok(object),
        }
    }
}

/// Fills a demo, leaving what is there already; the hooks' tokens are shown once, so they go into the facts.
pub async fn fill(facts: &mut Facts, folder: &Path) -> anyhow::Result<()> {
    let api = Api::new(facts)?;
    let manager = api
        .ensure_id(
            "users",
            "email",
            json!({"email": "edsger@demo.example", "name": "Edsger Dijkstra", "role": "manager"}),
        )
        .await?;
    let team = api
        .ensure_id(
            "teams",
            "name",
            json!({"name": "Service desk", "email": "desk@demo.example", "manager": manager}),
        )
        .await?;
    let operations =
        api.ensure_id("teams", "name", json!({"name": "Operations", "manager": manager})).await?;
    api.post(&format!("teams/{team}/members"), &json!({"user": manager})).await?;
    api.ensure_id(
        "users",
        "email",
        json!({"email": "linus@customer.example", "name": "Linus", "role": "end_user"}),
    )
    .await?;

    let mailbox = api
        .ensure_hook("mailboxes", "address", json!({"address": MAILBOX, "name": "Support", "team": team}))
        .await?;
    keep_hook(facts, "email", &mailbox);
    for kind in ["alertmanager", "generic"] {
        let source = api
            .ensure_hook(
                "alert-sources",
                "name",
                json!({"kind": kind, "name": format!("Demo {kind}"), "team": operations}),
            )
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
        api.ensure_id("incidents", "title", ticket).await?;
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
        .ensure_id("notification-channels", "name", json!({"kind": "email", "name": "Operations by mail", "config": {"to": ["operations@demo.example"]}}))
        .await?;
    for event in ["incident.opened", "sla.breached"] {
        let conditions =
            if event == "incident.opened" { json!({"priority": ["critical", "high"]}) } else { json!({}) };
        api.ensure_id(
            "notification-rules",
            "event",
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
    let chain = api.ensure_id("escalation-chains", "name", chain).await?;
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
    let calendar = api.ensure_id("business-calendars", "name", calendar).await?;
    let urgent = json!({
        "name": "Around the clock", "position": 1, "conditions": {"priority": ["critical"]}, "warning_chain": null, "breach_chain": chain,
        "targets": [{"priority": "critical", "first_response_seconds": 900, "resolution_seconds": 14_400}],
    });
    api.ensure_id("sla-policies", "name", urgent).await?;
    let office = json!({
        "name": "Office hours", "position": 2, "calendar": calendar, "warning_chain": null, "breach_chain": chain,
        "targets": [
            {"priority": "high", "first_response_seconds": 3_600, "resolution_seconds": 28_800},
            {"priority": "medium", "first_response_seconds": 14_400, "resolution_seconds": 86_400},
            {"priority": "low", "first_response_seconds": 28_800, "resolution_seconds": 259_200},
        ],
    });
    api.ensure_id("sla-policies", "name", office).await?;
    Ok(())
}

async fn reports_and_inventory(api: &Api, folder: &Path) -> anyhow::Result<()> {
    let schedule = json!({
        "name": "Every morning", "kind": "incidents_and_sla", "cron": "0 7 * * *", "time_zone": "Europe/Berlin",
        "period": {"kind": "previous_day"}, "recipients": ["edsger@demo.example"],
    });
    api.ensure_id("report-schedules", "name", schedule).await?;
    let inventories = folder.join("discovery").join(ORGANIZATION);
    tokio::fs::create_dir_all(&inventories).await?;
    tokio::fs::write(inventories.join("inventory.csv"), include_str!("inventory.csv")).await?;
    let source = json!({
        "name": "Demo inventory", "format": "csv", "location": "inventory.csv", "identification_keys": ["serial_number", "hostname"],
    });
    let source = api.ensure_id("discovery-sources", "name", source).await?;
    api.post(&format!("discovery-sources/{source}/run"), &json!({})).await?;
    Ok(())
}
