//! One object of each noun in an organization, made through the API where that is possible.

use crate::support::{Api, request};
use axum::http::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use testkit::Organization;
use uuid::Uuid;

/// What an organization has, by the path that leads to it: `/api/v1/incidents/{id}`.
pub struct Objects {
    pub token: String,
    by_path: BTreeMap<&'static str, String>,
    /// A word that stands in all texts of the organization.
    word: &'static str,
}

/// Fields of bodies and parameters that look like references and are none, as `METHOD path field`.
pub const NOT_REFERENCES: [&str; 0] = [];

impl Objects {
    fn put(&mut self, path: &'static str, id: &Value) {
        let id = id.as_str().unwrap_or_else(|| panic!("{path}: {id} is no id")).to_owned();
        self.by_path.insert(path, id);
    }

    fn get(&self, path: &str) -> &str {
        self.by_path.get(path).unwrap_or_else(|| panic!("no {path}"))
    }

    /// A path with all its parameters filled, or the part that is not known.
    pub fn fill(&self, template: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut prefix = String::new();
        for part in template.split('/').skip(1) {
            prefix = format!("{prefix}/{part}");
            if part.starts_with('{') {
                let id = self.by_path.get(prefix.as_str()).ok_or_else(|| prefix.clone())?;
                filled = format!("{filled}/{id}");
            } else {
                filled = format!("{filled}/{part}");
            }
        }
        Ok(filled)
    }

    /// What a field or parameter of this name refers to.
    pub fn named(&self, operation: &str, field: &str) -> Option<&str> {
        let path = match field {
            "parent" | "category"
                if operation.contains("/ci-") || operation.contains("/configuration-items") =>
            {
                "/api/v1/ci-categories/{id}"
            }
            "from" | "to" | "item" if operation.contains("/ci-relationships") => {
                "/api/v1/configuration-items/{id}"
            }
            "discovery_source" => "/api/v1/discovery-sources/{id}",
            "mailbox" => "/api/v1/mailboxes/{id}",
            "user" | "owner" | "user_id" | "actor" | "manager" | "requester" | "assignee" | "author"
            | "watchers" => "/api/v1/users/{id}",
            "team" => "/api/v1/teams/{id}",
            "department" | "parent" => "/api/v1/departments/{id}",
            "ticket" | "incident" | "object" => "/api/v1/incidents/{id}",
            "source" => "/api/v1/alert-sources/{id}",
            "calendar" => "/api/v1/business-calendars/{id}",
            "escalation_chain" | "chain" | "warning_chain" | "breach_chain" => {
                "/api/v1/escalation-chains/{id}"
            }
            "event" => "event",
            "policy" => "/api/v1/sla-policies/{id}",
            "channel" => "/api/v1/notification-channels/{id}",
            "rule" => "/api/v1/notification-rules/{id}",
            "schedule" => "/api/v1/report-schedules/{id}",
            "webhook" => "/api/v1/webhooks/{id}",
            "configuration_items" | "configuration_item" => "/api/v1/configuration-items/{id}",
            _ => return None,
        };
        self.by_path.get(path).map(String::as_str)
    }

    /// The first of our things that shows in a text which answers `asked`.
    pub fn leak_in(&self, text: &str, asked: &str) -> Option<&str> {
        let ids = self
            .by_path
            .iter()
            .filter(|(path, _)| !path.starts_with("/api/v1/lanes/"))
            .map(|(_, id)| id.as_str());
        // What was asked for may be repeated.
        ids.chain([self.word]).find(|known| text.contains(known) && !asked.contains(known))
    }
}

