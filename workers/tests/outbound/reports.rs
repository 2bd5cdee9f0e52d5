use crate::world::World;
use actions::jobs::StartScheduledReport;
use actions::reports::{self, NewSchedule, ReportRequest};
use chrono::TimeDelta;
use domain::ticket::Source;
use domain::{PeriodKind, ReportKind};
use futures::TryStreamExt;
use store::listing::Is;
use store::report_executions::{self, Status};
use store::reports::{Range, Summary};
use testkit::sinks::SmtpSink;

/// Three opened, one answered after 10 minutes and resolved after an hour.
async fn history(world: &World) {
    for title in ["=cmd()", "Zwei", "Drei"] {
        world.incident(title).await;
    }
    let mut tx = world.begin().await;
    let staff = &world.organization.agent;
    let first = store::tickets::find(&mut tx, "INC0000001").await.unwrap();
    let answer = actions::tickets::NewComment::public("on it", Source::Api);
    actions::tickets::comment(&mut tx, staff, first.id, answer).await.unwrap();
    actions::tickets::resolve(&mut tx, staff, first.id, "restarted").await.unwrap();
    tx.commit().await.unwrap();
    let mut owner = world.test.owner().await;
    sqlx::query(
        "update tickets set created_at = now() - interval '2 hours', first_responded_at = now() - interval '110 minutes',
                            resolved_at = now() - interval '1 hour' where number = 'INC0000001'",
    )
    .execute(&mut owner)
    .await
    .unwrap();
}

async fn range(world: &World) -> Range {
    let tx = world.begin().await;
    Range { from: tx.now() - TimeDelta::days(1), to: tx.now() + TimeDelta::minutes(1) }
}

#[tokio::test]
async fn the_figures_are_right() {
    let world = World::open().await;
    history(&world).await;
    let range = range(&world).await;
    let mut tx = world.begin().await;
    let summary = store::reports::incidents_and_sla(&mut tx, range).await.unwrap();
    assert_eq!((summary.opened, summary.resolved, summary.open_at_end), (3, 1, 2));
    assert_eq!(summary.by_source[0].count, 3);
    assert_eq!(summary.by_priority.iter().map(|count| count.count).sum::<i64>(), 3);
    assert_eq!(summary.by_team[0].name, None);
    assert_eq!(summary.first_response.mean_seconds.map(f64::round), Some(600.0));
    assert_eq!(summary.resolution.median_seconds.map(f64::round), Some(3600.0));
    let before = Range { from: range.from - TimeDelta::days(2), to: range.from };
    let nothing = store::reports::incidents_and_sla(&mut tx, before).await.unwrap();
    assert_eq!(nothing, Summary::default());
}

#[tokio::test]
async fn a_report_arrives_once_with_its_file() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    history(&world).await;
    world.drain().await.unwrap();
    let before = sink.mails().len();
    let range = range(&world).await;
    let mut tx = world.begin().await;
    let request = ReportRequest {
        kind: ReportKind::IncidentsAndSla,
        from: range.from,
        to: range.to,
        time_zone: "Europe/Berlin".into(),
        recipients: vec!["Boss@acme.example".into(), "boss@acme.example".into(), "cto@acme.example".into()],
    };
    let started = reports::request(&mut tx, &world.organization.admin, request).await.unwrap();
    tx.commit().await.unwrap();
    sink.refuse(["451 4.3.0 later"]);
    world.drain().await.unwrap();

    let mails = &sink.mails()[before..];
    assert_eq!(mails.len(), 2, "one each, whoever is named twice");
    let text = mails[0].text();
    assert!(text.contains("text/csv") && text.contains("incidents_and_sla_"), "{text}");
    assert!(mails[0].header("subject").unwrap().contains("3 opened"));
    let mut tx = world.begin().await;
    let execution = report_executions::get(&mut tx, started.execution).await.unwrap();
    assert_eq!((execution.status, execution.csv_rows), (Status::Done, Some(3)));
    let csv = report_executions::csv(&mut tx, started.execution).await.unwrap();
    let csv = String::from_utf8(csv.bytes).unwrap();
    assert!(csv.contains("INC0000001,'=cmd(),resolved"), "{csv}");
    drop(tx);

    // Run again, whatever the reason: nothing more arrives.
    let mut tx = world.begin().await;
    let again = queue::NewJob::of(&actions::jobs::RunReport { execution: started.execution });
    queue::enqueue(&mut tx, &[again.organization(world.organization.id)]).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!(sink.mails().len(), before + 2);
}

