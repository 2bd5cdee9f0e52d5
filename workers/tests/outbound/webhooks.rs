//! Events told to other systems: a real receiver that checks signatures as the specification says, with code of its own.

use crate::world::World;
use actions::tickets::{NewTicket, TicketPatch};
use actions::webhooks::{self, NewWebhook, WebhookChange};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use domain::permission::Limits;
use domain::ticket::Source;
use domain::{Actor, Permission, Rights, Role, WebhookId, WebhookOff, WebhookStatus};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;
use store::webhook_deliveries::{self as deliveries, WebhookDelivery};
use store::webhooks::Webhook;
use testkit::sinks::{Answer, HttpSink, Request};

impl World {
    pub async fn webhook_of(&self, actor: &Actor, url: &str, types: &[&str]) -> (WebhookId, SecretString) {
        let new = NewWebhook {
            url: url.to_owned(),
            description: "the test's".into(),
            event_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            is_active: true,
        };
        let mut tx = self.begin().await;
        let (webhook, secret) =
            webhooks::create(&mut tx, actor, &self.shared.secrets, None, &new).await.unwrap();
        tx.commit().await.unwrap();
        (webhook.id, secret)
    }

    pub async fn webhook(&self, url: &str, types: &[&str]) -> (WebhookId, SecretString) {
        let admin = self.organization.admin.clone();
        self.webhook_of(&admin, url, types).await
    }

    pub async fn now_is(&self, webhook: WebhookId) -> Webhook {
        store::webhooks::get(&mut self.begin().await, webhook).await.unwrap()
    }

    /// Oldest first.
    pub async fn told(&self) -> Vec<WebhookDelivery> {
        let reach = domain::permission::Reach::Everything;
        let rows =
            deliveries::list(&mut self.begin().await, &reach, &deliveries::LIST.all(200)).await.unwrap();
        rows.into_iter().rev().map(|row| row.item).collect()
    }

    async fn confidential(&self, title: &str) -> store::tickets::Ticket {
        let mut tx = self.begin().await;
        let new = NewTicket { is_confidential: true, ..NewTicket::incident(title, Source::Api) };
        let ticket = actions::tickets::open(&mut tx, &self.organization.agent, new).await.unwrap();
        tx.commit().await.unwrap();
        ticket
    }

    /// How often an event of that kind was recorded, with what it said.
    pub async fn recorded(&self, kind: &str) -> Vec<Value> {
        sqlx::query_scalar("select payload from events where kind = $1 order by seq")
            .bind(kind)
            .fetch_all(&mut self.test.owner().await)
            .await
            .unwrap()
    }
}

/// Whether one of the signatures is that of the secret.
fn is_signed(request: &Request, secret: &SecretString) -> bool {
    let key = STANDARD.decode(secret.expose_secret().strip_prefix("whsec_").unwrap()).unwrap();
    let header = |name| request.header(name).unwrap();
    let body = std::str::from_utf8(&request.body).unwrap();
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    header("webhook-signature").split(' ').any(|signature| {
        let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(signed.as_bytes());
        mac.verify_slice(&given).is_ok()
    })
}

