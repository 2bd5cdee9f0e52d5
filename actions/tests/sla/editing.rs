use super::*;
use actions::calendars::{self, NewCalendar};
use actions::tickets::set_status;
use actions::{Error, sla};
use chrono::Weekday;
use domain::calendar::Window;
use domain::sla::State;
use domain::sla_policy::Conditions;
use domain::ticket::Status;

async fn recompute(db: &TestDb, actor: &Actor) {
    let mut after = None;
    loop {
        let mut tx = db.db.begin(actor.organization).await.unwrap();
        after = sla::recompute(&mut tx, after).await.unwrap();
        tx.commit().await.unwrap();
        if after.is_none() {
            return;
        }
    }
}

/// Open on the given weekday only, or always.
fn calendar(days: &[Weekday]) -> NewCalendar {
    NewCalendar {
        name: "hours".into(),
        time_zone: "Europe/Berlin".into(),
        windows: days.iter().map(|day| (*day, Window::WHOLE_DAY)).collect(),
        holidays: Vec::new(),
    }
}

const WEEK: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

#[tokio::test]
async fn an_edited_policy_reaches_tickets_that_are_open() {
    let (db, acme) = house().await;
    // More tickets than one batch holds, and none has a policy yet.
    let mut tickets = Vec::new();
    for _ in 0..60 {
        tickets.push(opened(&db, &acme.agent).await);
    }
    let id = policy(&db, &acme.admin, promise()).await;
    assert_eq!(count(&db, "select count(*) from queue.jobs where kind = 'recompute_sla'").await, 1);
    pass(&db, 5);
    recompute(&db, &acme.admin).await;
    for ticket in [&tickets[0], &tickets[59]] {
        let stored = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await;
        assert_eq!(
            stored.clock.due_at,
            Some(ticket.created_at + TimeDelta::minutes(60)),
            "counted from its beginning"
        );
    }
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let mut longer = promise();
    longer.targets.iter_mut().for_each(|target| target.resolution_seconds = Some(7200));
    sla_policies::replace(&mut tx, &acme.admin, id, None, longer).await.unwrap();
    tx.commit().await.unwrap();
    recompute(&db, &acme.admin).await;
    let stored = clock(&db.db, &acme.agent, tickets[30].id, Metric::Resolution).await;
    assert_eq!(stored.clock.due_at, Some(tickets[30].created_at + TimeDelta::minutes(120)));
    // Deleted: nothing is promised any more.
    let mut tx = db.db.begin(acme.id).await.unwrap();
    sla_policies::delete(&mut tx, &acme.admin, id).await.unwrap();
    tx.commit().await.unwrap();
    recompute(&db, &acme.admin).await;
    let stored = clock(&db.db, &acme.agent, tickets[30].id, Metric::Resolution).await;
    assert_eq!((stored.clock.due_at, stored.policy), (None, None));
}

/// Who waited for the calendar sees all of what the other one wrote, and cannot write old hours over it.
#[tokio::test]
async fn two_edits_of_a_calendar_follow_each_other() {
    let (db, acme) = house().await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let hours = calendars::create(&mut tx, &acme.admin, calendar(&WEEK)).await.unwrap();
    tx.commit().await.unwrap();

    let mut first = db.db.begin(acme.id).await.unwrap();
    let monday = calendar(&[Weekday::Mon]);
    calendars::replace(&mut first, &acme.admin, hours.id, None, monday).await.unwrap();
    let second = tokio::spawn({
        let (db, id) = (db.db.clone(), acme.id);
        async move {
            let mut tx = db.begin(id).await.unwrap();
            store::calendars::lock(&mut tx, hours.id).await.unwrap()
        }
    });
    let mut owner = db.owner().await;
    let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut owner).await.unwrap() {
        tokio::task::yield_now().await;
    }
    first.commit().await.unwrap();
    let seen = second.await.unwrap();
    assert_eq!((seen.version, seen.windows), (2, vec![(Weekday::Mon, Window::WHOLE_DAY)]));
}