#[tokio::test]
async fn a_schedule_makes_one_execution_per_tick() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    let mut tx = world.begin().await;
    let new = NewSchedule {
        name: "Often".into(),
        kind: ReportKind::IncidentsAndSla,
        cron: "*/5 * * * *".into(),
        time_zone: "Europe/Berlin".into(),
        period: PeriodKind::LastNMinutes,
        period_count: Some(10),
        recipients: vec!["boss@acme.example".into()],
        is_active: true,
    };
    let bad = NewSchedule { cron: "at noon".into(), name: "Bad".into(), ..new.clone() };
    assert!(reports::create_schedule(&mut tx, &world.organization.admin, bad).await.is_err());
    let schedule = reports::create_schedule(&mut tx, &world.organization.admin, new).await.unwrap();
    let tick = queue::NewJob::of(&StartScheduledReport { schedule: schedule.id });
    queue::enqueue(&mut tx, &[tick.organization(world.organization.id)]).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let mails = sink.mails();
    assert_eq!((mails.len(), mails[0].to.as_slice()), (1, ["boss@acme.example".to_owned()].as_slice()));
    let mut tx = world.begin().await;
    let of_it = report_executions::LIST.only("schedule", Is::Id(vec![schedule.id.0]), 10);
    let executions = report_executions::list(&mut tx, &of_it).await.unwrap();
    assert_eq!(executions.len(), 1);
    assert_eq!(executions[0].item.to - executions[0].item.from, TimeDelta::minutes(10));

    reports::delete_schedule(&mut tx, &world.organization.admin, schedule.id).await.unwrap();
    tx.commit().await.unwrap();
}

/// Deleted or switched off since they were named; back again, they get the next one.
#[tokio::test]
async fn who_is_gone_gets_no_report() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    let admin = world.organization.admin.clone();
    let mut tx = world.begin().await;
    let mut people = Vec::new();
    for name in ["grace", "joan"] {
        let new = actions::users::NewPerson {
            email: format!("{name}@acme.example"),
            name: name.into(),
            role: domain::Role::Manager,
            password_hash: None,
            department: None,
            manager: None,
            time_zone: None,
            locale: None,
            phone: None,
        };
        people.push(actions::users::create(&mut tx, &admin, new).await.unwrap().id);
    }
    let work = domain::ContactWay {
        kind: domain::ContactKind::Email,
        value: "grace.work@acme.example".into(),
        label: None,
        is_preferred: true,
    };
    store::contact_ways::replace(&mut tx, people[0], &[work]).await.unwrap();
    let new = NewSchedule {
        name: "Daily".into(),
        kind: ReportKind::IncidentsAndSla,
        cron: "0 6 * * *".into(),
        time_zone: "UTC".into(),
        period: PeriodKind::PreviousDay,
        period_count: None,
        recipients: [
            "grace@acme.example",
            "grace.work@acme.example",
            "joan@acme.example",
            "board@partner.example",
        ]
        .map(str::to_owned)
        .into(),
        is_active: true,
    };
    let schedule = reports::create_schedule(&mut tx, &admin, new).await.unwrap().id;
    let person = actions::removals::lock(&mut tx, people[0]).await.unwrap();
    actions::removals::delete(&mut tx, &admin, person).await.unwrap();
    let off = actions::users::PersonChanges { is_active: Some(false), ..Default::default() };
    let before = actions::users::lock(&mut tx, people[1], &off).await.unwrap();
    actions::users::update(&mut tx, &admin, before, off).await.unwrap();
    tx.commit().await.unwrap();

    let tick = async || {
        let mut tx = world.begin().await;
        let tick = queue::NewJob::of(&StartScheduledReport { schedule });
        queue::enqueue(&mut tx, &[tick.organization(world.organization.id)]).await.unwrap();
        tx.commit().await.unwrap();
        let before = sink.mails().len();
        world.drain().await.unwrap();
        let mut to: Vec<String> =
            sink.mails().split_off(before).into_iter().flat_map(|mail| mail.to).collect();
        to.sort();
        to
    };
    assert_eq!(tick().await, ["board@partner.example"]);
    let told = world.recorded("report.recipients_left_out").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["report_schedule"], serde_json::json!(schedule));
    assert_eq!(told[0]["users"], serde_json::json!([people[0], people[0], people[1]]));

    let mut tx = world.begin().await;
    let person = actions::removals::lock(&mut tx, people[0]).await.unwrap();
    actions::removals::restore(&mut tx, &admin, person).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(tick().await, ["board@partner.example", "grace.work@acme.example", "grace@acme.example"]);
}

