//! Payloads that are applied together come to the same as one after the other.

use actions::alert_sources::{self, NewAlertSource};
use actions::alerts::{Payload, ingest};
use chrono::{DateTime, TimeDelta, Utc};
use domain::Actor;
use domain::alert::{AlertSourceKind, AlertStatus, Grouping, Notification, Signal};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use store::alert_sources::AlertSource;
use testkit::{Organization, TestDb};

/// A payload in a few numbers: its group, and which alerts of which severity fire or have ended.
type Plan = (u8, Vec<(u8, bool, bool)>);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let signal = (0..6_u8, prop::bool::weighted(0.7), any::<bool>());
    prop::collection::vec((0..5_u8, prop::collection::vec(signal, 1..4)), 1..9)
}

fn notification((group, signals): &Plan, start: DateTime<Utc>) -> Notification {
    let signal = |(alert, fires, is_critical): &(u8, bool, bool)| Signal {
        fingerprint: format!("alert{alert}"),
        status: if *fires { AlertStatus::Firing } else { AlertStatus::Resolved },
        severity: if *is_critical { "critical" } else { "warning" }.into(),
        title: format!("alert {alert}"),
        description: String::new(),
        labels: BTreeMap::new(),
        source_url: None,
        starts_at: start,
        ends_at: (!fires).then(|| start + TimeDelta::milliseconds(500)),
    };
    // One payload names an alert once.
    let alerts: BTreeMap<u8, &(u8, bool, bool)> = signals.iter().map(|signal| (signal.0, signal)).collect();
    Notification {
        group_key: Some(format!("group{group}")),
        title: None,
        url: None,
        truncated: 0,
        group_status: None,
        signals: alerts.into_values().map(signal).collect(),
    }
}

struct Side {
    test: TestDb,
    organization: Organization,
    source: AlertSource,
}

impl Side {
    async fn new(grouping: Grouping) -> Side {
        let test = testkit::database().await;
        let organization = testkit::organization(&test, "acme").await;
        let mut tx = test.db.begin(organization.id).await.unwrap();
        let actor = Actor::system(organization.id, "test");
        let new = NewAlertSource {
            grouping: Some(grouping),
            ..NewAlertSource::new(AlertSourceKind::Alertmanager, "prometheus")
        };
        let source = alert_sources::create(&mut tx, &actor, new).await.unwrap().source;
        tx.commit().await.unwrap();
        Side { test, organization, source }
    }

    /// What each payload came to. `together`: how many share a transaction.
    async fn ingest(&self, all: &[(Notification, DateTime<Utc>)], together: usize) -> Vec<Vec<&'static str>> {
        let actor = Actor::system(self.organization.id, "ingest_alert");
        let mut came_to = Vec::new();
        for some in all.chunks(together) {
            let mut tx = self.test.db.begin(self.organization.id).await.unwrap();
            let payloads: Vec<Payload<'_>> = some
                .iter()
                .map(|(notification, at)| Payload { notification, received_at: *at, skip: 0, trace: None })
                .collect();
            let done = ingest(&mut tx, &actor, &self.source, &payloads).await.unwrap();
            tx.commit().await.unwrap();
            // Within a payload, groups come in the order of their ids.
            came_to.extend(done.iter().map(|done| {
                let mut outcomes: Vec<_> = done.iter().map(|one| one.outcome.as_str()).collect();
                outcomes.sort_unstable();
                outcomes
            }));
        }
        came_to
    }

    /// Groups with the state of their incident, and alerts with theirs.
    async fn state(&self) -> BTreeSet<String> {
        let mut owner = self.test.owner().await;
        let rows: Vec<String> = sqlx::query_scalar(
            "select concat_ws(' ', g.group_key, t.status, t.priority, t.reopened_count) from alert_groups g
               left join tickets t on t.id = g.incident_id
             union all
             select concat_ws(' ', a.fingerprint, a.status, a.severity, a.received_count, g.group_key, a.incident_id is null)
               from alerts a join alert_groups g on g.id = a.group_id
             union all select 'tickets ' || count(*) from tickets
             union all select concat_ws(' ', 'comments of', g.group_key, count(*)) from ticket_comments c
               join alert_groups g on g.incident_id = c.ticket_id group by g.group_key",
        )
        .fetch_all(&mut owner)
        .await
        .unwrap();
        rows.into_iter().collect()
    }
}

async fn compare(grouping: Grouping) {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let (one_by_one, together) = (Side::new(grouping).await, Side::new(grouping).await);
    let begin = together.test.db.begin(together.organization.id).await.unwrap().now();
    for round in 0..25 {
        let plans = plans().new_tree(&mut runner).unwrap().current();
        let all: Vec<(Notification, DateTime<Utc>)> = plans
            .iter()
            .enumerate()
            .map(|(n, plan)| {
                let at = begin + TimeDelta::seconds(round * 100 + n as i64 * 2);
                (notification(plan, at), at + TimeDelta::seconds(1))
            })
            .collect();
        let expected = one_by_one.ingest(&all, 1).await;
        let got = together.ingest(&all, all.len()).await;
        assert_eq!(got, expected, "round {round}: {plans:?}");
        assert_eq!(together.state().await, one_by_one.state().await, "round {round}: {plans:?}");
    }
}

#[tokio::test]
async fn as_one_after_the_other_by_group() {
    compare(Grouping::Group).await;
}

#[tokio::test]
async fn as_one_after_the_other_by_alert() {
    compare(Grouping::Alert).await;
}
