//! Postgres against the in-memory queue, step by step: the same random history on both, and after each step the same jobs in the same
//! states, the same claims in the same order, the same answers.

use super::play::{Log, play, registry};
use super::runner;
use crate::scripted::{Bench, LANE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use queue::admin::{self, AdminError, JobState};
use queue::testing::{Claimed, Ended, Memory, Seen, Worker, pass};
use queue::{JobError, JobId, JobResult, NewJob, Outcome, Unique};
use std::time::Duration;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than those who lost a worker are kept apart.
const APART: Duration = Duration::from_secs(17);
/// Not a whole number of hours: what is due in hours is never due at the very end of a step.
const STEP: Duration = Duration::from_secs(2 * 3600 + 60);

#[derive(Clone, Debug)]
struct Spec {
    tenant: u128,
    priority: i16,
    hours: u32,
    unique: Option<(u8, u8)>,
    window: Option<u32>,
    max_attempts: i16,
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(Vec<Spec>),
    Claim { worker: usize, room: usize },
    End { which: Index, how: u8, hours: u32 },
    Die { worker: usize },
    Cancel(Index),
    Retry(Index),
    Discard(Index),
    Pause(bool),
    Pass,
}

fn spec() -> impl Strategy<Value = Spec> {
    let unique = prop::option::weighted(0.4, (0u8..3, 0u8..4));
    let window = prop::option::weighted(0.2, 1u32..4);
    (0u128..4, -2i16..3, prop_oneof![3 => Just(0u32), 1 => 1u32..6], unique, window, 1i16..4).prop_map(
        |(tenant, priority, hours, unique, window, max_attempts)| Spec {
            tenant,
            priority,
            hours,
            unique,
            window,
            max_attempts,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>();
    prop_oneof![
        6 => vec(spec(), 1..6).prop_map(Step::Enqueue),
        6 => (0usize..2, 1usize..6).prop_map(|(worker, room)| Step::Claim { worker, room }),
        8 => (index.clone(), 0u8..7, 0u32..3).prop_map(|(which, how, hours)| Step::End { which, how, hours }),
        1 => (0usize..2).prop_map(|worker| Step::Die { worker }),
        2 => index.clone().prop_map(Step::Cancel),
        2 => index.clone().prop_map(Step::Retry),
        1 => index.prop_map(Step::Discard),
        1 => any::<bool>().prop_map(Step::Pause),
        2 => Just(Step::Pass),
    ]
}

impl Spec {
    fn job(&self) -> NewJob {
        let mut job = play(&[]).priority(self.priority).max_attempts(self.max_attempts);
        if self.tenant > 0 {
            job = job.organization(Uuid::from_u128(self.tenant));
        }
        if self.hours > 0 {
            job = job.after(HOUR * self.hours);
        }
        if let Some((key, states)) = self.unique {
            let states = match states {
                0 => Unique::WhileWaiting,
                1 => Unique::WhileUnfinished,
                2 => Unique::UntilOver,
                _ => Unique::Within(HOUR * 2),
            };
            job = job.unique(key.to_string(), states);
            if let Some(hours) = self.window {
                job = job.window(HOUR * hours);
            }
        }
        job
    }
}

fn answer(how: u8, hours: u32) -> JobResult {
    match how {
        0..=2 => Ok(Outcome::Done),
        3 => Ok(Outcome::Snooze(HOUR * hours)),
        // Not by the kind's backoff, whose jitter differs: `properties` sees to that.
        4 => Err(JobError::RetryIn(HOUR * hours, anyhow::anyhow!("again"))),
        5 => Err(JobError::GiveUp(anyhow::anyhow!("never"))),
        _ => Ok(Outcome::Cancelled("no need".into())),
    }
}

/// The answer of an order, without what differs: ids are named by the order in which jobs were made.
fn told<T: std::fmt::Debug>(answer: Result<T, AdminError>, names: &[JobId]) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(AdminError::KeyTaken { by }) => format!("taken by {:?}", names.iter().position(|id| *id == by)),
        Err(error) => error.to_string(),
    }
}

/// A job as both have to see it.
fn essence(job: &Seen, names: &[JobId]) -> String {
    let name = names.iter().position(|id| *id == job.id);
    let due = match job.state {
        // To the minute: the database's clock goes on while the test runs.
        JobState::Scheduled => format!("in {} min", (job.due_in.num_seconds() + 40) / 60),
        _ => String::new(),
    };
    format!(
        "{name:?} {} {due} tenant {:?} attempt {}/{} key {:?} error {:?}",
        job.state, job.organization, job.attempt, job.max_attempts, job.unique_key, job.error
    )
}

struct Both {
    bench: Bench,
    memory: Memory,
    on_postgres: [Worker<Log>; 2],
    in_memory: [Worker<Log>; 2],
    /// The same job in both, by the order in which they were made.
    names: (Vec<JobId>, Vec<JobId>),
    held: Vec<(Claimed, Claimed, usize)>,
}

impl Both {
    fn new(bench: Bench) -> Both {
        let memory = Memory::new();
        let on_postgres = || Worker::on(bench.pool(), registry(), Log::default());
        let in_memory = || Worker::in_memory(&memory, registry(), Log::default());
        Both {
            on_postgres: [on_postgres(), on_postgres()],
            in_memory: [in_memory(), in_memory()],
            names: Default::default(),
            held: Vec::new(),
            bench,
            memory,
        }
    }

    async fn take(&mut self, step: &Step) {
        let mut connection = self.bench.pool().acquire().await.unwrap();
        let pick = |index: &Index, names: &(Vec<JobId>, Vec<JobId>)| {
            (!names.0.is_empty()).then(|| {
                let n = index.index(names.0.len());
                (names.0[n], names.1[n])
            })
        };
        match step {
            Step::Enqueue(specs) => {
                let jobs: Vec<NewJob> = specs.iter().map(Spec::job).collect();
                for job in jobs {
                    let there = queue::enqueue(&mut connection, std::slice::from_ref(&job)).await.unwrap()[0];
                    let here = self.memory.enqueue(&[job])[0];
                    let known = self.names.0.iter().position(|id| *id == there);
                    assert_eq!(known, self.names.1.iter().position(|id| *id == here), "who has the key");
                    if known.is_none() {
                        self.names.0.push(there);
                        self.names.1.push(here);
                    }
                }
            }
            Step::Claim { worker, room } => {
                let there = self.on_postgres[*worker].claim(LANE, *room).await;
                let here = self.in_memory[*worker].claim(LANE, *room).await;
                let name = |names: &[JobId], claimed: &[Claimed]| -> Vec<_> {
                    claimed.iter().map(|c| (names.iter().position(|id| *id == c.id), c.attempt)).collect()
                };
                assert_eq!(
                    name(&self.names.0, &there),
                    name(&self.names.1, &here),
                    "who is claimed, in which order"
                );
                self.held.extend(there.into_iter().zip(here).map(|(there, here)| (there, here, *worker)));
            }
            Step::End { which, how, hours } if !self.held.is_empty() => {
                let (there, here, worker) = self.held.swap_remove(which.index(self.held.len()));
                let there = self.on_postgres[worker].end(there, answer(*how, *hours)).await;
                let here = self.in_memory[worker].end(here, answer(*how, *hours)).await;
                assert_eq!((there.attempt, there.end), (here.attempt, here.end));
            }
            Step::End { .. } => {}
            Step::Die { worker } => {
                self.on_postgres[*worker].die().await;
                self.in_memory[*worker].die().await;
                // What was lost again comes back after a few seconds, by chance.
                pass(&mut connection, APART).await.unwrap();
                self.memory.advance(APART);
            }
            Step::Cancel(index) | Step::Retry(index) | Step::Discard(index) => {
                let Some((there, here)) = pick(index, &self.names) else { return };
                let (a, b) = match step {
                    Step::Cancel(_) => (
                        told(
                            admin::cancel(&mut connection, there, None, &admin::Note::default()).await,
                            &self.names.0,
                        ),
                        told(self.memory.cancel(here), &self.names.1),
                    ),
                    Step::Retry(_) => (
                        told(
                            admin::retry(&mut connection, there, None, &admin::Note::default()).await,
                            &self.names.0,
                        ),
                        told(self.memory.retry(here), &self.names.1),
                    ),
                    _ => (
                        told(
                            admin::discard(&mut connection, there, None, &admin::Note::default()).await,
                            &self.names.0,
                        ),
                        told(self.memory.discard(here), &self.names.1),
                    ),
                };
                assert_eq!(a, b);
            }
            Step::Pause(true) => {
                admin::pause(&mut connection, LANE).await.unwrap();
                self.memory.pause(LANE);
            }
            Step::Pause(false) => {
                admin::resume(&mut connection, LANE).await.unwrap();
                self.memory.resume(LANE);
            }
            Step::Pass => {
                pass(&mut connection, STEP).await.unwrap();
                self.memory.advance(STEP);
            }
        }
    }

    async fn agree(&self, after: &Step) {
        let mut connection = self.bench.pool().acquire().await.unwrap();
        let there = queue::testing::jobs(&mut connection).await.unwrap();
        let mut there: Vec<String> = there.iter().map(|job| essence(job, &self.names.0)).collect();
        let mut here: Vec<String> =
            self.memory.jobs().iter().map(|job| essence(job, &self.names.1)).collect();
        there.sort_unstable();
        here.sort_unstable();
        assert_eq!(there, here, "after {after:?}: Postgres (left) and memory (right)");
    }

    /// In the end each job is over, with what is held ended late and time enough.
    async fn finish(&mut self) {
        let mut last = vec![Step::Pause(false), Step::Die { worker: 0 }, Step::Die { worker: 1 }];
        last.extend((0..4).map(|_| Step::Pass));
        for step in &last {
            self.take(step).await;
            self.agree(step).await;
        }
        for (there, here, worker) in std::mem::take(&mut self.held) {
            assert_eq!(self.on_postgres[worker].end(there, Ok(Outcome::Done)).await.end, Ended::Refused);
            assert_eq!(self.in_memory[worker].end(here, Ok(Outcome::Done)).await.end, Ended::Refused);
        }
        let there = self.on_postgres[0].drain().await.len();
        assert_eq!(there, self.in_memory[0].drain().await.len());
        self.agree(&Step::Pass).await;
        let left = self.memory.jobs().into_iter().find(|job| {
            matches!(job.state, JobState::Ready | JobState::Scheduled | JobState::Running | JobState::Limited)
        });
        assert!(left.is_none(), "left over: {left:?}");
    }
}

/// One database for all cases, since making one takes longer than a case.
#[test]
fn postgres_does_what_memory_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = std::cell::RefCell::new(Some(runtime.block_on(Bench::on_postgres())));
    let done = runner(12).run(&vec(step(), 1..60), |steps| {
        runtime.block_on(async {
            // A case that fails is tried again, smaller: each begins with nothing.
            let kept = bench.borrow_mut().take();
            let ours = match kept {
                Some(ours) => ours,
                None => Bench::on_postgres().await,
            };
            admin::know_lanes(&mut ours.pool().acquire().await.unwrap(), &[LANE]).await.unwrap();
            let mut both = Both::new(ours);
            for step in &steps {
                both.take(step).await;
                both.agree(step).await;
            }
            both.finish().await;
            both.bench.empty().await;
            *bench.borrow_mut() = Some(both.bench);
        });
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}