#[tokio::test]
async fn a_signed_message_says_what_happened_and_arrives_once() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (webhook, secret) = world.webhook(&sink.url("/in?from=relaydesk"), &["incident.*"]).await;
    let ticket = world.incident("Printer on fire").await;
    world.drain().await.unwrap();

    let requests = sink.requests();
    assert_eq!(requests.len(), 1, "one event, one message: {requests:?}");
    let request = &requests[0];
    assert!(is_signed(request, &secret) && !is_signed(request, &"whsec_AAAA".to_owned().into()));
    let delivery = world.told().await.remove(0);
    let expected = format!("msg_{}", delivery.id.0.simple());
    assert_eq!(
        (request.header("webhook-id"), &*request.uri.to_string()),
        (Some(&*expected), "/in?from=relaydesk")
    );
    let sent: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((world.begin().await.now().timestamp() - sent).abs() < 300);
    assert!(request.header("traceparent").is_some());
    let body = request.json();
    assert_eq!(body["type"], "incident.opened");
    assert_eq!(body["id"], delivery.event.unwrap().to_string());
    assert_eq!(body["organization"], json!({"id": world.organization.id, "slug": "acme"}));
    assert_eq!(body["data"]["ticket"], ticket.id.to_string());
    assert_eq!(body["data"]["payload"]["title"], "Printer on fire");
    assert!(body["timestamp"].is_string() && body["data"]["position"].is_i64());
    assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Delivered, 1));
    let attempts = deliveries::attempts(&mut world.begin().await, delivery.id, &deliveries::ATTEMPTS.all(10))
        .await
        .unwrap();
    assert_eq!(
        (attempts.len(), attempts[0].item.status, attempts[0].item.response.as_deref()),
        (1, Some(200), Some("ok"))
    );
    assert!(attempts[0].item.duration_ms.is_some() && attempts[0].item.error.is_none());

    // The same cause again, and a run of a job that is over: nothing.
    let mut tx = world.begin().await;
    let react = queue::NewJob::of(&actions::jobs::React { event: delivery.event.unwrap() });
    let late = queue::NewJob::of(&actions::jobs::DeliverWebhook { delivery: delivery.id });
    let again = [react, late].map(|job| job.organization(world.organization.id));
    queue::enqueue(&mut tx, &again).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!((sink.requests().len(), world.told().await.len()), (1, 1));

    // What it did not ask for.
    let mut tx = world.begin().await;
    actions::webhooks::test(&mut tx, &world.organization.admin, webhook).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let all = sink.requests();
    assert_eq!((all.len(), &all[1].json()["type"]), (2, &json!("webhook.test")));
    assert!(is_signed(&all[1], &secret));
}

#[tokio::test]
async fn retries_are_the_same_message_and_mind_retry_after() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (_, secret) = world.webhook(&sink.url("/"), &["incident.opened"]).await;
    sink.script([
        Answer::status(500).body("oops"),
        Answer::status(429).header("retry-after", 1000),
        Answer::status(404),
        Answer::status(302).header("location", sink.url("/elsewhere")),
        Answer::status(200).body("x".repeat(1 << 20)),
    ]);
    world.incident("Slow").await;
    let mut waits = Vec::new();
    for attempts in 1..=4 {
        world.drain_once().await.unwrap();
        let delivery = world.told().await.remove(0);
        assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Pending, attempts));
        let wait = delivery.next_attempt_at.unwrap() - delivery.last_attempt_at.unwrap();
        waits.push(wait.num_seconds());
        world.pass(wait + TimeDelta::seconds(1)).await;
    }
    world.drain_once().await.unwrap();
    let delivery = world.told().await.remove(0);
    assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Delivered, 5), "{delivery:?}");
    for (wait, (least, most)) in waits.iter().zip([(4, 36), (1000, 1030), (96, 175), (480, 750)]) {
        assert!((least..=most).contains(wait), "{waits:?}");
    }
    let requests = sink.requests();
    assert_eq!(requests.len(), 5, "redirects are not followed");
    for request in &requests {
        assert_eq!(request.header("webhook-id"), requests[0].header("webhook-id"));
        assert_eq!(request.body, requests[0].body);
        assert!(is_signed(request, &secret));
    }
    let attempts = deliveries::attempts(&mut world.begin().await, delivery.id, &deliveries::ATTEMPTS.all(10))
        .await
        .unwrap();
    let seen: Vec<_> = attempts.iter().rev().map(|attempt| attempt.item.status.unwrap()).collect();
    assert_eq!(seen, [500, 429, 404, 302, 200]);
    assert!(
        attempts.iter().all(|attempt| attempt.item.response.as_ref().is_none_or(|text| text.len() <= 500))
    );
}

