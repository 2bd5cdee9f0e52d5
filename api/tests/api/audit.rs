//! Who changed the settings: each verb records its event, and no event holds a secret.

use crate::support::Api;
use crate::tenants::fixtures;
use axum::http::Method;
use serde_json::{Value, json};

/// What can be made, changed and deleted, children before parents; and how its events begin.
const NOUNS: [(&str, &str); 12] = [
    ("/api/v1/notification-rules/{id}", "rule"),
    ("/api/v1/notification-channels/{id}", "channel"),
    ("/api/v1/sla-policies/{id}", "sla_policy"),
    ("/api/v1/business-calendars/{id}", "calendar"),
    ("/api/v1/escalation-chains/{id}", "escalation_chain"),
    ("/api/v1/mailboxes/{id}", "mailbox"),
    ("/api/v1/alert-sources/{id}", "alert_source"),
    ("/api/v1/report-schedules/{id}", "report_schedule"),
    ("/api/v1/discovery-sources/{id}", "discovery_source"),
    ("/api/v1/ci-categories/{id}", "ci_category"),
    ("/api/v1/identity-providers/{id}", "identity_provider"),
    ("/api/v1/teams/{id}", "team"),
];

/// Kind, payload and actor of what concerns no ticket, in order.
async fn events(api: &Api) -> Vec<(String, Value, Option<uuid::Uuid>)> {
    sqlx::query_as("select kind, payload, actor_id from events where ticket_id is null order by seq")
        .fetch_all(&mut api.test_db.owner().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_change_of_the_settings_is_recorded() {
    let api = Api::start().await;
    let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    let mut secrets = vec!["another long one".to_owned(), "https://hooks.example/".to_owned()];
    for (path, noun) in NOUNS {
        let path = objects.fill(path).unwrap();
        api.patch(&path, &api.admin, json!({"name": format!("Renamed {noun}")})).await.expect(200);
        if ["mailbox", "alert_source"].contains(&noun) {
            let rotate = api.call(Method::POST, &format!("{path}/rotate_token"), &api.admin, None).await;
            let answer = rotate.expect(200).json;
            let token = answer.get("token").or(answer.get("hook_token")).unwrap();
            secrets.push(token.as_str().unwrap().to_owned());
        }
    }
    let channel = objects.fill("/api/v1/notification-channels/{id}").unwrap();
    let secret =
        json!({"kind": "teams", "name": "chat", "config": {"webhook_url": "https://hooks.example/1"}});
    api.post("/api/v1/notification-channels", &api.admin, secret).await.expect(201);
    let matrix = api.get("/api/v1/priority-matrix", &api.admin).await.expect(200).json;
    api.call(Method::PUT, "/api/v1/priority-matrix", &api.admin, Some(matrix)).await.expect(200);
    let user = objects.fill("/api/v1/users/{id}/set-password").unwrap();
    api.post(&user, &api.admin, json!({"password": "another long one"})).await.expect(204);
    let relation = objects.fill("/api/v1/ci-relationships/{id}").unwrap();
    api.delete(&relation, &api.admin).await.expect(204);
    let refused = api.delete(&channel, &api.agent).await;
    refused.expect(403);
    for (path, _) in NOUNS {
        // Tickets name the team.
        if !path.contains("/teams/") {
            api.delete(&objects.fill(path).unwrap(), &api.admin).await.expect(204);
        }
    }

    let recorded = events(&api).await;
    let admin = api.organization.admin.user_id().map(|id| id.0);
    let of = |kind: &str| recorded.iter().filter(|(recorded, ..)| recorded == kind).count();
    for (_, noun) in NOUNS {
        let made = if noun == "channel" { 2 } else { 1 };
        assert_eq!(of(&format!("{noun}.created")), made, "{noun}");
        assert_eq!(of(&format!("{noun}.updated")), 1, "{noun}");
        assert_eq!(of(&format!("{noun}.deleted")), usize::from(noun != "team"), "{noun}");
        let told = recorded.iter().find(|(kind, ..)| *kind == format!("{noun}.updated")).unwrap();
        assert!(told.1[noun].is_string() && told.2 == admin, "{told:?}");
    }
    for kind in [
        "mailbox.token_rotated",
        "alert_source.token_rotated",
        "priority_matrix.updated",
        "user.password_set",
        "ci_relationship.created",
        "ci_relationship.deleted",
    ] {
        assert_eq!(of(kind), 1, "{kind}");
    }
    for (kind, payload, _) in &recorded {
        let text = payload.to_string();
        assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())), "{kind}: {text}");
    }
    // Nor does the audit log, in which the same changes are.
    let entries: Vec<(String, String)> =
        sqlx::query_as("select noun || '.' || verb, changes::text from audit_entries")
            .fetch_all(&mut api.test_db.owner().await)
            .await
            .unwrap();
    for (what, changes) in &entries {
        assert!(!secrets.iter().any(|secret| changes.contains(secret.as_str())), "{what}: {changes}");
    }
    for table in ["notification_channels", "mailboxes", "alert_sources", "users", "priority_matrix"] {
        assert!(entries.iter().any(|(what, _)| what.starts_with(table)), "nothing of {table}");
    }
}
