//! Worker processes are killed and stopped.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::{Effect, Plain, Worker, effects};
use queue::NewJob;
use std::time::Duration;
use testkit::{in_full, report};

on_both!(kill_9_of_random_workers, stopped_longer_than_the_lease);

async fn kill_9_of_random_workers(on: On) {
    let Some(field) = Field::open(on).await else { return };
    let (jobs, kills) = if in_full() { (10_000, 200) } else { (300, 6) };
    let mut spec = field.spec();
    // Here the workers are to blame for all their deaths.
    spec.crash_limit = 100;
    let start = || Worker::start(&spec);
    let mut workers = vec![start(), start(), start()];
    field.until_worked_on(3).await;
    for kill in 0..kills {
        field.enqueue(&effects(jobs / kills, 20)).await;
        within(Duration::from_secs(60), "jobs that run", || async {
            (field.running().await > 0).then_some(())
        })
        .await;
        let victim = workers.swap_remove(kill * 7 % workers.len());
        victim.kill().await;
        workers.push(start());
    }
    // From the last kill on: before it, whoever led was killed as well, every second or so.
    let drained = field.drained(spec.rescued_within() * 2).await;
    field.each_once(jobs as i64).await;
    let (lost, longest) = (
        field.count("select count(*) from queue.attempts where outcome = 'lost'").await,
        field.longest_loss().await,
    );
    assert!(drained <= spec.rescued_within(), "{drained:?} until the lost jobs were over");
    report(
        "kill -9 of random workers: 0 lost, 0 doubled; runs again ≤ 30 s after the last",
        &format!("{}: {jobs} jobs, 3 processes, {kills} kills", on.name()),
        format!(
            "0 lost, 0 doubled, {lost} runs lost, drained {:.1} s after the last kill, {:.1} s at most from a lost run's beginning to its end",
            drained.as_secs_f64(),
            longest.as_secs_f64()
        ),
    );
}

async fn stopped_longer_than_the_lease(on: On) {
    let Some(field) = Field::open(on).await else { return };
    let mut stopped = Worker::start(&field.spec());
    field.until_worked_on(1).await;
    // Long enough that the first still runs when the last has begun, on a slow machine too.
    let work_ms = 6_000;
    let jobs: Vec<NewJob> = (0..8)
        .map(|n| if n % 2 == 0 { NewJob::of(&Effect { work_ms }) } else { NewJob::of(&Plain { work_ms }) })
        .collect();
    field.enqueue(&jobs).await;
    within(Duration::from_secs(30), "all to run", || async { (field.running().await == 8).then_some(()) })
        .await;
    stopped.freeze().await;
    let held = field.running().await;
    let other = Worker::start(&field.spec());
    field.drained(field.spec().rescued_within() * 2 + Duration::from_millis(work_ms)).await;
    // It wakes up in the middle of what others have done since, and wants to write it down.
    stopped.thaw().await;
    other.kill().await;
    field.enqueue(&effects(20, 1)).await;
    field.drained(field.spec().rescued_within() * 2).await;
    assert!(stopped.is_running(), "it goes on under a new name");
    field.each_once(24).await;
    assert_eq!(field.count("select count(*) from queue.history").await, 28);
    report(
        "stale completions after SIGSTOP longer than the lease: 0 accepted",
        &format!("{}: a process stopped with {held} running jobs until others had done them", on.name()),
        "0 accepted, 0 doubled, the process went on",
    );
}
