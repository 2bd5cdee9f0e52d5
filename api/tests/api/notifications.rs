//! Channels, rules and the ledger from outside the router.

use crate::support::{Answer, Api};
use serde_json::json;

const CHANNELS: &str = "/api/v1/notification-channels";
const RULES: &str = "/api/v1/notification-rules";
const LEDGER: &str = "/api/v1/notifications";

fn pointers(answer: &Answer) -> Vec<String> {
    let errors = answer.json["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_channel_keeps_its_secret() {
    let api = Api::start().await;
    let body =
        json!({"kind": "slack", "name": "#ops", "config": {"bot_token": "xoxb-s3cret", "channel": "#ops"}});
    let created = api.post(CHANNELS, &api.admin, body.clone()).await.expect(201);
    let path = format!("{CHANNELS}/{}", created.json["id"].as_str().unwrap());
    assert_eq!(created.header("location"), path);
    assert_eq!(created.json["config"], json!({"bot_token": "********", "channel": "#ops"}));
    for text in [
        created.text,
        api.get(&path, &api.agent).await.expect(200).text,
        api.get(CHANNELS, &api.agent).await.text,
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert_eq!(api.post(CHANNELS, &api.admin, body).await.expect(409).json["title"], "Conflict");

    // A masked secret that is sent back stays.
    let change = json!({"config": {"bot_token": "********", "channel": "#other"}});
    assert_eq!(api.patch(&path, &api.admin, change).await.expect(200).json["config"]["channel"], "#other");
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let id = created.json["id"].as_str().unwrap().parse().unwrap();
    let kept = store::channels::get(&mut tx, id).await.unwrap();
    let opened = actions::channels::opened(&mut tx, &api.state.secrets, &kept).await.unwrap().unwrap();
    assert_eq!(opened.to_value(), json!({"bot_token": "xoxb-s3cret", "channel": "#other"}));
    assert!(!kept.config.to_value().to_string().contains("s3cret"), "sealed");
    drop(tx);

    // But it is not sent to a server that somebody names now.
    for config in [
        json!({"bot_token": "********", "channel": "#ops", "api_url": "https://mine.example/api"}),
        json!({"webhook_url": "********"}),
    ] {
        let refused = api.patch(&path, &api.admin, json!({"config": config})).await.expect(422);
        assert!(refused.json["errors"][0]["detail"].as_str().unwrap().contains("give it again"));
    }
    // Nor by whoever knows what stands for it in the database.
    for config in [
        json!({"bot_token": "sealed", "channel": "#ops", "api_url": "https://mine.example/api"}),
        json!({"bot_token": " sealed ", "channel": "#ops"}),
        json!({"webhook_url": "https://sealed.invalid/"}),
    ] {
        let refused = api.patch(&path, &api.admin, json!({"config": config.clone()})).await.expect(422);
        assert!(pointers(&refused)[0].starts_with("/config/"));
        let made = json!({"kind": "slack", "name": "mine", "config": config});
        api.post(CHANNELS, &api.admin, made).await.expect(422);
    }
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let now = store::channels::get(&mut tx, id).await.unwrap();
    assert_eq!((now.config, now.sealed), (kept.config, kept.sealed));
    drop(tx);
    let given = json!({"bot_token": "xoxb-new", "channel": "#ops", "api_url": "https://chat.example/api"});
    api.patch(&path, &api.admin, json!({"config": given})).await.expect(200);

    api.delete(&path, &api.agent).await.expect(403);
    api.delete(&path, &api.admin).await.expect(204);
    api.get(&path, &api.admin).await.expect(404);
}

#[tokio::test]
async fn wrong_configurations_are_refused_with_the_field() {
    let api = Api::start().await;
    for (kind, config, pointer) in [
        ("slack", json!({}), "/config"),
        ("slack", json!({"webhook_url": "nowhere"}), "/config/webhook_url"),
        ("teams", json!({"webhook_url": "https://x.example", "more": 1}), "/config/more"),
        ("email", json!({"to": ["a@b.example", "nobody"]}), "/config/to/1"),
        ("sms", json!({"to": "1"}), "/config"),
        ("pigeon", json!({}), "/kind"),
    ] {
        let body = json!({"kind": kind, "name": "x", "config": config});
        assert_eq!(
            pointers(&api.post(CHANNELS, &api.admin, body).await.expect(422)),
            [pointer],
            "{kind} {config}"
        );
    }
    api.post(CHANNELS, &api.agent, json!({"kind": "email", "name": "x", "config": {"to": "a@b.example"}}))
        .await
        .expect(403);
    api.get(CHANNELS, &api.end_user).await.expect(403);
}

#[tokio::test]
async fn rules_and_the_ledger() {
    let api = Api::start().await;
    let channel = json!({"kind": "email", "name": "Ops", "config": {"to": "ops@acme.example"}});
    let channel = api.post(CHANNELS, &api.admin, channel).await.expect(201).json["id"].clone();
    for (body, pointer) in [
        (json!({"event": "incident.exploded", "channel": channel}), "/event"),
        (json!({"event": "incident.opened", "channel": domain::ChannelId::new()}), "/channel"),
        (
            json!({"event": "incident.opened", "channel": channel, "conditions": {"priority": "very"}}),
            "/conditions/priority",
        ),
        (
            json!({"event": "incident.opened", "channel": channel, "conditions": {"mood": "x"}}),
            "/conditions/mood",
        ),
        (
            json!({"event": "incident.opened", "channel": channel, "conditions": {"team": "Ghost"}}),
            "/conditions/team",
        ),
        (
            json!({"event": "incident.opened", "channel": channel, "conditions": {"assignee": ["agent", "Ghost"]}}),
            "/conditions/assignee",
        ),
        (
            json!({"event": "incident.opened", "channel": channel, "conditions": {"metric": "resolution"}}),
            "/conditions/metric",
        ),
    ] {
        assert_eq!(pointers(&api.post(RULES, &api.admin, body).await.expect(422)), [pointer]);
    }
    let rule = json!({"event": "incident.opened", "channel": channel, "conditions": {"priority": ["high", "critical"]}});
    let rule = api.post(RULES, &api.admin, rule).await.expect(201).json;
    assert_eq!((&rule["name"], &rule["is_active"]), (&json!("incident.opened to Ops"), &json!(true)));
    let path = format!("{RULES}/{}", rule["id"].as_str().unwrap());
    let off = api
        .patch(&path, &api.admin, json!({"is_active": false, "conditions": {"tag": "vpn"}}))
        .await
        .expect(200);
    assert_eq!((&off.json["is_active"], &off.json["conditions"]), (&json!(false), &json!({"tag": "vpn"})));

    let test = format!("{CHANNELS}/{}/test", channel.as_str().unwrap());
    let accepted = api.post(&test, &api.admin, json!({})).await.expect(202).json;
    let filter = format!("{LEDGER}?status=pending&kind=email&channel={}", channel.as_str().unwrap());
    let listed = api.get(&filter, &api.agent).await.expect(200).json;
    let delivery = &listed["items"][0];
    assert_eq!((&delivery["job"], &delivery["recipient"]), (&accepted["job"], &json!("ops@acme.example")));
    let show = format!("{LEDGER}/{}", delivery["id"].as_str().unwrap());
    assert_eq!(api.get(&show, &api.agent).await.expect(200).json, *delivery);
    api.post(&format!("{show}/retry"), &api.admin, json!({})).await.expect(409);
    assert_eq!(api.get(&format!("{LEDGER}?status=sent"), &api.agent).await.json["items"], json!([]));
    assert_eq!(
        pointers(&api.get(&format!("{LEDGER}?status=lost"), &api.agent).await.expect(422)),
        ["/status"]
    );
    let none = api.get(&format!("{LEDGER}?ticket=INC0000099"), &api.agent).await.expect(200).json;
    assert_eq!(none["items"], json!([]));
    api.delete(&path, &api.admin).await.expect(204);
}

#[tokio::test]
async fn a_channel_in_use_is_not_deleted_and_says_by_whom() {
    let api = Api::start().await;
    let config = json!({"webhook_url": "https://hooks.slack.example/services/T/B/x"});
    let channel = json!({"kind": "slack", "name": "#ops", "config": config});
    let id = api.post(CHANNELS, &api.admin, channel).await.expect(201).json["id"].clone();
    let path = format!("{CHANNELS}/{}", id.as_str().unwrap());
    let rule = json!({"name": "loud ones", "event": "incident.opened", "channel": id});
    let rule = api.post(RULES, &api.admin, rule).await.expect(201).json["id"].clone();
    let steps = json!([{"action": "raise_priority"}, {"action": "notify_channel", "channel": id}]);
    let chain = json!({"name": "Night shift", "steps": steps});
    let chain = api.post("/api/v1/escalation-chains", &api.admin, chain).await.expect(201).json["id"].clone();

    let refused = api.delete(&path, &api.admin).await.expect(409).json["detail"].clone();
    assert_eq!(
        refused,
        "in use: escalation chains Night shift; rules loud ones: change or delete them first"
    );
    api.delete(&format!("{RULES}/{}", rule.as_str().unwrap()), &api.admin).await.expect(204);
    let refused = api.delete(&path, &api.admin).await.expect(409).json["detail"].clone();
    assert!(refused.as_str().unwrap().contains("Night shift"), "{refused}");
    let chain = format!("/api/v1/escalation-chains/{}", chain.as_str().unwrap());
    api.patch(&chain, &api.admin, json!({"steps": [{"action": "raise_priority"}]})).await.expect(200);
    api.delete(&path, &api.admin).await.expect(204);
}