#[tokio::test]
async fn who_is_gone_is_switched_off_and_what_it_missed_can_be_replayed() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (webhook, _) = world.webhook(&sink.url("/secret-path"), &["incident.opened"]).await;
    sink.script([Answer::status(200), Answer::status(410)]);
    world.incident("taken").await;
    world.drain().await.unwrap();
    world.incident("refused").await;
    world.drain().await.unwrap();
    let off = world.now_is(webhook).await;
    assert_eq!((off.is_active, off.disabled.unwrap().1), (false, WebhookOff::Gone));
    assert_eq!(world.recorded("webhook.disabled").await[0]["reason"], "gone");
    let notice =
        world.deliveries().await.into_iter().find(|mail| mail.message_kind == "webhook_off").unwrap();
    assert_eq!(notice.recipient, "admin@acme.example");
    let words = notice.mail.unwrap().words.unwrap();
    assert!(words.text.contains("410 Gone") && !words.text.contains("secret-path"), "{}", words.text);

    world.incident("missed").await;
    world.drain().await.unwrap();
    assert_eq!((sink.requests().len(), world.told().await.len()), (2, 2), "it hears of nothing");
    let (admin, on) =
        (&world.organization.admin, WebhookChange { is_active: Some(true), ..Default::default() });
    let mut tx = world.begin().await;
    let since = tx.now() - TimeDelta::hours(1);
    assert!(webhooks::replay_time(&mut tx, admin, webhook, since, None, false).await.is_err(), "it is off");
    let webhook_now = webhooks::update(&mut tx, admin, None, webhook, None, on).await.unwrap();
    assert!(webhook_now.is_active && webhook_now.disabled.is_none());
    webhooks::replay_time(&mut tx, admin, webhook, since, None, false).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let titles = |from: usize| -> Vec<String> {
        let all = sink.requests();
        let mut titles: Vec<String> = all[from..]
            .iter()
            .map(|request| request.json()["data"]["payload"]["title"].as_str().unwrap().to_owned())
            .collect();
        titles.sort();
        titles
    };
    assert_eq!(titles(2), ["missed", "refused"], "what was delivered is not told again");
    // With what was delivered: everything, under the same ids.
    let mut tx = world.begin().await;
    webhooks::replay_time(&mut tx, admin, webhook, since, None, true).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!(titles(4), ["missed", "refused", "taken"]);
    let told = world.told().await;
    assert!(told.len() == 3 && told.iter().all(|delivery| delivery.status == WebhookStatus::Delivered));
    // One by itself.
    let mut tx = world.begin().await;
    webhooks::replay(&mut tx, admin, told[0].id).await.unwrap();
    assert!(webhooks::replay(&mut tx, admin, told[0].id).await.is_err(), "it waits already");
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let all = sink.requests();
    assert_eq!(all.len(), 8);
    assert_eq!(all[7].header("webhook-id"), all[0].header("webhook-id"));
    assert_eq!(all[7].body, all[0].body);
}

#[tokio::test]
async fn who_only_fails_is_switched_off_after_three_days() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (webhook, _) = world.webhook(&sink.url("/"), &["incident.opened"]).await;
    sink.otherwise(Answer::status(500));
    let mut hours = 0;
    while world.now_is(webhook).await.is_active {
        assert!(hours < 24 * 6, "{:?}", world.now_is(webhook).await);
        if hours % 24 == 0 {
            world.incident("nobody hears").await;
        }
        world.drain_once().await.unwrap();
        world.pass(TimeDelta::hours(1)).await;
        hours += 1;
    }
    let off = world.now_is(webhook).await;
    assert_eq!(off.disabled.unwrap().1, WebhookOff::Failing);
    assert!((72..=96).contains(&hours) && off.failures >= 20, "{hours} hours, {} failures", off.failures);
    let first = world.told().await.remove(0);
    assert_eq!((first.status, first.attempts), (WebhookStatus::Failed, 10));
    assert!(world.deliveries().await.iter().any(|mail| mail.message_kind == "webhook_off"));
    // What still waited is not sent any more.
    let before = sink.requests().len();
    for _ in 0..20 {
        world.pass(TimeDelta::hours(2)).await;
        world.drain_once().await.unwrap();
    }
    assert_eq!(sink.requests().len(), before);
    assert!(world.told().await.iter().all(|delivery| delivery.status == WebhookStatus::Failed));
}

