//! The disk of the history is full.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::{Plain, effects};
use queue::NewJob;
use std::time::Duration;
use testkit::report;

on_both!(no_room_for_the_history);

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
    sqlx::raw_sql("drop trigger no_room on queue.history").execute(&mut owner).await.unwrap();
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
