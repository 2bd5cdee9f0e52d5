//! Lists of settings take the grammar of all lists: filters, ranges, null, orders, fewer fields, what is behind an id.

use crate::support::{Api, token_of};
use serde_json::{Value, json};

impl Api {
    async fn made(&self, list: &str, body: Value) -> Value {
        self.post(&format!("/api/v1/{list}"), &self.admin, body).await.expect(201).json
    }

    /// What the list shows, by its names (or by addresses, for what has no name).
    async fn named(&self, list: &str, query: &str) -> Vec<String> {
        let page = self.get(&format!("/api/v1/{list}?{query}"), &self.admin).await.expect(200).json;
        let name = |item: &Value| item["name"].as_str().or(item["url"].as_str()).unwrap().to_owned();
        page["items"].as_array().unwrap().iter().map(name).collect()
    }
}

#[tokio::test]
async fn settings_are_found_by_what_they_say() {
    let api = Api::start().await;
    let team = api.made("teams", json!({"name": "Network"})).await;
    let mut channels = Vec::new();
    for (name, kind, config) in [
        ("b mail", "email", json!({"to": ["ops@acme.example"]})),
        ("A slack", "slack", json!({"webhook_url": "https://hooks.slack.com/services/T000/B000/XXXX"})),
        ("c mail", "email", json!({"to": ["boss@acme.example"]})),
    ] {
        let body = json!({"name": name, "kind": kind, "config": config, "is_active": name != "c mail"});
        channels.push(api.made("notification-channels", body).await);
    }
    for (name, event, channel) in
        [("one", "incident.opened", 0), ("two", "sla.breached", 1), ("three", "incident.opened", 1)]
    {
        let body = json!({"name": name, "event": event, "channel": channels[channel]["id"]});
        api.made("notification-rules", body).await;
    }
    let tell = |channel: usize| json!({"action": "notify_channel", "channel": channels[channel]["id"], "after_seconds": 60});
    let give = json!({"action": "assign_team", "team": team["id"], "after_seconds": 0});
    api.made("escalation-chains", json!({"name": "night", "steps": [give, tell(0)]})).await;
    api.made("escalation-chains", json!({"name": "day", "steps": [tell(0), tell(1)]})).await;
    api.made("alert-sources", json!({"name": "probe", "kind": "generic", "team": team["id"]})).await;
    api.made("alert-sources", json!({"name": "prometheus", "kind": "alertmanager", "max_per_minute": 600}))
        .await;
    api.made("mailboxes", json!({"name": "Support", "address": "Support@acme.example", "team": team["id"]}))
        .await;
    api.made("mailboxes", json!({"name": "Sales", "address": "sales@acme.example"})).await;
    for (url, types) in [
        ("https://a.example.org/", json!(["sla.*", "incident.opened"])),
        ("https://b.example.org/", json!(["*"])),
    ] {
        api.made("webhooks", json!({"url": url, "event_types": types})).await;
    }
    for (name, to) in [
        ("daily", json!(["boss@acme.example"])),
        ("weekly", json!(["Boss@acme.example", "cfo@acme.example"])),
    ] {
        let body = json!({"name": name, "kind": "incidents_and_sla", "cron": "0 7 * * *", "period": {"kind": "previous_day"},
                          "recipients": to});
        api.made("report-schedules", body).await;
    }
    for (name, position, chain) in [("gold", 2, true), ("silver", 7, false)] {
        let chain = if chain {
            api.get("/api/v1/escalation-chains?name=day", &api.admin).await.json["items"][0]["id"].clone()
        } else {
            Value::Null
        };
        let body = json!({"name": name, "position": position, "breach_chain": chain,
                          "targets": [{"priority": "high", "resolution_seconds": 60}]});
        api.made("sla-policies", body).await;
    }
    let (first, second) = (channels[0]["id"].as_str().unwrap(), channels[1]["id"].as_str().unwrap());
    let (since, team) =
        (channels[1]["created_at"].as_str().unwrap().replace('+', "%2B"), team["id"].as_str().unwrap());
    for (list, query, expected) in [
        ("notification-channels", "", "c mail,A slack,b mail"),
        ("notification-channels", "ordering=name", "A slack,b mail,c mail"),
        ("notification-channels", "kind=slack,teams", "A slack"),
        ("notification-channels", "is_active=true&ordering=-name", "b mail,A slack"),
        ("notification-channels", &format!("created_at[gt]={since}"), "c mail"),
        ("notification-channels", &format!("id={first},{second}&q=MAIL"), "b mail"),
        ("notification-rules", "event=incident.opened&ordering=created_at", "one,three"),
        ("notification-rules", "event=incident.opened,sla.breached&ordering=event,-name", "three,one,two"),
        ("notification-rules", &format!("channel={second}&ordering=name"), "three,two"),
        ("escalation-chains", &format!("channel={first}&ordering=name"), "day,night"),
        ("escalation-chains", &format!("channel={second}"), "day"),
        ("escalation-chains", &format!("team={team}"), "night"),
        ("alert-sources", "team[null]=true", "prometheus"),
        ("alert-sources", &format!("team={team}&kind=generic,alertmanager"), "probe"),
        ("alert-sources", "max_per_minute[gte]=600&max_per_minute[lt]=601", "prometheus"),
        ("alert-sources", "max_per_minute=none", "probe"),
        ("mailboxes", "", "Support,Sales"),
        ("mailboxes", "ordering=address", "Sales,Support"),
        ("mailboxes", "address=SUPPORT@acme.example&name=support", "Support"),
        ("webhooks", "event_type=sla.*", "https://a.example.org/"),
        (
            "webhooks",
            "owner=me&failing_since[null]=true&failures[lte]=0&ordering=url",
            "https://a.example.org/,https://b.example.org/",
        ),
        ("webhooks", "disabled_reason=by_hand,gone", ""),
        ("report-schedules", "recipient=boss@acme.example&ordering=name", "daily,weekly"),
        ("report-schedules", "recipient=CFO@acme.example", "weekly"),
        ("sla-policies", "", "gold,silver"),
        ("sla-policies", "ordering=-position", "silver,gold"),
        ("sla-policies", "position[gt]=2&is_default=false", "silver"),
        ("sla-policies", "breach_chain[null]=false&calendar=none", "gold"),
    ] {
        assert_eq!(api.named(list, query).await.join(","), expected, "{list}?{query}");
    }
    let page =
        api.get("/api/v1/mailboxes?fields=name&expand=team&ordering=name", &api.admin).await.expect(200).json;
    let (sales, support) = (&page["items"][0], &page["items"][1]);
    assert!(sales["address"].is_null() && sales["expanded"].is_null(), "{sales}");
    assert_eq!(support["expanded"]["team"]["name"], "Network", "{support}");
}