/// The same person with a token that allows less.
fn limited(actor: &Actor, permissions: &[Permission]) -> Actor {
    let rights = Rights::of_role(actor.user_id().unwrap(), Role::Admin);
    let limits = Limits::to(permissions.iter().copied());
    Actor::user(actor.organization, actor.user_id().unwrap(), "limited", rights.limited(Some(limits)))
}

#[tokio::test]
async fn nothing_is_told_that_its_owner_may_not_see() {
    let (world, sink, all) = (World::open().await, HttpSink::start().await, HttpSink::start().await);
    world.webhook(&all.url("/"), &["*"]).await;
    // A token for little makes no webhook for everything.
    let few = [
        Permission::WebhooksManage,
        Permission::EventsFollow,
        Permission::TicketsView,
        Permission::TicketsUpdate,
    ];
    world.webhook_of(&limited(&world.organization.admin, &few), &sink.url("/"), &["*"]).await;
    let open = world.incident("for everybody").await;
    world.confidential("salaries").await;
    world.drain().await.unwrap();
    let bodies: Vec<Value> = sink.requests().iter().map(|request| request.json()).collect();
    let about_tickets: Vec<&Value> = bodies.iter().filter(|body| !body["data"]["ticket"].is_null()).collect();
    assert_eq!(about_tickets.len(), 1, "{bodies:?}");
    assert_eq!(about_tickets[0]["data"]["ticket"], open.id.to_string());
    assert!(about_tickets[0]["data"].get("payload").is_none(), "who reads no notes gets no payload");
    let text = |sink: &HttpSink| -> String {
        sink.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect()
    };
    assert!(!text(&sink).contains("salaries") && text(&all).contains("salaries"));

    // It becomes confidential between the event and its message.
    let before = sink.requests().len();
    let ticket = world.incident("hushed").await;
    let mut tx = world.begin().await;
    let (now, hour) = (tx.now(), TimeDelta::hours(1));
    let events =
        store::events::within(&mut tx, (now - hour, now + hour), (now - hour, 0), 100).await.unwrap();
    let opened: Vec<_> = events.into_iter().filter(|event| event.ticket == Some(ticket.id)).collect();
    webhooks::tell(&mut tx, &opened, |_| None).await.unwrap();
    let change = TicketPatch { is_confidential: Some(true), ..Default::default() };
    actions::tickets::update(&mut tx, &world.organization.admin, ticket.id, change).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let later = &sink.requests()[before..];
    assert!(later.iter().all(|request| request.json()["data"]["ticket"].is_null()), "{later:?}");
    let told = world.told().await;
    let held_back = told.iter().find(|delivery| delivery.status == WebhookStatus::Failed).unwrap();
    assert!(held_back.last_error.as_ref().unwrap().contains("may not see it any more"), "{held_back:?}");
    assert_eq!((held_back.ticket, held_back.attempts), (Some(ticket.id), 0));

    // Its owner leaves.
    let before = all.requests().len();
    sqlx::query("update users set is_active = false where role = 'admin'")
        .execute(&mut world.test.owner().await)
        .await
        .unwrap();
    world.incident("after").await;
    world.drain().await.unwrap();
    assert_eq!(all.requests().len(), before);
}

#[tokio::test]
async fn another_organization_hears_nothing() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.webhook(&sink.url("/"), &["*"]).await;
    let other = testkit::organization(&world.test, "globex").await;
    let mut tx = world.test.db.begin(other.id).await.unwrap();
    let new = NewTicket::incident("globex secret", Source::Api);
    actions::tickets::open(&mut tx, &other.admin, new).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let told = world.told().await;
    assert!(told.iter().all(|delivery| delivery.ticket.is_none()), "{told:?}");
    assert!(sink.requests().iter().all(|request| !String::from_utf8_lossy(&request.body).contains("globex")));
    // Nor does anybody there reach this one.
    let mut tx = world.test.db.begin(other.id).await.unwrap();
    let newest = store::webhooks::LIST.all(1);
    let webhook = { store::webhooks::list(&mut world.begin().await, &newest).await.unwrap()[0].item.id };
    assert!(actions::webhooks::test(&mut tx, &other.admin, webhook).await.is_err());
    assert!(store::webhooks::get(&mut tx, webhook).await.is_err());
}

