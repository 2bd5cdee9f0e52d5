use super::*;
use actions::tickets::{Escalation, NewComment, comment, escalate, reopen, resolve, set_status};
use domain::sla::{State, Trigger};
use domain::ticket::Status;
use queue::testing::Enqueued;
use std::time::Duration;

#[tokio::test]
async fn a_new_ticket_has_clocks_and_each_has_its_timer() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    let first = clock(&db.db, &acme.agent, ticket.id, Metric::FirstResponse).await.clock;
    let resolution = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.clock;
    assert_eq!(first.due_at, Some(ticket.created_at + TimeDelta::minutes(10)));
    assert_eq!(first.warn_at, Some(ticket.created_at + TimeDelta::minutes(8)));
    assert_eq!(resolution.due_at, Some(ticket.created_at + TimeDelta::minutes(60)));
    let mut tx = db.db.begin(acme.id).await.unwrap();
    for clock in [&first, &resolution] {
        Enqueued::kind("check_sla").due_at(clock.warn_at.unwrap()).times(1).assert_in(&mut tx).await;
    }
    let shown = actions::sla::view(&mut tx, &[ticket.id]).await.unwrap().remove(&ticket.id).unwrap();
    let resolution = shown.resolution.unwrap();
    assert_eq!(
        (resolution.state, resolution.target_seconds, resolution.breached_at),
        (State::Running, 3600, None)
    );
}

#[tokio::test]
async fn without_a_policy_nothing_is_promised() {
    let (db, acme) = house().await;
    let ticket = opened(&db, &acme.agent).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    assert!(actions::sla::view(&mut tx, &[ticket.id]).await.unwrap().is_empty());
    resolve(&mut tx, &acme.agent, ticket.id, "gone").await.unwrap();
}

#[tokio::test]
async fn warning_then_breach_each_on_time_and_once() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    let first = clock(&db.db, &acme.agent, ticket.id, Metric::FirstResponse).await;
    // A timer that fires early is told how long to wait.
    let Checked::NotYet(rest) = judge(&db.db, &acme.agent, &first).await else { panic!("early") };
    assert!(rest > Duration::from_secs(470) && rest <= Duration::from_secs(480), "{rest:?}");
    pass(&db, 8);
    let checked = judge(&db.db, &acme.agent, &first).await;
    assert!(
        matches!(checked, Checked::Judged { trigger: Trigger::Warning, lag } if lag < Duration::from_secs(10)),
        "{checked:?}"
    );
    assert_eq!(judge(&db.db, &acme.agent, &first).await, Checked::Nothing, "its timer was replaced");
    pass(&db, 2);
    let checked = judge(&db.db, &acme.agent, &first).await;
    assert!(matches!(checked, Checked::Judged { trigger: Trigger::Breach, .. }), "{checked:?}");
    assert_eq!(judge(&db.db, &acme.agent, &first).await, Checked::Nothing);
    assert_eq!((events(&db, "sla.warning").await, events(&db, "sla.breached").await), (1, 1));
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let breaches = super::breaches(&mut tx).await;
    assert_eq!(breaches.len(), 1);
    assert_eq!(breaches[0].breached_at, ticket.created_at + TimeDelta::minutes(10));
    assert_eq!((breaches[0].policy_name.as_str(), breaches[0].target_seconds), ("standard", 600));
}

#[tokio::test]
async fn twenty_workers_find_a_breach_once() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    let stored = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await;
    pass(&db, 61);
    let runs = (0..20).map(|_| judge(&db.db, &acme.agent, &stored));
    let judged = futures::future::join_all(runs).await;
    assert_eq!(
        judged.iter().filter(|checked| matches!(checked, Checked::Judged { .. })).count(),
        1,
        "{judged:?}"
    );
    assert_eq!(events(&db, "sla.breached").await, 1);
    assert_eq!(count(&db, "select count(*) from sla_breaches").await, 1);
}

#[tokio::test]
async fn a_breach_that_no_timer_found_is_recorded_when_the_ticket_is_resolved() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    pass(&db, 90);
    let mut tx = db.db.begin(acme.id).await.unwrap();
    resolve(&mut tx, &acme.agent, ticket.id, "rebooted").await.unwrap();
    let breaches = super::breaches(&mut tx).await;
    tx.commit().await.unwrap();
    let overruns: Vec<_> = breaches.iter().map(|b| (b.metric, b.overrun_seconds.map(|s| s / 60))).collect();
    assert_eq!(overruns, [(Metric::Resolution, Some(30)), (Metric::FirstResponse, Some(80))]);
    assert_eq!(clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.clock.state(), State::Missed);
    // Reopened, it is not made good after all, and is no second breach.
    let mut tx = db.db.begin(acme.id).await.unwrap();
    reopen(&mut tx, &acme.agent, ticket.id, None).await.unwrap();
    tx.commit().await.unwrap();
    let stored = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await;
    assert_eq!(
        (stored.clock.state(), judge(&db.db, &acme.agent, &stored).await),
        (State::Breached, Checked::Nothing)
    );
    assert_eq!(count(&db, "select count(*) from sla_breaches where fulfilled_at is null").await, 1);
}

#[tokio::test]
async fn the_first_public_answer_of_staff_meets_the_response_clock() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.end_user).await;
    let state = async || clock(&db.db, &acme.agent, ticket.id, Metric::FirstResponse).await.clock.state();
    let say = async |actor: &Actor, new: NewComment| {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        comment(&mut tx, actor, ticket.id, new).await.unwrap();
        tx.commit().await.unwrap();
    };
    say(&acme.end_user, NewComment::public("anybody there?", Source::Api)).await;
    say(&acme.agent, NewComment::internal("looks bad", Source::Api)).await;
    assert_eq!(state().await, State::Running);
    pass(&db, 3);
    say(&acme.agent, NewComment::public("we are on it", Source::Api)).await;
    assert_eq!(state().await, State::Met);
    assert_eq!(clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.clock.state(), State::Running);
}

#[tokio::test]
async fn pending_stops_the_clocks_and_work_goes_on_where_it_stood() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    let move_to = async |status| {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        set_status(&mut tx, &acme.agent, ticket.id, status, None).await.unwrap();
        tx.commit().await.unwrap();
        clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await
    };
    pass(&db, 20);
    let paused = move_to(Status::Pending).await;
    assert_eq!(
        (paused.clock.state(), paused.clock.due_at, paused.clock.elapsed.num_minutes()),
        (State::Paused, None, 20)
    );
    pass(&db, 1000);
    assert_eq!(judge(&db.db, &acme.agent, &paused).await, Checked::Nothing);
    let running = move_to(Status::InProgress).await;
    let left = running.clock.due_at.unwrap() - running.clock.armed_at;
    assert_eq!((running.clock.state(), left.num_minutes()), (State::Running, 39));
}

#[tokio::test]
async fn another_priority_changes_the_goal_but_not_the_start() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let ticket = opened(&db, &acme.agent).await;
    pass(&db, 20);
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let high = Escalation {
        reason: "the boss waits".into(),
        priority: Some(Priority::High),
        ..Escalation::default()
    };
    escalate(&mut tx, &acme.agent, ticket.id, high).await.unwrap();
    tx.commit().await.unwrap();
    let stored = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await;
    assert_eq!(stored.clock.due_at, Some(ticket.created_at + TimeDelta::minutes(30)));
    // The first response was late under the old goal: ten minutes, not five.
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let breaches = super::breaches(&mut tx).await;
    assert_eq!(
        breaches.iter().map(|b| (b.metric, b.target_seconds)).collect::<Vec<_>>(),
        [(Metric::FirstResponse, 600)]
    );
}