/// Bodies for operations whose schema alone does not tell a good one.
pub fn body(operation: &str, objects: &Objects) -> Option<Value> {
    let user = || objects.get("/api/v1/users/{id}");
    Some(match operation {
        "POST /api/v1/teams/{id}/members" | "POST /api/v1/incidents/{id}/watchers" => json!({"user": user()}),
        "POST /api/v1/incidents/{id}/assign" => json!({"assignee": user()}),
        "POST /api/v1/incidents/{id}/links" => {
            json!({"kind": "relates_to", "ticket": objects.get("/api/v1/incidents/{id}")})
        }
        "POST /api/v1/incidents" => json!({"title": "no network"}),
        "POST /api/v1/webhooks" => {
            json!({"url": "https://hooks.example.com/new", "event_types": ["incident.*"]})
        }
        "PATCH /api/v1/webhooks/{id}" => json!({"description": "new"}),
        "POST /api/v1/webhooks/{id}/replay" => json!({"since": "2026-01-01T00:00:00Z"}),
        "POST /api/v1/incidents/bulk" => {
            json!({"action": "assign", "ids": [objects.get("/api/v1/incidents/{id}")], "assignee": user()})
        }
        "POST /api/v1/service-accounts" => json!({"name": "New", "role": "agent", "owner": user()}),
        "PATCH /api/v1/service-accounts/{id}" => json!({"owner": user()}),
        "POST /api/v1/service-accounts/{id}/tokens" => json!({"name": "New"}),
        "POST /api/v1/identity-providers" => {
            json!({"name": "New", "issuer": "https://id.globex.example", "client_id": "new"})
        }
        "POST /api/v1/users" => json!({"email": "new@globex.example", "name": "New", "role": "agent"}),
        "POST /api/v1/sla-policies" => {
            json!({"name": "New", "targets": [{"priority": "high", "resolution_seconds": 60}]})
        }
        "POST /api/v1/ci-relationships" => {
            let item = objects.get("/api/v1/configuration-items/{id}");
            json!({"from": item, "to": item, "kind": "runs_on"})
        }
        _ => return None,
    })
}