#[tokio::test]
async fn a_policy_that_comes_later_knows_of_pauses_before() {
    let (db, acme) = house().await;
    let (back, waiting, late) =
        (opened(&db, &acme.agent).await, opened(&db, &acme.agent).await, opened(&db, &acme.agent).await);
    let turn = async |ticket: &Ticket, status: Status| {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        set_status(&mut tx, &acme.agent, ticket.id, status, None).await.unwrap();
        tx.commit().await.unwrap();
    };
    pass(&db, 10);
    turn(&back, Status::Pending).await;
    turn(&waiting, Status::Pending).await;
    pass(&db, 55);
    turn(&back, Status::InProgress).await;
    turn(&late, Status::Pending).await;
    pass(&db, 5);
    policy(&db, &acme.admin, promise()).await;
    recompute(&db, &acme.admin).await;
    let of = async |ticket: &Ticket| clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.clock;
    let near =
        |found: TimeDelta, minutes: i64| (found - TimeDelta::minutes(minutes)).abs() < TimeDelta::seconds(30);
    let clock = of(&back).await;
    assert!(near(clock.due_at.unwrap() - back.created_at, 60 + 55), "{clock:?}");
    let clock = of(&waiting).await;
    assert!(clock.state() == State::Paused && near(clock.elapsed, 10), "{clock:?}");
    // An hour had passed before it began to wait: that is a breach, though nobody could know then.
    let clock = of(&late).await;
    assert!(clock.state() == State::Paused && near(clock.elapsed, 65), "{clock:?}");
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let breaches = super::breaches(&mut tx).await;
    let resolution: Vec<_> = breaches.iter().filter(|breach| breach.metric == Metric::Resolution).collect();
    assert_eq!(resolution.len(), 1, "{resolution:?}");
    assert_eq!(
        (resolution[0].ticket, resolution[0].breached_at),
        (late.id, late.created_at + TimeDelta::minutes(60))
    );
}

#[tokio::test]
async fn an_edited_calendar_moves_deadlines() {
    let (db, acme) = house().await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let hours = calendars::create(&mut tx, &acme.admin, calendar(&WEEK)).await.unwrap();
    tx.commit().await.unwrap();
    policy(&db, &acme.admin, NewPolicy { calendar: Some(hours.id), ..promise() }).await;
    let ticket = opened(&db, &acme.agent).await;
    let today = {
        use chrono::Datelike;
        ticket.created_at.with_timezone(&hours.rules().unwrap().zone()).weekday()
    };
    // From now on open on the day before today only: the hour ends six days from now at the earliest.
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let stale = calendars::replace(&mut tx, &acme.admin, hours.id, Some(99), calendar(&[today.pred()])).await;
    assert!(matches!(stale, Err(Error::Stale)));
    calendars::replace(&mut tx, &acme.admin, hours.id, Some(1), calendar(&[today.pred()])).await.unwrap();
    tx.commit().await.unwrap();
    recompute(&db, &acme.admin).await;
    let due = clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.clock.due_at.unwrap();
    assert!(due - ticket.created_at > TimeDelta::days(5), "{due}");
    let mut tx = db.db.begin(acme.id).await.unwrap();
    assert!(matches!(calendars::delete(&mut tx, &acme.admin, hours.id).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn the_first_policy_that_fits_holds_and_the_default_comes_last() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, NewPolicy { position: 0, ..promise() }).await;
    let alerts = Conditions { source: vec![Source::Alert], ..Conditions::default() };
    let for_api = Conditions { source: vec![Source::Api], ..Conditions::default() };
    let no = |name: &str, conditions: Conditions, position| NewPolicy {
        name: name.into(),
        is_default: false,
        position,
        conditions,
        ..promise()
    };
    policy(&db, &acme.admin, no("alerts", alerts, 1)).await;
    let second = policy(&db, &acme.admin, no("api, later", for_api.clone(), 30)).await;
    let first = policy(&db, &acme.admin, no("api, earlier", for_api, 20)).await;
    let ticket = opened(&db, &acme.agent).await;
    assert_eq!(clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.policy, Some(first));
    let mut tx = db.db.begin(acme.id).await.unwrap();
    sla_policies::delete(&mut tx, &acme.admin, first).await.unwrap();
    tx.commit().await.unwrap();
    let ticket = opened(&db, &acme.agent).await;
    assert_eq!(clock(&db.db, &acme.agent, ticket.id, Metric::Resolution).await.policy, Some(second));
}

#[tokio::test]
async fn wrong_policies_are_refused_with_words() {
    let (db, acme) = house().await;
    policy(&db, &acme.admin, promise()).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    assert!(matches!(sla_policies::create(&mut tx, &acme.agent, promise()).await, Err(Error::Forbidden(_))));
    let nothing = NewPolicy { name: " ".into(), warn_percent: Some(100), targets: Vec::new(), ..promise() };
    let Err(Error::Invalid(fields)) = sla_policies::create(&mut tx, &acme.admin, nothing).await else {
        panic!()
    };
    let pointers: Vec<_> = fields.iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/name", "/warn_percent", "/targets"]);
    let never = NewCalendar { windows: Vec::new(), ..calendar(&WEEK) };
    assert!(matches!(calendars::create(&mut tx, &acme.admin, never).await, Err(Error::Invalid(_))));
    let second_default = NewPolicy { name: "another".into(), ..promise() };
    let refused = sla_policies::create(&mut tx, &acme.admin, second_default).await;
    assert!(matches!(refused, Err(Error::Conflict(text)) if text.contains("default")));
}
