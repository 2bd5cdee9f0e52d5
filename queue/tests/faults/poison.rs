//! Jobs that harm their process, in real processes with innocent neighbours.

use crate::field::{Field, On, within};
use crate::on_both;
use crate::worker::{Harm, Poison, Worker, effects};
use queue::NewJob;
use std::time::Duration;
use testkit::{in_full, report};

on_both!(poison_of_every_kind);

async fn poison_of_every_kind(on: On) {
    let harms = [Harm::Panic, Harm::Abort, Harm::OutOfMemory, Harm::EndlessLoop, Harm::Undecodable];
    // On RabbitMQ what does not depend on the transport is left to the long variant.
    let harms = if on == On::RabbitMq && !in_full() { &harms[1..2] } else { &harms[..] };
    for harm in harms {
        let Some(field) = Field::open(on).await else { return };
        let neighbours = if in_full() { 2000 } else { 400 };
        let mut job = NewJob::of(&Poison { harm: *harm });
        if *harm == Harm::Undecodable {
            job.args = serde_json::json!({ "harm": "of another kind" });
        }
        let mut jobs = effects(neighbours, 2);
        jobs.insert(neighbours / 4, job);
        field.enqueue(&jobs).await;
        let spec = crate::worker::Spec { patient: false, places: 4, ..field.spec() };
        let start = || match harm {
            Harm::OutOfMemory => Worker::start_small(&spec, 3_000_000),
            _ => Worker::start(&spec),
        };
        // A supervisor, as a pod has one.
        let (mut worker, mut deaths) = (start(), 0);
        within(Duration::from_secs(120), "the end of it", || {
            if !worker.is_running() {
                deaths += 1;
                worker = start();
            }
            async {
                let left = "select count(*) from queue.jobs where state <> 'dead'";
                (field.count(left).await == 0).then_some(())
            }
        })
        .await;
        field.each_once(neighbours as i64).await;
        let claims = field.count("select attempt::bigint from queue.jobs where state = 'dead'").await;
        assert!(claims <= 5, "{claims} claims");
        let lost = field
            .count("select count(*) from queue.attempts a where outcome = 'lost' and job_id not in (select id from queue.jobs)")
            .await;
        let share = 100.0 * lost as f64 / neighbours as f64;
        assert!(share <= 5.0, "neighbours lost {lost} runs");
        report(
            "poison: dead after ≤ 5 claims, neighbours lose ≤ 5 %",
            &format!("{}: {harm:?} among {neighbours} jobs", on.name()),
            format!(
                "dead after {claims} claims, {deaths} processes died, {lost} runs of neighbours lost ({share:.1} %), none of them dead"
            ),
        );
    }
}