/// References that lie deeper in a body than its own fields, where no foreign key sees them: method, path, body, the id in
/// it, and where it stands.
pub fn nested(ours: &Objects, theirs: &Objects) -> Vec<(Method, String, Value, String, &'static str)> {
    let of = |path: &str| ours.get(path).to_owned();
    let (team, channel) = (of("/api/v1/teams/{id}"), of("/api/v1/notification-channels/{id}"));
    let person = of("/api/v1/users/{id}");
    let mut all = Vec::new();
    // Once when the thing is made, once when it is changed.
    let mut both = |nouns: &str, body: Value, id: &String, pointer: &'static str| {
        let one = format!("{nouns}/{}", theirs.get(&format!("{nouns}/{{id}}")));
        all.push((Method::POST, nouns.to_owned(), body.clone(), id.clone(), pointer));
        all.push((Method::PATCH, one, body, id.clone(), pointer));
    };
    let calm = json!({"action": "raise_priority"});
    let steps = |step: Value| json!({"name": "x", "steps": [calm.clone(), step]});
    let chains = "/api/v1/escalation-chains";
    both(chains, steps(json!({"action": "assign_team", "team": team})), &team, "/steps/1/team");
    both(
        chains,
        steps(json!({"action": "notify_channel", "channel": channel})),
        &channel,
        "/steps/1/channel",
    );
    let own_team = theirs.get("/api/v1/teams/{id}");
    let policy = |conditions: Value| json!({"name": "x", "conditions": conditions, "targets": [{"priority": "high", "resolution_seconds": 60}]});
    let policies = "/api/v1/sla-policies";
    both(policies, policy(json!({"team": [own_team, team]})), &team, "/conditions/team/1");
    both(policies, policy(json!({"requester": [person]})), &person, "/conditions/requester/0");
    let own_channel = theirs.get("/api/v1/notification-channels/{id}");
    let rule = |conditions: Value| json!({"event": "incident.opened", "channel": own_channel, "conditions": conditions});
    let rules = "/api/v1/notification-rules";
    both(rules, rule(json!({"team": team})), &team, "/conditions/team");
    both(rules, rule(json!({"team": ["Network", own_team, team]})), &team, "/conditions/team");
    both(rules, rule(json!({"assignee": [person]})), &person, "/conditions/assignee");
    both(rules, rule(json!({"requester": person})), &person, "/conditions/requester");
    let incident = of("/api/v1/incidents/{id}");
    let bulk = json!({"action": "close", "ids": [theirs.get("/api/v1/incidents/{id}"), incident]});
    all.push((Method::POST, "/api/v1/incidents/bulk".to_owned(), bulk, incident, "/ids/1"));
    let users = format!("/api/v1/users/{}", theirs.get("/api/v1/users/{id}"));
    let away = json!({"out_of_office": {"from": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z", "substitute": person}});
    all.push((Method::PATCH, users, away, person.clone(), "/out_of_office/substitute"));
    let groups = |mut body: Value| {
        body["groups_claim"] = json!("groups");
        body["groups"] = json!([{"group": "a", "role": "agent"}, {"group": "b", "team": own_team}, {"group": "c", "team": team}]);
        body
    };
    let new = groups(json!({"name": "x", "issuer": "https://id.globex.example", "client_id": "x"}));
    let one = theirs.get("/api/v1/identity-providers/{id}");
    for (method, path, body) in [
        (Method::POST, "/api/v1/identity-providers".to_owned(), new),
        (Method::PATCH, format!("/api/v1/identity-providers/{one}"), groups(json!({}))),
    ] {
        all.push((method, path, body, team.clone(), "/groups/2/team"));
    }
    // Reports go to addresses and take no ids at all.
    let schedule = json!({"name": "x", "kind": "incidents_and_sla", "cron": "0 7 * * *", "period": {"kind": "previous_day"},
                          "recipients": ["boss@globex.example", person]});
    all.push((Method::POST, "/api/v1/report-schedules".to_owned(), schedule, person, "/recipients/1"));
    all
}

/// A multipart body with a small file.
pub fn upload() -> (&'static str, String) {
    let part = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\nhello\r\n--x--\r\n";
    ("multipart/form-data; boundary=x", part.to_owned())
}

pub async fn make(api: &Api, organization: &Organization, token: &str, word: &'static str) -> Objects {
    let mut objects = Objects { token: token.to_owned(), by_path: BTreeMap::new(), word };
    let text = |text: &str| format!("{text} {word}");
    let made = async |path: &str, body: Value| api.post(path, token, body).await.expect(201).json;
    let agent = organization.agent.user_id().unwrap();

    objects.put("/api/v1/organizations/{id}", &json!(organization.id));
    objects.put("/api/v1/users/{id}", &json!(agent));
    objects.put("/api/v1/lanes/{name}", &json!("outbound"));
    objects.put("/api/v1/tenants/{slug}", &json!(word));
    let department = made("/api/v1/departments", json!({"name": text("IT")})).await;
    objects.put("/api/v1/departments/{id}", &department["id"]);
    let team = made("/api/v1/teams", json!({"name": text("Network")})).await;
    objects.put("/api/v1/teams/{id}", &team["id"]);
    objects.put("/scim/v2/Groups/{id}", &team["id"]);
    objects.put("/scim/v2/Users/{id}", &json!(agent));
    let members = format!("/api/v1/teams/{}/members", team["id"].as_str().unwrap());
    api.post(&members, token, json!({"user": agent})).await.expect_success();
    objects.put("/api/v1/teams/{id}/members/{user}", &json!(agent));
    let mut table = request(Method::POST, "/api/v1/users/import?dry_run=true", token, None);
    table.headers_mut().insert("content-type", "text/csv".parse().unwrap());
    *table.body_mut() = text("email\n").into();
    let taken = api.send(table).await.expect(202);
    objects.put("/api/v1/user-imports/{id}", &taken.json["import"]);
    let role = json!({"name": text("Night shift"), "permissions": {"tickets.view": "team"}});
    let role = made("/api/v1/user-roles", role).await;
    objects.put("/api/v1/user-roles/{id}", &role["id"]);
    let grants = format!("/api/v1/user-roles/{}/grants", role["id"].as_str().unwrap());
    let granted = made(&grants, json!({"team": team["id"]})).await;
    objects.put("/api/v1/user-roles/{id}/grants/{grant}", &granted["items"][0]["id"]);
    objects.put(
        "/api/v1/api-tokens/{id}",
        &api.post(
            "/api/v1/api-tokens",
            &api.login_of(&organization.admin).await,
            json!({"name": text("export")}),
        )
        .await
        .expect(201)
        .json["id"],
    );
    let service = json!({"name": text("robot"), "role": "agent", "owner": agent});
    objects.put("/api/v1/service-accounts/{id}", &made("/api/v1/service-accounts", service).await["id"]);
    incident(api, token, word, agent, &mut objects).await;
    let close = json!({"action": "add_tags", "tags": ["x"], "ids": [objects.get("/api/v1/incidents/{id}")]});
    let bulk = api.post("/api/v1/incidents/bulk", token, close).await.expect(202).json;
    objects.put("/api/v1/incidents/bulk/{job}", &bulk["job"]);
    objects
        .put("/api/v1/jobs/{id}", &api.get("/api/v1/jobs", token).await.expect(200).json["items"][0]["id"]);

    let calendar = json!({"name": text("Office"), "time_zone": "Europe/Berlin",
                          "windows": [{"weekday": "monday", "opens": "08:00", "closes": "12:00"}]});
    objects.put("/api/v1/business-calendars/{id}", &made("/api/v1/business-calendars", calendar).await["id"]);
    let chain = json!({"name": text("Up"), "steps": [{"action": "assign_team", "team": team["id"]}]});
    objects.put("/api/v1/escalation-chains/{id}", &made("/api/v1/escalation-chains", chain).await["id"]);
    let policy = json!({"name": text("Gold"), "targets": [{"priority": "high", "resolution_seconds": 3600}]});
    objects.put("/api/v1/sla-policies/{id}", &made("/api/v1/sla-policies", policy).await["id"]);
    let channel =
        json!({"kind": "email", "name": text("post"), "config": {"to": [format!("ops@{word}.example")]}});
    let channel = made("/api/v1/notification-channels", channel).await;
    objects.put("/api/v1/notification-channels/{id}", &channel["id"]);
    let rule = json!({"name": text("all"), "event": "incident.opened", "channel": channel["id"]});
    objects.put("/api/v1/notification-rules/{id}", &made("/api/v1/notification-rules", rule).await["id"]);
    let webhook = json!({"url": format!("https://hooks.{word}.example/"), "event_types": ["*"]});
    let webhook = made("/api/v1/webhooks", webhook).await;
    objects.put("/api/v1/webhooks/{id}", &webhook["id"]);
    let test = format!("/api/v1/webhooks/{}/test", webhook["id"].as_str().unwrap());
    let test = api.call(Method::POST, &test, token, None).await.expect(202).json;
    objects.put("/api/v1/webhook-deliveries/{id}", &test["delivery"]);
    let mailbox = json!({"address": format!("support@{word}.example"), "name": text("Support")});
    objects.put("/api/v1/mailboxes/{id}", &made("/api/v1/mailboxes", mailbox).await["id"]);
    let schedule = json!({"name": text("daily"), "kind": "incidents_and_sla", "cron": "0 7 * * *",
                          "period": {"kind": "previous_day"}, "recipients": [format!("boss@{word}.example")]});
    objects.put("/api/v1/report-schedules/{id}", &made("/api/v1/report-schedules", schedule).await["id"]);
    let category = made("/api/v1/ci-categories", json!({"name": text("Servers")})).await;
    objects.put("/api/v1/ci-categories/{id}", &category["id"]);
    let item = |name: &str| json!({"name": text(name), "class": "server"});
    let (one, two) = (
        made("/api/v1/configuration-items", item("one")).await,
        made("/api/v1/configuration-items", item("two")).await,
    );
    objects.put("/api/v1/configuration-items/{id}", &one["id"]);
    let relation = json!({"from": one["id"], "to": two["id"], "kind": "depends_on"});
    objects.put("/api/v1/ci-relationships/{id}", &made("/api/v1/ci-relationships", relation).await["id"]);
    let inventory = json!({"name": text("inventory"), "format": "json", "identification_keys": ["serial"],
                           "location": format!("https://inventory.{word}.example/hosts.json")});
    objects.put("/api/v1/discovery-sources/{id}", &made("/api/v1/discovery-sources", inventory).await["id"]);
    let provider = json!({"name": text("account"), "issuer": format!("https://id.{word}.example"), "client_id": "relaydesk"});
    let provider = made("/api/v1/identity-providers", provider).await;
    for path in ["/api/v1/identity-providers/{id}", "/api/v1/auth/oidc/{provider}"] {
        objects.put(path, &provider["id"]);
    }
    let source = json!({"kind": "generic", "name": text("probe")});
    objects.put("/api/v1/alert-sources/{id}", &made("/api/v1/alert-sources", source).await["id"]);
    let mut owner = api.test_db.owner().await;
    behind_the_scenes(&mut owner, organization, word, &mut objects).await;
    objects
}

/// What only jobs make.
async fn behind_the_scenes(
    owner: &mut PgConnection,
    organization: &Organization,
    word: &str,
    objects: &mut Objects,
) {
    let organization = organization.id.0;
    let ticket: Uuid = objects.get("/api/v1/incidents/{id}").parse().unwrap();
    let source: Uuid = objects.get("/api/v1/alert-sources/{id}").parse().unwrap();
    let event: Uuid = sqlx::query_scalar("select id from events where organization_id = $1 limit 1")
        .bind(organization)
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    objects.put("event", &json!(event));
    for (path, sql) in [
        (
            "clock",
            "insert into sla_clocks (id, organization_id, ticket_id, metric, phase, phase_since, started_at, armed_at)
             values ($1, $2, $3, 'resolution', 'running', now(), now(), now())
             on conflict (ticket_id, metric) do update set id = excluded.id",
        ),
        (
            "/api/v1/auth/sessions/{id}",
            "insert into sessions (id, organization_id, user_id, refresh_hash, family_id, expires_at, user_agent)
             select $1, $2, id, $5, $1, now() + interval '1 day', $5 from users where organization_id = $2 and role = 'agent' and kind = 'person'",
        ),
        (
            "/api/v1/users/{id}/identities/{identity}",
            "insert into external_identities (id, organization_id, provider_id, subject, user_id, created_at, last_login_at)
             select $1, $2, p.id, $5, u.id, now(), now() from identity_providers p, users u
              where p.organization_id = $2 and u.organization_id = $2 and u.role = 'agent' and u.kind = 'person'",
        ),
        (
            "/api/v1/sla-breaches/{id}",
            "insert into sla_breaches (id, organization_id, clock_id, generation, ticket_id, metric, policy_name, priority,
                                       target_seconds, breached_at, detected_at)
             select $1, $2, id, 1, $3, 'resolution', $5, 'high', 60, now(), now() from sla_clocks
             where ticket_id = $3 and metric = 'resolution'",
        ),
        (
            "/api/v1/notifications/{id}",
            "insert into deliveries (id, organization_id, unique_key, channel, ticket_id, message_kind, recipient, created_at, updated_at)
             select $1, $2, $5, 'email', $3, 'test', 'x@' || $5 || '.example', now(), now()",
        ),
        (
            "/api/v1/inbox/{id}",
            "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, raw, received_at, status, reason)
             values ($1, $2, 'mail', $3, $5, 'message/rfc822', 'garbage', now(), 'failed', $5)",
        ),
        (
            "/api/v1/report-executions/{id}",
            "insert into report_executions (id, organization_id, start_key, kind, time_zone, period_from, period_to, recipients,
                                            created_at, status, csv, csv_rows)
             values ($1, $2, $5, 'incidents_and_sla', 'UTC', now() - interval '1 day', now(), array[$5], now(), 'failed', 'x', 1)",
        ),
        (
            "/api/v1/discovery-sources/{id}/runs/{run}",
            "insert into discovery_runs (id, organization_id, source_id, mode, status, created_at)
             select $1, $2, id, 'preview', 'succeeded', now() from discovery_sources where organization_id = $2",
        ),
        (
            "group",
            "insert into alert_groups (id, organization_id, source_id, group_key, last_received_at, created_at)
             select $1, $2, $4, $5, now(), now()",
        ),
        (
            "/api/v1/alerts/{id}",
            "insert into alerts (id, organization_id, source_id, group_id, fingerprint, status, severity, title, starts_at,
                                 latest_start_at, first_received_at, last_received_at)
             select $1, $2, $4, id, $5, 'firing', 'critical', $5, now(), now(), now(), now()
             from alert_groups where source_id = $4",
        ),
    ] {
        let id = Uuid::now_v7();
        // Every statement gets all values, whether it needs them or not.
        let sql = format!("with given as (select $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::text) {sql}");
        let made = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(organization).bind(ticket).bind(source).bind(word);
        let made = made.execute(&mut *owner).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(made.rows_affected(), 1, "{path}");
        objects.put(path, &json!(id));
    }
}

