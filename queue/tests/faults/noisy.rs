//! One tenant floods the lane.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::effects;
use queue::NewJob;
use std::time::Duration;
use testkit::{in_full, report};
use uuid::Uuid;

on_both!(a_noisy_tenant);

async fn a_noisy_tenant(on: On) {
    let Some(field) = Field::open(on).await else { return };
    let (flood, quiet) = if in_full() { (100_000, 60) } else { (3_000, 5) };
    let of = |tenant: u128, jobs: Vec<NewJob>| -> Vec<NewJob> {
        jobs.into_iter().map(|job| job.organization(Uuid::from_u128(tenant))).collect()
    };
    for _ in 0..flood / 1000 {
        field.enqueue(&of(1, effects(1000, 5))).await;
    }
    let workers = field.start(1);
    within(Duration::from_secs(60), "the flood to be worked on", || async {
        (field.effects().await > 20).then_some(())
    })
    .await;
    for _ in 0..quiet {
        field.enqueue(&of(2, effects(1, 1))).await;
        if in_full() {
            tokio::time::sleep(Duration::from_secs(1)).await; // one a second is what is promised for
        }
    }
    let done =
        "select count(*) from queue.history where organization_id = '00000000-0000-0000-0000-000000000002'";
    within(Duration::from_secs(60), "the quiet tenant's jobs", || async {
        (field.count(done).await == quiet).then_some(())
    })
    .await;
    let left = field.count("select count(*) from queue.jobs").await;
    assert!(left > 0, "the flood was over before");
    let p99 = field
        .count(
            "select (percentile_disc(0.99) within group (order by extract(epoch from started_at - due_at)) * 1000)::bigint \
             from queue.history where organization_id = '00000000-0000-0000-0000-000000000002'",
        )
        .await;
    drop(workers);
    assert!(p99 <= 5000, "p99 {p99} ms");
    report(
        "a tenant with a long line, another with 1 job/s: the other's p99 wait ≤ 5 s",
        &format!("{}: {flood} jobs wait, {quiet} of the other", on.name()),
        format!("p99 {p99} ms, {left} of the flood still waiting"),
    );
}