/// Secrets are no more to be seen by a filter or by fields than they were before.
#[tokio::test]
async fn nothing_that_is_hidden_is_found() {
    let api = Api::start().await;
    let config = json!({"webhook_url": "https://hooks.slack.com/services/T000/B000/XXXX"});
    api.made("notification-channels", json!({"kind": "slack", "name": "x", "config": config})).await;
    api.made("alert-sources", json!({"kind": "generic", "name": "x"})).await;
    let source = json!({"name": "x", "format": "json", "identification_keys": ["serial"], "location": "https://i.example.org/",
                        "auth_header": {"name": "Authorization", "value": "Bearer geheim"}});
    api.made("discovery-sources", source).await;
    for (list, query, status) in [
        ("notification-channels", "config=x", 400),
        ("notification-channels", "fields=config,secret", 422),
        ("notification-channels", "ordering=config", 422),
        ("alert-sources", "token_hash=x", 400),
        ("alert-sources", "fields=token_hash", 422),
        ("discovery-sources", "auth_header=Bearer%20geheim", 400),
        ("discovery-sources", "ordering=auth_header_value", 422),
        ("webhooks", "secret=x", 400),
        ("webhooks", "fields=sealed_secret", 422),
        ("mailboxes", "hook_token_hash=x", 400),
        ("identity-providers", "client_secret=x", 400),
        ("api-tokens", "token_hash=x", 400),
        ("api-tokens", "fields=token_hash", 422),
    ] {
        api.get(&format!("/api/v1/{list}?{query}"), &api.admin).await.expect(status);
    }
    let shown = api.get("/api/v1/notification-channels?fields=config", &api.admin).await.expect(200);
    assert!(!shown.text.contains("XXXX"), "{}", shown.text);
    let shown = api.get("/api/v1/discovery-sources?fields=auth_header", &api.admin).await.expect(200);
    assert!(shown.text.contains("Authorization") && !shown.text.contains("geheim"), "{}", shown.text);
}

/// Whoever does not manage tokens sees their own, whatever they ask for.
#[tokio::test]
async fn tokens_of_others_stay_unseen() {
    let api = Api::start().await;
    let (admin, agent) =
        (api.organization.admin.user_id().unwrap(), api.organization.agent.user_id().unwrap());
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = token_of(&api.test_db, &other.agent).await;
    let found = async |query: &str, token: &str| {
        let page = api.get(&format!("/api/v1/api-tokens?{query}"), token).await.expect(200).json;
        let users = page["items"].as_array().unwrap().iter().map(|item| item["user"].clone());
        users.collect::<Vec<Value>>()
    };
    for query in
        ["", "user=me", &format!("user={agent}"), "ordering=name", "revoked_at[null]=true", "fields=user"]
    {
        assert_eq!(found(query, &api.agent).await, [json!(agent)], "{query}");
    }
    let theirs = api.get(&format!("/api/v1/api-tokens?user={admin}"), &api.admin).await.expect(200).json;
    let prefix = theirs["items"][0]["prefix"].as_str().unwrap();
    assert_eq!(theirs["items"].as_array().unwrap().len(), 1, "{theirs}");
    // Neither by how it begins, nor by its id or name.
    let id = theirs["items"][0]["id"].as_str().unwrap();
    for query in [format!("prefix={prefix}&created_at[gt]=2020-01-01T00:00:00Z"), format!("id={id}")] {
        let own = found(&query, &api.agent).await;
        assert!(own.iter().all(|user| *user == json!(agent)), "{query}: {own:?}");
        assert!(found(&query, &stranger).await.iter().all(|user| *user != json!(admin)), "{query}");
    }
    for query in [format!("user={admin}"), format!("user=me,{admin}")] {
        api.get(&format!("/api/v1/api-tokens?{query}"), &api.agent).await.expect(403);
    }
    assert_eq!(found(&format!("user={admin},{agent}"), &api.admin).await.len(), 2);
    let expanded = api.get("/api/v1/api-tokens?expand=user&fields=name", &api.agent).await.expect(200).json;
    assert_eq!(expanded["items"][0]["expanded"]["user"]["email"], "agent@acme.example");
}
