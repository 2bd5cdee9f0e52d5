use crate::world::World;
use actions::jobs::StartScheduledReport;
use actions::reports::{self, NewSchedule, ReportRequest};
use chrono::TimeDelta;
use domain::ticket::Source;
use domain::{PeriodKind, ReportKind};
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
    let executions = report_executions::list(&mut tx, Some(schedule.id), None, None, 10).await.unwrap();
    assert_eq!(executions.len(), 1);
    assert_eq!(executions[0].to - executions[0].from, TimeDelta::minutes(10));

    reports::delete_schedule(&mut tx, &world.organization.admin, schedule.id).await.unwrap();
    tx.commit().await.unwrap();
}
