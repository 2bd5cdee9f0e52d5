//! PostgreSQL crashes, again and again.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::effects;
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use testkit::{Server, in_full, report};

on_both!(immediate_stops_under_load);

/// Ten jobs at a time, each batch until it is acknowledged or refused.
async fn flow(pool: PgPool, go: Arc<AtomicBool>, acknowledged: Arc<AtomicI64>, unsure: Arc<AtomicI64>) {
    while go.load(Ordering::Acquire) {
        let jobs = effects(10, 1);
        let Ok(mut tx) = pool.begin().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if queue::enqueue(&mut tx, &jobs).await.is_err() {
            continue;
        }
        match tx.commit().await {
            Ok(()) => acknowledged.fetch_add(10, Ordering::AcqRel),
            Err(_) => unsure.fetch_add(10, Ordering::AcqRel), // committed or not: nobody was told
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn immediate_stops_under_load(on: On) {
    let server = Server::start().await;
    let Some(field) = Field::on(server.database().await, on).await else { return };
    let stops = if in_full() { 20 } else { 2 };
    let mut workers = field.start(2);
    field.until_worked_on(2).await;
    let (go, acknowledged, unsure) =
        (Arc::new(AtomicBool::new(true)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let flow =
        tokio::spawn(flow(field.db.db.pool().clone(), go.clone(), acknowledged.clone(), unsure.clone()));
    let mut slowest = Duration::ZERO;
    for _ in 0..stops {
        let before = acknowledged.load(Ordering::Acquire);
        within(Duration::from_secs(60), "jobs to flow", || async {
            (acknowledged.load(Ordering::Acquire) > before + 50).then_some(())
        })
        .await;
        server.crash().await;
        let (back, done) = (Instant::now(), field.effects().await);
        within(Duration::from_secs(60), "work to go on", || async {
            (field.effects().await > done).then_some(())
        })
        .await;
        slowest = slowest.max(back.elapsed());
    }
    go.store(false, Ordering::Release);
    flow.await.unwrap();
    field.drained(field.spec().rescued_within() * 2).await;
    let (told, doubtful) = (acknowledged.load(Ordering::Acquire), unsure.load(Ordering::Acquire));
    let effects = field.effects().await;
    assert!(
        effects >= told && effects <= told + doubtful,
        "{effects} effects, {told} acknowledged, {doubtful} in doubt"
    );
    field.each_once(effects).await;
    assert!(workers.iter_mut().all(|worker| worker.is_running()), "no process ends");
    assert!(slowest <= Duration::from_secs(10), "{slowest:?} until work went on");
    report(
        "PostgreSQL stopped with -m immediate under load: 0 acknowledged lost, 0 process exits, resumed ≤ 10 s",
        &format!("{}: {stops} stops, {told} jobs", on.name()),
        format!("0 lost, 0 doubled, 0 exits, resumed after {:.1} s at most", slowest.as_secs_f64()),
    );
}
