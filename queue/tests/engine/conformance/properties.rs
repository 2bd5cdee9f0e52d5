//! The properties, each over all backends.

use super::backends::{Backend, InMemory, OnPostgres, OnRabbitMq, is_over};
use super::play::{End, play};
use super::runner;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use queue::admin::JobState;
use queue::{JobId, NewJob, Unique};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// Each of these on each backend.
macro_rules! on_each {
    ($($property:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $property() { super::$property::<super::InMemory>().await })* }
        mod postgres { $(#[tokio::test] async fn $property() { super::$property::<super::OnPostgres>().await })* }
        mod rabbitmq { $(#[tokio::test] async fn $property() { super::$property::<super::OnRabbitMq>().await })* }
    };
}

on_each!(
    nothing_is_lost_and_nothing_happens_twice,
    of_a_unique_key_there_is_one,
    ranks_are_the_order_of_a_tenant,
    tenants_take_turns,
    nobody_comes_back_too_early,
    a_paused_lane_starts_nothing,
);

/// Values of a strategy, as many as cases are asked for.
fn samples<T: std::fmt::Debug>(few: u32, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = runner(few);
    (0..super::cases(few)).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Done),
        3 => Just(End::Fail),
        1 => Just(End::Panic),
        1 => (1u64..40).prop_map(End::RetryIn),
        2 => (0u64..40).prop_map(End::Snooze),
        1 => Just(End::GiveUp),
        1 => Just(End::CancelItself),
    ]
}

fn job() -> impl Strategy<Value = (NewJob, Vec<End>)> {
    (vec(end(), 1..4), 0u128..3, -2i16..3, 0u64..60, 1i16..5).prop_map(
        |(ends, tenant, priority, delay, most)| {
            let mut job =
                play(&ends).priority(priority).max_attempts(most).after(Duration::from_millis(delay));
            if tenant > 0 {
                job = job.organization(Uuid::from_u128(tenant));
            }
            (job, ends)
        },
    )
}

/// What becomes of a job that loses no worker.
fn fate(ends: &[End], max_attempts: i16) -> JobState {
    for attempt in 0..max_attempts as usize {
        match ends.get(attempt).unwrap_or(&End::Done) {
            End::Done | End::Snooze(_) => return JobState::Done,
            End::GiveUp => return JobState::Dead,
            End::CancelItself => return JobState::Cancelled,
            End::Fail | End::Panic | End::RetryIn(_) => {}
        }
    }
    JobState::Dead
}

/// Random jobs, and workers that are killed meanwhile: each job ends, and as it should; no attempt is made beyond the limit, no run twice.
async fn nothing_is_lost_and_nothing_happens_twice<B: Backend>() {
    for (jobs, crashes, cancelled) in
        samples(2, (vec(job(), 20..60), 0usize..3, vec(any::<prop::sample::Index>(), 0..3)))
    {
        let Some(mut backend) = B::open().await else { return };
        backend.start(4).await;
        let mut made: Vec<(JobId, Vec<End>, i16)> = Vec::new();
        for (n, part) in jobs.chunks(jobs.len().div_ceil(crashes + 1)).enumerate() {
            let batch: Vec<NewJob> = part.iter().map(|(job, _)| job.clone()).collect();
            let ids = backend.enqueue(&batch).await;
            made.extend(
                ids.into_iter().zip(part).map(|(id, (job, ends))| (id, ends.clone(), job.max_attempts)),
            );
            if n < crashes {
                backend.start(4).await;
                backend.crash().await;
            }
        }
        let cancelled: HashSet<JobId> = cancelled.iter().map(|n| n.get(&made).0).collect();
        for id in &cancelled {
            backend.cancel(*id).await;
        }
        backend.settle().await;
        let seen: HashMap<JobId, _> = backend.jobs().await.into_iter().map(|job| (job.id, job)).collect();
        assert_eq!(backend.jobs().await.len(), made.len(), "each is there, and once");
        let log = backend.log().all();
        let runs: HashSet<_> = log.iter().map(|started| (started.job, started.run)).collect();
        assert_eq!(runs.len(), log.len(), "no run began twice");
        assert!(log.iter().all(|started| started.attempt <= started.max_attempts), "{log:?}");
        for (id, ends, most) in &made {
            let job = &seen[id];
            assert!(is_over(job) && job.attempt <= *most, "{job}");
            let runs: Vec<i16> = backend.log().of(*id).iter().map(|started| started.attempt).collect();
            assert!(runs.is_sorted(), "{job}: attempts {runs:?}");
            let lost = job.error.as_deref().is_some_and(|why| why.contains("worker was lost"));
            if !cancelled.contains(id) && crashes == 0 {
                assert_eq!(job.state, fate(ends, *most), "{job}: {ends:?}");
            } else if job.state == JobState::Dead && fate(ends, *most) == JobState::Done {
                // A crash took the attempt that would have been the last: the next one ended as it was told.
                let gave_up = ends.get(job.attempt as usize - 1) == Some(&End::GiveUp);
                assert!(lost || gave_up || job.attempt == *most, "{job}");
            }
        }
        backend.close().await;
    }
}

/// Whoever comes while one is there is answered that one, and of all those that are there at the same time each key has one.
async fn of_a_unique_key_there_is_one<B: Backend>() {
    for keys in samples(2, vec((0u8..3, any::<bool>()), 10..40)) {
        let Some(mut backend) = B::open().await else { return };
        let keyed =
            |key: u8| play(&[End::Fail]).unique(key.to_string(), Unique::WhileUnfinished).max_attempts(3);
        // Nobody works: one of each key.
        let jobs: Vec<NewJob> = keys.iter().map(|(key, _)| keyed(*key)).collect();
        let ids = backend.enqueue(&jobs).await;
        let mut first: HashMap<u8, JobId> = HashMap::new();
        for ((key, _), id) in keys.iter().zip(&ids) {
            assert_eq!(first.entry(*key).or_insert(*id), id);
        }
        assert_eq!(backend.jobs().await.len(), first.len());
        // While they run, fail and end, new ones come in.
        backend.start(4).await;
        for (key, pause) in &keys {
            if *pause {
                backend.settle().await;
            }
            backend.enqueue(&[keyed(*key)]).await;
            let mut there = HashSet::new();
            for job in backend.jobs().await.iter().filter(|job| !is_over(job)) {
                assert!(there.insert(job.unique_key.clone()), "two of {:?}", job.unique_key);
            }
        }
        backend.settle().await;
        assert!(backend.jobs().await.iter().all(|job| job.state == JobState::Done));
        backend.close().await;
    }
}

/// One place, one tenant: the more important goes first, and of the same importance the one that was first.
async fn ranks_are_the_order_of_a_tenant<B: Backend>() {
    for priorities in samples(2, vec(-3i16..4, 5..40)) {
        let Some(mut backend) = B::open().await else { return };
        let jobs: Vec<NewJob> = priorities.iter().map(|priority| play(&[]).priority(*priority)).collect();
        let ids = backend.enqueue(&jobs).await;
        backend.start(1).await;
        backend.settle().await;
        let mut wanted: Vec<usize> = (0..ids.len()).collect();
        wanted.sort_by_key(|n| (-priorities[*n], *n));
        let began: Vec<usize> = backend
            .log()
            .all()
            .iter()
            .map(|started| ids.iter().position(|id| *id == started.job).unwrap())
            .collect();
        assert_eq!(began, wanted, "{priorities:?}");
        backend.close().await;
    }
}

/// While several tenants wait, none gets ahead of another by more than a few starts, however long their lines are.
async fn tenants_take_turns<B: Backend>() {
    for lines in samples(2, vec(10usize..40, 2..4)) {
        let Some(mut backend) = B::open().await else { return };
        let mut jobs = Vec::new();
        for (tenant, line) in lines.iter().enumerate() {
            let organization = Uuid::from_u128(tenant as u128 + 1);
            jobs.extend((0..*line).map(|_| play(&[]).organization(organization)));
        }
        backend.enqueue(&jobs).await;
        backend.start(1).await;
        backend.settle().await;
        let mut served = vec![0usize; lines.len()];
        let log = backend.log().all();
        for started in &log {
            served[started.tenant.unwrap().as_u128() as usize - 1] += 1;
            let waiting: Vec<usize> = served
                .iter()
                .zip(&lines)
                .filter(|(served, line)| served < line)
                .map(|(served, _)| *served)
                .collect();
            let (least, most) = (waiting.iter().min(), waiting.iter().max());
            let apart = most.unwrap_or(&0) - least.unwrap_or(&0);
            assert!(apart <= B::UNFAIR, "{served:?} of {lines:?}: {log:#?}");
        }
        backend.close().await;
    }
}

/// A retry-after, a snooze and a delay are kept, and not by much more.
async fn nobody_comes_back_too_early<B: Backend>() {
    for waits in samples(2, vec(50u64..400, 2..8)) {
        let Some(mut backend) = B::open().await else { return };
        let mut ids = Vec::new();
        for (n, wait) in waits.iter().enumerate() {
            let end = if n % 2 == 0 { End::RetryIn(*wait) } else { End::Snooze(*wait) };
            ids.extend(backend.enqueue(&[play(&[end])]).await);
        }
        backend.start(4).await;
        backend.settle().await;
        for (id, wait) in ids.iter().zip(&waits) {
            let runs = backend.log().of(*id);
            assert_eq!(runs.len(), 2, "{runs:?}");
            let wait = Duration::from_millis(*wait);
            let due = (runs[1].due_at - runs[0].due_at).to_std().unwrap();
            assert!(due >= wait && due < wait + Duration::from_secs(10), "due after {due:?}, not {wait:?}");
            if B::REAL {
                let waited = runs[1].at - runs[0].at;
                assert!(
                    waited >= wait && waited < wait + Duration::from_secs(10),
                    "{waited:?}, not {wait:?}"
                );
            }
        }
        backend.close().await;
    }
}

/// What is enqueued into it waits until it is resumed.
async fn a_paused_lane_starts_nothing<B: Backend>() {
    let Some(mut backend) = B::open().await else { return };
    backend.pause(true).await;
    backend.start(4).await;
    let ids = backend.enqueue(&[play(&[]), play(&[])]).await;
    // A crash and a new worker are events enough for a claim that should not be made.
    backend.start(4).await;
    backend.crash().await;
    backend.cancel(ids[0]).await;
    assert!(backend.log().all().is_empty());
    backend.pause(false).await;
    backend.settle().await;
    let states: Vec<JobState> = backend.jobs().await.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Cancelled, JobState::Done]);
    assert_eq!(backend.log().all().len(), 1);
    backend.close().await;
}
