use super::*;
use actions::escalation_chains::{self, NewChain};
use actions::escalations::{Stepped, step};
use actions::tickets::resolve;
use domain::escalation::{Action, EscalationState, Step, StepOutcome};
use domain::{ChainId, ChannelConfig, ChannelId, TeamId, UserId};
use queue::testing::Enqueued;
use serde_json::json;
use store::escalations::Escalation;

fn after(seconds: u32, action: Action) -> Step {
    Step { action, after_seconds: seconds }
}

/// A team whose manager is the admin.
async fn team(db: &TestDb, organization: &Organization) -> TeamId {
    let team = TeamId::new();
    sqlx::query(
        "insert into teams (id, organization_id, name, manager_id) values ($1, $2, 'second line', $3)",
    )
    .bind(team.0)
    .bind(organization.id.0)
    .bind(organization.admin.user_id().map(|id: UserId| id.0))
    .execute(&mut db.owner().await)
    .await
    .unwrap();
    team
}

async fn channel(db: &TestDb, organization: &Organization) -> ChannelId {
    let id = ChannelId::new();
    let mut tx = db.db.begin(organization.id).await.unwrap();
    let config = ChannelConfig::SlackWebhook { webhook_url: "https://hooks.slack.com/services/T/B/x".into() };
    store::channels::insert(&mut tx, id, "ops", &config, None, true).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn chain(db: &TestDb, organization: &Organization, steps: Vec<Step>) -> ChainId {
    let mut tx = db.db.begin(organization.id).await.unwrap();
    let new = NewChain { name: "call for help".into(), steps };
    let made = escalation_chains::create(&mut tx, &organization.admin, new).await.unwrap();
    tx.commit().await.unwrap();
    made.id
}

/// An open ticket whose resolution target has just been missed, and the escalation that came of it.
async fn breached(db: &TestDb, organization: &Organization, steps: Vec<Step>) -> (Ticket, Escalation) {
    let chain = chain(db, organization, steps).await;
    let mut new = NewPolicy { breach_chain: Some(chain), ..promise() };
    new.targets.iter_mut().for_each(|target| target.first_response_seconds = None);
    policy(db, &organization.admin, new).await;
    let ticket = opened(db, &organization.agent).await;
    let stored = clock(&db.db, &organization.agent, ticket.id, Metric::Resolution).await;
    pass(db, 60);
    assert!(matches!(judge(&db.db, &organization.agent, &stored).await, Checked::Judged { .. }));
    let mut tx = db.db.begin(organization.id).await.unwrap();
    let mut all = store::escalations::of_ticket(&mut tx, ticket.id).await.unwrap();
    assert_eq!(all.len(), 1);
    (ticket, all.remove(0))
}

/// What the job does for the step with this index, in a transaction of its own.
async fn next(db: &Db, organization: &Organization, escalation: &Escalation, index: i32) -> Stepped {
    let mut tx = db.begin(organization.id).await.unwrap();
    let stepped = step(&mut tx, escalation.id, Some(index)).await.unwrap();
    tx.commit().await.unwrap();
    stepped
}

#[tokio::test]
async fn every_step_is_done_once_by_however_many_workers() {
    let (db, acme) = house().await;
    let (team, channel) = (team(&db, &acme).await, channel(&db, &acme).await);
    let steps = vec![
        after(0, Action::AssignTeam { team }),
        after(0, Action::NotifyManager),
        after(0, Action::RaisePriority),
        after(0, Action::NotifyChannel { channel }),
    ];
    let (ticket, escalation) = breached(&db, &acme, steps).await;
    for index in 0..4 {
        // The others find the next step due at once and do that: no step twice, whoever does it.
        let _ = futures::future::join_all((0..4).map(|_| next(&db.db, &acme, &escalation, index))).await;
    }
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let done = store::escalations::steps_of(&mut tx, escalation.id).await.unwrap();
    let outcomes: Vec<_> = done.iter().map(|d| (d.step, d.action.as_str(), d.outcome)).collect();
    let done_word = StepOutcome::Done;
    assert_eq!(
        outcomes,
        [
            (0, "assign_team", done_word),
            (1, "notify_manager", done_word),
            (2, "raise_priority", done_word),
            (3, "notify_channel", done_word)
        ],
        "{done:?}"
    );
    let now = store::tickets::get(&mut tx, ticket.id).await.unwrap();
    assert_eq!((now.team, now.priority), (Some(team), ticket.priority.raised()));
    assert_eq!(
        store::escalations::get(&mut tx, escalation.id).await.unwrap().state,
        EscalationState::Finished
    );
    drop(tx);
    assert_eq!(count(&db, "select count(*) from deliveries").await, 2);
    assert_eq!(count(&db, "select count(*) from ticket_history where action = 'escalation'").await, 5);
    assert_eq!(events(&db, "incident.escalated").await, 2);
}

#[tokio::test]
async fn a_step_without_a_wait_is_ready_and_needs_no_timer() {
    let (db, acme) = house().await;
    let steps = vec![
        after(0, Action::RaisePriority),
        after(0, Action::RaisePriority),
        after(900, Action::RaisePriority),
    ];
    let (_, escalation) = breached(&db, &acme, steps).await;
    let timer = Enqueued::kind("escalate").organization(acme.id);
    let mut owner = db.owner().await;
    timer.clone().now().times(1).assert_in(&mut owner).await;
    next(&db.db, &acme, &escalation, 0).await;
    timer.clone().now().times(2).assert_in(&mut owner).await;
    next(&db.db, &acme, &escalation, 1).await;
    timer.clone().now().times(2).assert_in(&mut owner).await;
    let waits = timer.args(json!({"step": 2})).times(1).assert_in(&mut owner).await;
    assert!(waits[0].due_in > TimeDelta::minutes(10));
}

#[tokio::test]
async fn the_next_step_waits_for_its_delay() {
    let (db, acme) = house().await;
    let steps = vec![after(0, Action::RaisePriority), after(900, Action::RaisePriority)];
    let (_, escalation) = breached(&db, &acme, steps).await;
    assert!(matches!(next(&db.db, &acme, &escalation, 0).await, Stepped::Done { step: 0, .. }));
    assert!(matches!(next(&db.db, &acme, &escalation, 1).await, Stepped::NotYet(_)));
    assert_eq!(next(&db.db, &acme, &escalation, 0).await, Stepped::Nothing, "its timer was replaced");
    pass(&db, 15);
    assert!(matches!(next(&db.db, &acme, &escalation, 1).await, Stepped::Done { step: 1, .. }));
}

#[tokio::test]
async fn a_resolved_ticket_stops_its_escalation_and_history_says_why() {
    let (db, acme) = house().await;
    let steps = vec![after(0, Action::RaisePriority), after(900, Action::NotifyManager)];
    let (ticket, escalation) = breached(&db, &acme, steps).await;
    assert!(matches!(next(&db.db, &acme, &escalation, 0).await, Stepped::Done { .. }));
    let mut tx = db.db.begin(acme.id).await.unwrap();
    resolve(&mut tx, &acme.agent, ticket.id, "rebooted").await.unwrap();
    let stopped = store::escalations::get(&mut tx, escalation.id).await.unwrap();
    assert_eq!(
        (stopped.state, stopped.reason.as_str()),
        (EscalationState::Stopped, "the ticket is resolved")
    );
    assert_eq!(step(&mut tx, escalation.id, Some(1)).await.unwrap(), Stepped::Nothing);
    tx.commit().await.unwrap();
    let told = "select count(*) from ticket_history where action = 'escalation' and changes::text like '%the ticket is resolved%'";
    assert_eq!(count(&db, told).await, 1);
}

#[tokio::test]
async fn a_step_that_cannot_be_done_does_not_hold_up_the_others() {
    let (db, acme) = house().await;
    let team = team(&db, &acme).await;
    let steps = vec![
        after(0, Action::AssignTeam { team }),
        after(0, Action::NotifyManager),
        after(0, Action::RaisePriority),
    ];
    let (_, escalation) = breached(&db, &acme, steps).await;
    sqlx::query("delete from teams").execute(&mut db.owner().await).await.unwrap();
    for (index, outcome) in [(0, StepOutcome::Failed), (1, StepOutcome::Failed), (2, StepOutcome::Done)] {
        let stepped = next(&db.db, &acme, &escalation, index).await;
        assert!(
            matches!(&stepped, Stepped::Done { outcome: o, .. } if *o == outcome),
            "{index}: {stepped:?}"
        );
    }
}

#[tokio::test]
async fn a_chain_that_runs_keeps_its_steps() {
    let (db, acme) = house().await;
    let (_, escalation) = breached(&db, &acme, vec![after(0, Action::RaisePriority)]).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let edited = NewChain { name: "other".into(), steps: vec![after(0, Action::NotifyManager)] };
    escalation_chains::replace(&mut tx, &acme.admin, escalation.chain.unwrap(), None, edited).await.unwrap();
    tx.commit().await.unwrap();
    let stepped = next(&db.db, &acme, &escalation, 0).await;
    assert!(matches!(&stepped, Stepped::Done { detail, .. } if detail == "low to medium"), "{stepped:?}");
}

/// A manager who is out of office is stood in for, at the address where that one wants their mail; unless the substitute may not see the ticket.
#[tokio::test]
async fn an_escalation_to_a_manager_who_is_away_goes_to_their_substitute() {
    let (db, acme) = house().await;
    let team = team(&db, &acme).await;
    let mut owner = db.owner().await;
    sqlx::query(
        "update users set away_from = now() - interval '1 day', away_until = now() + interval '30 days', substitute_id = $2 where id = $1",
    )
    .bind(acme.admin.user_id().unwrap().0)
    .bind(acme.agent.user_id().unwrap().0)
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query(
        "insert into contact_ways (id, organization_id, user_id, place, kind, value, is_preferred, created_at)
         values ($1, $2, $3, 0, 'email', 'agent@home.example', true, now())",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(acme.id.0)
    .bind(acme.agent.user_id().unwrap().0)
    .execute(&mut owner)
    .await
    .unwrap();
    let steps = vec![
        after(0, Action::AssignTeam { team }),
        after(0, Action::NotifyManager),
        after(0, Action::NotifyManager),
    ];
    let (ticket, escalation) = breached(&db, &acme, steps).await;
    next(&db.db, &acme, &escalation, 0).await;
    let stepped = next(&db.db, &acme, &escalation, 1).await;
    let told = "mail to agent, who stands in for admin (out of office)";
    assert!(matches!(&stepped, Stepped::Done { detail, .. } if detail == told), "{stepped:?}");
    let sent = "select count(*) from deliveries where recipient = 'agent@home.example'";
    assert_eq!(count(&db, sent).await, 1);
    sqlx::query("update tickets set is_confidential = true, requester_id = null where id = $1")
        .bind(ticket.id.0)
        .execute(&mut owner)
        .await
        .unwrap();
    let stepped = next(&db.db, &acme, &escalation, 2).await;
    assert!(
        matches!(&stepped, Stepped::Done { outcome: StepOutcome::Skipped, detail, .. } if detail.contains("may not see")),
        "{stepped:?}"
    );
}
