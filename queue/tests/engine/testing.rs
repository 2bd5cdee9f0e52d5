//! The helpers for tests, on a database.

#[expect(dead_code, reason = "as a program of its own it has a main")]
#[path = "../../examples/greet.rs"]
mod greet;

use crate::scripted::{Bench, Hasty, LANE, Scripted, Shared, Step};
use queue::admin::{self, JobState};
use queue::testing::{Ended, Enqueued, Worker, inline, pass};
use queue::{Clock, JobError, NewJob, Outcome, Unique};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);

fn by_hand(bench: &Bench) -> Worker<Shared> {
    Worker::on(bench.pool(), Bench::registry(), bench.shared.clone())
}

fn done() -> NewJob {
    NewJob::of(&Scripted { steps: vec![Step::Done] })
}

#[tokio::test]
async fn the_example_greets() {
    let bench = Bench::new().await;
    assert_eq!(greet::greet(bench.pool(), "Ada").await.unwrap(), "hello, Ada (attempt 2)");
}

#[tokio::test]
async fn what_was_enqueued_is_found_by_what_is_said_of_it() {
    let bench = Bench::new().await;
    let organization = Uuid::now_v7();
    let mut tx = bench.pool().begin().await.unwrap();
    let job = done().organization(organization).priority(3).after(HOUR).unique("k", Unique::WhileUnfinished);
    let id = queue::enqueue(&mut tx, &[job, done()]).await.unwrap()[0];
    let later = Enqueued::of::<Scripted>().organization(organization).lane(LANE).priority(3).unique("k");
    assert_eq!(later.after(HOUR).args(json!({"steps": ["Done"]})).assert_in(&mut tx).await[0].id, id);
    Enqueued::of::<Scripted>().without_organization().now().times(1).assert_in(&mut tx).await;
    Enqueued::of::<Hasty>().times(0).assert_in(&mut tx).await;
    tx.rollback().await.unwrap();
    Enqueued::of::<Scripted>().times(0).assert_in(&mut bench.pool().acquire().await.unwrap()).await;
}

#[tokio::test]
#[should_panic(expected = "priority 0, not 7")]
async fn what_is_not_there_is_answered_with_what_is() {
    let bench = Bench::new().await;
    bench.enqueue(done()).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    Enqueued::of::<Scripted>().priority(7).assert_in(&mut connection).await;
}

#[tokio::test]
async fn one_job_of_a_kind_is_performed_and_the_others_wait() {
    let bench = Bench::new().await;
    let mut worker = by_hand(&bench);
    assert_eq!(worker.perform::<Scripted>().await, None);
    let first = bench.add(&[Step::DoneWith("so".into())]).await;
    let second = bench.add(&[Step::Effect]).await;
    let other = bench.enqueue(NewJob::of(&Hasty { steps: vec![Step::Fail("no".into())] })).await;
    let performed = worker.perform::<Scripted>().await.unwrap();
    assert_eq!((performed.id, performed.end), (first, Ended::Done { result: Some(json!({"said": "so"})) }));
    assert_eq!(bench.show(second).await.job.state, JobState::Ready);
    let performed = worker.perform::<Hasty>().await.unwrap();
    assert_eq!((performed.id, performed.attempt), (other, 1));
    assert!(matches!(performed.end, Ended::Retry { error, .. } if error == "no"));
    let ends = worker.drain().await;
    assert!(ends.iter().any(|end| end.id == second && end.end == Ended::Done { result: None }), "{ends:?}");
    assert_eq!(bench.show(second).await.job.state, JobState::Done);
    let back = bench.add(&[Step::RolledBackEffect]).await;
    assert_eq!(worker.perform::<Scripted>().await.unwrap().end, Ended::RolledBack);
    assert_eq!(bench.show(back).await.job.state, JobState::Scheduled);
}

#[tokio::test]
async fn a_worker_that_died_is_refused() {
    let bench = Bench::new().await;
    let mut worker = by_hand(&bench);
    let id = bench.add(&[Step::Done]).await;
    let lost = worker.claim(LANE, 5).await.pop().unwrap();
    worker.die().await;
    assert_eq!(worker.end(lost, Ok(Outcome::Done)).await.end, Ended::Refused);
    let again = worker.perform::<Scripted>().await.unwrap();
    assert_eq!((again.id, again.attempt, again.end), (id, 2, Ended::Done { result: None }));
    assert_eq!(bench.show(id).await.attempts[0].outcome, "lost");
}

#[tokio::test]
async fn a_moved_clock_makes_due_what_is_due_by_then() {
    let bench = Bench::new().await;
    let clock = Clock::new();
    let mut worker = by_hand(&bench).clock(clock.clone());
    let id = bench.enqueue(done().after(2 * HOUR)).await;
    clock.advance(HOUR);
    assert_eq!(worker.perform::<Scripted>().await, None);
    clock.advance(HOUR);
    assert_eq!(worker.perform::<Scripted>().await.unwrap().id, id);
    // The same without a clock to share: the time passes for what is in the database.
    let mut connection = bench.pool().acquire().await.unwrap();
    let mut other = by_hand(&bench);
    let id = bench.enqueue(done().after(2 * HOUR)).await;
    pass(&mut connection, HOUR).await.unwrap();
    assert_eq!(other.perform::<Scripted>().await, None);
    pass(&mut connection, HOUR).await.unwrap();
    assert_eq!(other.perform::<Scripted>().await.unwrap().id, id);
}

#[tokio::test]
async fn a_cancelled_run_is_told() {
    let bench = Bench::new().await;
    let mut worker = by_hand(&bench);
    let id = bench.add(&[Step::Done]).await;
    let claimed = worker.claim(LANE, 1).await.pop().unwrap();
    admin::cancel(&mut bench.pool().acquire().await.unwrap(), id, None, &admin::Note::default())
        .await
        .unwrap();
    let answer = Err(JobError::Retry(anyhow::anyhow!("stopped")));
    assert!(matches!(worker.end(claimed, answer).await.end, Ended::Cancelled { .. }));
    assert_eq!(bench.show(id).await.job.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_handler_runs_by_itself() {
    let bench = Bench::new().await;
    let said = inline(&Scripted { steps: vec![Step::DoneWith("x".into())] }).run(&bench.shared).await;
    assert!(matches!(said, Ok(Outcome::DoneWith(_))));
    // Completed inside its own transaction, though no row is there.
    let effect = inline(&Scripted { steps: vec![Step::Effect] }).attempt(3).run(&bench.shared).await;
    assert!(matches!(effect, Ok(Outcome::Done)), "{effect:?}");
    assert_eq!(bench.count("select count(*) from ledger").await, 1);
    let told = inline(&Scripted { steps: vec![Step::UntilCancelled] }).cancelled().run(&bench.shared).await;
    assert!(told.is_err());
}