async fn incident(api: &Api, token: &str, word: &str, agent: domain::UserId, objects: &mut Objects) {
    let title = format!("printer on fire {word}");
    let incident = api.post("/api/v1/incidents", token, json!({"title": title})).await.expect(201).json;
    objects.put("/api/v1/incidents/{id}", &incident["id"]);
    let path = format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap());
    api.post(&format!("{path}/tags"), token, json!({"tag": word})).await.expect_success();
    objects.put("/api/v1/incidents/{id}/tags/{tag}", &json!(word));
    api.post(&format!("{path}/watchers"), token, json!({"user": agent})).await.expect_success();
    objects.put("/api/v1/incidents/{id}/watchers/{user}", &json!(agent));
    let other = api.post("/api/v1/incidents", token, json!({"title": title})).await.expect(201).json;
    let link = json!({"kind": "relates_to", "ticket": other["id"]});
    let links = api.post(&format!("{path}/links"), token, link).await.expect_success().json;
    objects.put("/api/v1/incidents/{id}/links/{link}", &links["items"][0]["id"]);
    let (media_type, bytes) = upload();
    let mut request = request(Method::POST, &format!("{path}/attachments"), token, None);
    request.headers_mut().insert("content-type", media_type.parse().unwrap());
    *request.body_mut() = bytes.into();
    let attached = api.send(request).await.expect_success().json;
    let id = if attached["items"].is_array() { &attached["items"][0]["id"] } else { &attached["id"] };
    objects.put("/api/v1/incidents/{id}/attachments/{attachment}", id);
}