/// The mail of a report whose file is too large for a mail.
#[tokio::test]
async fn a_large_file_is_linked_by_a_key_of_its_own() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    sqlx::query(
        "insert into tickets (id, organization_id, kind, number, title, status, impact, urgency, priority, source, created_at, updated_at)
         select gen_random_uuid(), $1, 'incident', 'INC' || lpad(n::text, 7, '0'), repeat('x', 490), 'new', 'low', 'low', 'low', 'api',
                now() - interval '1 hour', now()
           from generate_series(1, 15000) as n",
    )
    .bind(world.organization.id.0)
    .execute(&mut world.test.owner().await)
    .await
    .unwrap();
    let range = range(&world).await;
    let mut tx = world.begin().await;
    let request = ReportRequest {
        kind: ReportKind::IncidentsAndSla,
        from: range.from,
        to: range.to,
        time_zone: "Europe/Berlin".into(),
        recipients: vec!["boss@acme.example".into()],
    };
    let started = reports::request(&mut tx, &world.organization.admin, request).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert!(!sink.mails().remove(0).text().contains("text/csv"), "not attached");
    let text = world.delivery().await.mail.unwrap().words.unwrap().text;
    let (_, link) = text.split_once("https://desk.example/report#").expect("a link");
    let token = link.split(['"', '\r', '\n', '<']).next().unwrap();
    let hash = actions::credentials::hash_token(token);
    let mut tx = world.test.db.begin_presenting(&hash).await.unwrap();
    let (organization, execution, until) = report_executions::by_download(&mut tx, &hash).await.unwrap();
    assert_eq!((organization, execution), (world.organization.id, started.execution));
    assert!(until > tx.now() + TimeDelta::days(6));
    drop(tx);
    let mut tx = world.begin().await;
    assert!(report_executions::csv(&mut tx, execution).await.unwrap().bytes.len() > 7 << 20);
}

