//! The disk of the history is full.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::{Plain, effects};
use queue::NewJob;
use std::time::Duration;
use testkit::{Server, report};

on_both!(no_room_for_the_history, a_full_disk_under_the_history);

/// The partitions of the history lie on a disk of 16 MB that somebody else has filled.
async fn a_full_disk_under_the_history(on: On) {
    let server = Server::start().await;
    let Some(field) = Field::on(server.database().await, on).await else { return };
    if !server.small_disk("small", 16).await {
        eprintln!("no disk can be mounted here: left to the test with a trigger");
        return;
    }
    let mut owner = field.db.owner().await;
    let leaves = "select relid::regclass::text from pg_partition_tree('queue.history') where isleaf";
    for leaf in sqlx::query_scalar::<_, String>(leaves).fetch_all(&mut owner).await.unwrap() {
        let there = sqlx::AssertSqlSafe(format!("alter table {leaf} set tablespace small"));
        sqlx::query(there).execute(&mut owner).await.unwrap();
    }
    sqlx::raw_sql(
        "create table filler (bytes text) tablespace small; alter table filler alter bytes set storage plain",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    // Many at once, and then what still fits.
    for rows in [100, 1] {
        let fill = format!("insert into filler select repeat('x', 7000) from generate_series(1, {rows})");
        loop {
            let filled = sqlx::query(sqlx::AssertSqlSafe(fill.as_str())).execute(&mut owner).await;
            let Err(error) = filled else { continue };
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), "53100", "{error}");
            break;
        }
    }
    let mut workers = field.start(1);
    field.until_worked_on(1).await;
    let refused = "select xact_rollback from pg_stat_database where datname = current_database()";
    let before = field.count(refused).await;
    let jobs: Vec<NewJob> = (0..400).map(|_| NewJob::of(&Plain { work_ms: 1 })).collect();
    field.enqueue(&jobs).await;
    field.enqueue(&effects(400, 1)).await;
    within(Duration::from_secs(60), "refusals", || async {
        (field.count(refused).await >= before + 20).then_some(())
    })
    .await;
    let written = field.count("select count(*) from queue.history").await;
    let kept = field.count("select count(*) from queue.jobs").await;
    assert_eq!(written + kept, 800, "each is in one of both");
    assert!(kept > 0 && workers[0].is_running(), "{kept} wait for room");
    sqlx::raw_sql("drop table filler").execute(&mut owner).await.unwrap();
    let drained = field.drained(Duration::from_secs(60)).await;
    field.each_once(400).await;
    assert_eq!(field.count("select count(*) from queue.history").await, 800);
    assert!(workers[0].is_running());
    report(
        "disk full on the history partition: nothing lost, goes on when there is room",
        &format!("{}: a tablespace of 16 MB that is full", on.name()),
        format!(
            "0 of 800 lost, 0 doubled, {kept} waited, drained {:.1} s after there was room",
            drained.as_secs_f64()
        ),
    );
}

/// A trigger stands in for the disk: it refuses each row with the code that PostgreSQL gives (53100, disk full).
async fn no_room_for_the_history(on: On) {
    let Some(field) = Field::open(on).await else { return };
    let mut workers = field.start(1);
    field.until_worked_on(1).await;
    let mut owner = field.db.owner().await;
    sqlx::raw_sql(
        "create sequence refused; grant all on refused to public; \
         create function no_room() returns trigger language plpgsql as $$ \
         begin perform nextval('refused'); raise exception 'could not extend file' using errcode = '53100'; end $$; \
         create trigger no_room before insert on queue.history for each row execute function no_room()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let mut jobs: Vec<NewJob> = (0..20).map(|_| NewJob::of(&Plain { work_ms: 1 })).collect();
    jobs.extend(effects(20, 1));
    field.enqueue(&jobs).await;
    within(Duration::from_secs(30), "refusals", || async {
        (field.count("select last_value from refused").await >= 20).then_some(())
    })
    .await;
    assert_eq!(field.effects().await, 0, "an effect without its end");
    assert!(workers[0].is_running());
    // Enqueueing does not need the history.
    field.enqueue(&effects(20, 1)).await;
    // Not `drop trigger`: it locks the table and its partitions in another order than who writes to them, which may end in a deadlock.
    sqlx::raw_sql("create or replace function no_room() returns trigger language plpgsql as $$ begin return new; end $$")
        .execute(&mut owner)
        .await
        .unwrap();
    let drained = field.drained(Duration::from_secs(60)).await;
    field.each_once(40).await;
    assert_eq!(field.count("select count(*) from queue.history").await, 60);
    assert!(workers[0].is_running());
    report(
        "disk full on the history partition: nothing lost, goes on when there is room",
        &format!("{}: writes refused with 53100 by a trigger", on.name()),
        format!("0 of 60 lost, 0 doubled, drained {:.1} s after there was room", drained.as_secs_f64()),
    );
}
