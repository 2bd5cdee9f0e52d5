//! The network between a worker and its servers.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::{Effect, Plain, Worker, effects};
use queue::NewJob;
use std::time::{Duration, Instant};
use testkit::{Proxy, Way, in_full, report};

on_both!(cut_off_from_the_database);

/// A worker whose database does not answer any more (half-open), with others that take over. What it did meanwhile is refused.
async fn cut_off_from_the_database(on: On) {
    let Some(field) = Field::open(on).await else { return };
    let (proxy, through) = Proxy::to_database(&field.db.app_url).await;
    let mut spec = field.spec();
    spec.database = through;
    let mut cut_off = Worker::start(&spec);
    field.until_worked_on(1).await;
    // Long enough that the first still runs when the last has begun, on a slow machine too.
    let work_ms = 6_000;
    let jobs: Vec<NewJob> = (0..8)
        .map(|n| if n % 2 == 0 { NewJob::of(&Effect { work_ms }) } else { NewJob::of(&Plain { work_ms }) })
        .collect();
    field.enqueue(&jobs).await;
    within(Duration::from_secs(30), "all to run", || async { (field.running().await == 8).then_some(()) })
        .await;
    let begun = Instant::now();
    proxy.set(Way::Silent);
    let other = Worker::start(&field.spec());
    field.drained(spec.rescued_within() * 2 + Duration::from_millis(work_ms)).await;
    if in_full() {
        tokio::time::sleep(Duration::from_secs(60).saturating_sub(begun.elapsed())).await;
    }
    let silence = begun.elapsed();
    other.kill().await;
    proxy.set(Way::Open);
    field.enqueue(&effects(20, 1)).await;
    let back = field.drained(spec.rescued_within() * 2).await;
    assert!(cut_off.is_running());
    field.each_once(24).await;
    assert_eq!(field.count("select count(*) from queue.history").await, 28);
    // And the other faults of a line, while work goes on.
    for fault in 0..4 {
        field.enqueue(&effects(40, 1)).await;
        match fault {
            0 => proxy.cut(),
            1 => proxy.reset(),
            2 => proxy.set(Way::Slow(Duration::from_millis(30))),
            _ => proxy.set(Way::Narrow(200_000)),
        }
        field.drained(spec.rescued_within() * 2).await;
        proxy.set(Way::Open);
    }
    field.each_once(24 + 160).await;
    assert!(cut_off.is_running());
    report(
        "stale completions after a partition: 0 accepted",
        &format!(
            "{}: {:.0} s of silence with 8 running jobs; then cut, reset, slow and narrow lines",
            on.name(),
            silence.as_secs_f64()
        ),
        format!("0 accepted, 0 doubled, at work {:.1} s after the line was back", back.as_secs_f64()),
    );
}

/// Between worker and broker: half-open, cut, reset and slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_from_the_broker() {
    let Some(field) = Field::open(On::RabbitMq).await else { return };
    let broker = field.broker.clone().unwrap();
    let (proxy, url) = Proxy::to_broker(&broker.url).await;
    let mut spec = field.spec();
    spec.broker = Some((format!("{url}?heartbeat=3"), broker.prefix.clone()));
    let mut worker = Worker::start(&spec);
    field.until_worked_on(1).await;
    let mut slowest = Duration::ZERO;
    let mut total = 0;
    for fault in ["none", "cut", "reset", "slow", "half-open", "closed"] {
        field.enqueue(&effects(60, 1)).await;
        total += 60;
        match fault {
            "cut" => proxy.cut(),
            "reset" => proxy.reset(),
            "slow" => proxy.set(Way::Slow(Duration::from_millis(50))),
            "half-open" => proxy.set(Way::Silent),
            "closed" => {
                proxy.set(Way::Closed);
                proxy.reset();
            }
            _ => {}
        }
        if ["half-open", "closed"].contains(&fault) {
            within(Duration::from_secs(60), "the worker to see it", || async {
                (field.count("select count(*) from queue.workers where broker = 'away'").await > 0)
                    .then_some(())
            })
            .await;
            // An enqueue does not depend on it.
            field.enqueue(&effects(60, 1)).await;
            total += 60;
        }
        proxy.set(Way::Open);
        slowest = slowest.max(field.drained(Duration::from_secs(60)).await);
    }
    field.each_once(total).await;
    assert!(worker.is_running());
    report(
        "RabbitMQ out of reach: 0 lost, drained ≤ 60 s after return",
        "line to the broker cut, reset, slow, half-open, closed",
        format!("0 of {total} lost, 0 doubled, drained after {:.1} s at most", slowest.as_secs_f64()),
    );
}