/// What the figures count as open or breached is what the lines say.
#[tokio::test]
async fn figures_and_lines_agree() {
    let world = World::open().await;
    let (early, late) =
        (world.incident("cancelled before the end").await, world.incident("cancelled after it").await);
    let staff = &world.organization.agent;
    let mut tx = world.begin().await;
    for ticket in [&early, &late] {
        actions::tickets::cancel(&mut tx, staff, ticket.id, None).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut owner = world.test.owner().await;
    for sql in [
        "update tickets set created_at = now() - interval '3 days'",
        "update ticket_history set at = now() - interval '2 days' where ticket_id = (select id from tickets where number = 'INC0000001')",
        // Breached, given more time, and then met.
        "insert into sla_clocks (id, organization_id, ticket_id, metric, phase, phase_since, started_at, armed_at, target_us)
         select gen_random_uuid(), organization_id, id, 'resolution', 'done', now() - interval '30 hours', created_at, created_at, 1
           from tickets
         on conflict (ticket_id, metric) do update set phase = 'done', phase_since = excluded.phase_since, target_us = 1",
        "insert into sla_breaches (id, organization_id, clock_id, generation, ticket_id, metric, policy_name, priority,
                                   target_seconds, breached_at, detected_at)
         select gen_random_uuid(), c.organization_id, c.id, 1, c.ticket_id, c.metric, '', 'low', 1, now() - interval '40 hours', now()
           from sla_clocks c join tickets t on t.id = c.ticket_id where t.number = 'INC0000002' and c.metric = 'resolution'",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    }
    // A word on a cancelled ticket does not open it again.
    let mut tx = world.begin().await;
    let word = actions::tickets::NewComment::internal("never mind", Source::Api);
    actions::tickets::comment(&mut tx, staff, early.id, word).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = world.begin().await;
    let range = Range { from: tx.now() - TimeDelta::hours(47), to: tx.now() - TimeDelta::days(1) };
    let summary = store::reports::incidents_and_sla(&mut tx, range).await.unwrap();
    let lines: Vec<_> = store::reports::lines(&mut tx, range).try_collect().await.unwrap();
    let open: Vec<&str> = lines.iter().map(|line| line.number.as_str()).collect();
    assert_eq!((summary.opened, summary.open_at_end, open), (0, 1, vec!["INC0000002"]));
    assert_eq!(lines[0].resolution_sla.as_deref(), Some("breached"));
    let resolution: Vec<_> = summary.sla.iter().filter(|line| line.metric == "resolution").collect();
    assert_eq!((resolution.len(), resolution[0].met, resolution[0].breached), (1, 1, 1), "{:?}", summary.sla);
}

/// Its job ended by a timeout, by crashes or by somebody's hand: nobody was there to say so.
#[tokio::test]
async fn a_report_whose_job_is_dead_has_failed() {
    let world = World::open().await;
    let range = range(&world).await;
    let mut tx = world.begin().await;
    let request = ReportRequest {
        kind: ReportKind::IncidentsAndSla,
        from: range.from,
        to: range.to,
        time_zone: "UTC".into(),
        recipients: Vec::new(),
    };
    let dead = reports::request(&mut tx, &world.organization.admin, request.clone()).await.unwrap();
    let alive = reports::request(&mut tx, &world.organization.admin, request).await.unwrap();
    tx.commit().await.unwrap();
    let mut owner = world.test.owner().await;
    sqlx::raw_sql(
        "update report_executions set created_at = created_at - interval '5 minutes'; \
                   update queue.jobs set state = 'scheduled', due_at = now() + interval '1 hour'",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query(
        "update queue.jobs set state = 'dead', last_error = 'not finished within 600s' where id = $1",
    )
    .bind(dead.job.0)
    .execute(&mut owner)
    .await
    .unwrap();
    queue::enqueue(&mut owner, &[queue::NewJob::of(&actions::jobs::Sweep {})]).await.unwrap();
    world.drain_once().await.unwrap();

    let mut tx = world.begin().await;
    let failed = report_executions::get(&mut tx, dead.execution).await.unwrap();
    assert_eq!(
        (failed.status, failed.error.as_deref()),
        (Status::Failed, Some("given up: its job is dead: not finished within 600s"))
    );
    assert!(failed.finished_at.is_some());
    assert_eq!(report_executions::get(&mut tx, alive.execution).await.unwrap().status, Status::Queued);
    drop(tx);

    // Somebody retries the dead job: the report is made after all.
    queue::admin::retry(&mut owner, dead.job, None, &queue::admin::Note::default()).await.unwrap();
    world.drain_once().await.unwrap();
    let mut tx = world.begin().await;
    assert_eq!(report_executions::get(&mut tx, dead.execution).await.unwrap().status, Status::Done);
}