#[tokio::test]
async fn nothing_goes_to_addresses_inside() {
    let (world, inside) = (World::new(None, "").await, HttpSink::start().await);
    let port = inside.address().port();
    let hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "169.254.169.254"];
    for host in hosts {
        world.webhook(&format!("http://{host}:{port}/"), &["incident.opened"]).await;
    }
    world.incident("out").await;
    world.drain().await.unwrap();
    assert!(inside.requests().is_empty());
    let told = world.told().await;
    assert_eq!(told.len(), hosts.len());
    for delivery in told {
        let error = delivery.last_error.unwrap();
        assert!(error.contains("refused"), "{error}");
        assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Failed, 1), "it is not tried again");
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let (world, first, second) = (World::open().await, HttpSink::start().await, HttpSink::start().await);
    world.webhook(&first.url("/"), &["incident.opened"]).await;
    first.otherwise(Answer::status(307).header("location", second.url("/inside")));
    world.incident("around the corner").await;
    world.drain_once().await.unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
    assert_eq!(world.told().await[0].last_status, Some(307));
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_sign() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (webhook, old) = world.webhook(&sink.url("/"), &["incident.opened"]).await;
    let mut tx = world.begin().await;
    let (ring, admin) = (&world.shared.secrets, &world.organization.admin);
    let (_, new) = webhooks::rotate_secret(&mut tx, admin, ring, webhook, TimeDelta::hours(2)).await.unwrap();
    tx.commit().await.unwrap();
    world.incident("between").await;
    world.drain().await.unwrap();
    let request = sink.requests().remove(0);
    assert!(is_signed(&request, &old) && is_signed(&request, &new));
    world.pass(TimeDelta::hours(3)).await;
    world.incident("after").await;
    world.drain().await.unwrap();
    let request = sink.requests().remove(1);
    assert!(!is_signed(&request, &old) && is_signed(&request, &new));
}

#[tokio::test]
async fn a_secret_lies_nowhere_in_clear_text() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (webhook, first) = world.webhook(&sink.url("/"), &["*"]).await;
    let mut tx = world.begin().await;
    let (ring, admin) = (&world.shared.secrets, &world.organization.admin);
    let (_, second) =
        webhooks::rotate_secret(&mut tx, admin, ring, webhook, TimeDelta::hours(2)).await.unwrap();
    tx.commit().await.unwrap();
    world.incident("anything").await;
    world.drain().await.unwrap();
    let mut owner = world.test.owner().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ('r', 'p') and n.nspname in ('public', 'queue', 'audit', 'search')",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(tables.len() > 50);
    for secret in [&first, &second] {
        let text = secret.expose_secret().strip_prefix("whsec_").unwrap().trim_end_matches('=');
        let key = STANDARD.decode(secret.expose_secret().strip_prefix("whsec_").unwrap()).unwrap();
        for table in &tables {
            let sql = format!(
                "select count(*) from {table} t where position($1 in t::text) > 0 or position($2 in t::text) > 0"
            );
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(text)
                .bind(hex)
                .fetch_one(&mut owner)
                .await
                .unwrap();
            assert_eq!(found, 0, "{table}");
        }
        let said: String = sink
            .requests()
            .iter()
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .collect();
        assert!(!said.contains(text));
    }
}

#[tokio::test]
async fn a_delivery_whose_job_is_lost_is_found() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.webhook(&sink.url("/"), &["incident.opened"]).await;
    sink.script([Answer::status(500)]);
    world.incident("lost").await;
    world.drain_once().await.unwrap();
    let mut owner = world.test.owner().await;
    sqlx::query("delete from queue.jobs where kind = 'deliver_webhook'").execute(&mut owner).await.unwrap();
    world.pass(TimeDelta::minutes(30)).await;
    let mut tx = world.begin().await;
    queue::enqueue(&mut tx, &[queue::NewJob::of(&actions::jobs::Sweep {})]).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let delivery = world.told().await.remove(0);
    assert_eq!((delivery.status, delivery.rescues), (WebhookStatus::Delivered, 1));
}
