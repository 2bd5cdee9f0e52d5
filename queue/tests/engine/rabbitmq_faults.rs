//! The broker goes away, comes back, forgets everything, is short of memory and does not answer, while jobs flow.

use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::NewJob;
use queue::admin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use testkit::BrokerNode;

/// Ten jobs every 40 ms, each enqueued within a second or it is a failure.
async fn flow(pool: sqlx::PgPool, go: Arc<AtomicBool>, enqueued: Arc<AtomicI64>, slowest: Arc<AtomicI64>) {
    while go.load(Ordering::Acquire) {
        let jobs: Vec<_> = (0..10).map(|_| NewJob::of(&Scripted { steps: vec![Step::Effect] })).collect();
        let started = Instant::now();
        let mut tx = pool.begin().await.unwrap();
        queue::enqueue(&mut tx, &jobs).await.unwrap();
        tx.commit().await.unwrap();
        slowest.fetch_max(started.elapsed().as_millis() as i64, Ordering::AcqRel);
        enqueued.fetch_add(10, Ordering::AcqRel);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

async fn sight(bench: &Bench) -> Option<String> {
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::lanes(&mut connection, None).await.unwrap().into_iter().find_map(|lane| lane.broker)
}

async fn until_seen(bench: &Bench, what: &str) {
    eventually(&format!("the broker to be {what}"), || async {
        (sight(bench).await.as_deref() == Some(what)).then_some(())
    })
    .await;
}

/// Until everything that was enqueued before is done.
async fn until_drained(bench: &Bench, enqueued: &AtomicI64) -> Duration {
    let (begun, wanted) = (Instant::now(), enqueued.load(Ordering::Acquire));
    loop {
        let done = bench.count("select count(*) from ledger").await;
        let waiting = bench.count("select count(*) from queue.jobs").await;
        if done >= wanted && waiting < 200 {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{done} of {wanted} done, {waiting} wait");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One story, because each start of the broker takes seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_the_broker_loses_a_job_or_hangs_an_enqueue() {
    let Some(node) = BrokerNode::start().await else { return };
    let mut names = node.names();
    names.url += "?heartbeat=3";
    let bench = Bench::on(&names).await;
    let engine = bench.start_with(Bench::patient());
    let config = Bench::patient();
    let (other, _) = bench.start_other(config);
    let (go, enqueued, slowest) =
        (Arc::new(AtomicBool::new(true)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let flow = tokio::spawn(flow(bench.pool().clone(), go.clone(), enqueued.clone(), slowest.clone()));
    until_seen(&bench, "connected").await;
    let mut drained = vec![("at first", until_drained(&bench, &enqueued).await)];

    node.memory_alarm(true).await;
    until_seen(&bench, "blocked").await;
    let before = enqueued.load(Ordering::Acquire);
    eventually("more jobs while blocked", || async {
        (enqueued.load(Ordering::Acquire) > before + 200).then_some(())
    })
    .await;
    node.memory_alarm(false).await;
    until_seen(&bench, "connected").await;
    drained.push(("after the memory alarm", until_drained(&bench, &enqueued).await));

    node.stop().await;
    until_seen(&bench, "away").await;
    node.start_again().await;
    drained.push(("after a restart", until_drained(&bench, &enqueued).await));

    node.kill().await;
    node.start_again().await;
    drained.push(("after kill -9", until_drained(&bench, &enqueued).await));

    node.kill().await;
    node.wipe().await;
    node.start_again().await;
    drained.push(("after its data was wiped", until_drained(&bench, &enqueued).await));

    // Half-open connections.
    node.freeze().await;
    until_seen(&bench, "away").await;
    node.thaw().await;
    drained.push(("after it did not answer", until_drained(&bench, &enqueued).await));

    go.store(false, Ordering::Release);
    flow.await.unwrap();
    let all = enqueued.load(Ordering::Acquire);
    eventually("the end", || async {
        (bench.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    assert_eq!(bench.count("select count(*) from ledger").await, all, "each effect once");
    assert_eq!(bench.count("select count(distinct job) from ledger").await, all, "no job lost");
    let slowest_drain = drained.iter().map(|(_, took)| *took).max().unwrap_or_default();
    testkit::report(
        "RabbitMQ restarted, killed, wiped, short of memory, frozen: 0 lost, drained ≤ 60 s after return",
        "ten jobs every 40 ms meanwhile, two workers",
        format!(
            "0 of {all} lost, 0 doubled, drained after {:.1} s at most, slowest enqueue {} ms",
            slowest_drain.as_secs_f64(),
            slowest.load(Ordering::Acquire)
        ),
    );
    assert!(slowest.load(Ordering::Acquire) < 5000, "an enqueue hung: {slowest:?} ms");
    engine.shutdown(Duration::from_secs(5)).await;
    other.shutdown(Duration::from_secs(5)).await;
}
