//! The places for jobs, behind one face.

use super::play::{Log, registry};
use crate::scripted::{Bench, LANE, eventually};
use queue::admin::{self, JobState};
use queue::testing::{Memory, Seen, Worker};
use queue::{Engine, EngineConfig, JobId, NewJob};
use std::time::Duration;

pub trait Backend: Sized {
    /// Where time is that of the wall.
    const REAL: bool;
    /// By how many starts two tenants with equal weights may differ while both wait.
    const UNFAIR: usize;

    /// `None` where it cannot be had.
    async fn open() -> Option<Self>;
    fn log(&self) -> &Log;
    async fn enqueue(&self, jobs: &[NewJob]) -> Vec<JobId>;
    /// Starts a worker with so many places.
    async fn start(&mut self, places: usize);
    /// Kills the worker that was started first, in the middle of what it does.
    async fn crash(&mut self);
    async fn pause(&self, yes: bool);
    async fn cancel(&self, id: JobId);
    /// Until nothing is left to be done, now or later.
    async fn settle(&mut self);
    async fn jobs(&self) -> Vec<Seen>;
    async fn close(self);
}

pub fn is_over(job: &Seen) -> bool {
    matches!(job.state, JobState::Done | JobState::Dead | JobState::Cancelled)
}

pub struct InMemory {
    memory: Memory,
    workers: Vec<Worker<Log>>,
    log: Log,
}

impl Backend for InMemory {
    const REAL: bool = false;
    const UNFAIR: usize = 2;

    async fn open() -> Option<Self> {
        Some(InMemory { memory: Memory::new(), workers: Vec::new(), log: Log::default() })
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Vec<JobId> {
        self.memory.enqueue(jobs)
    }

    async fn start(&mut self, _: usize) {
        self.workers.push(Worker::in_memory(&self.memory, registry(), self.log.clone()));
    }

    async fn crash(&mut self) {
        let mut worker = self.workers.remove(0);
        let held = worker.claim(LANE, 3).await;
        worker.die().await;
        for claimed in held {
            let late = worker.run(claimed).await;
            assert_eq!(late.end, queue::testing::Ended::Refused);
        }
    }

    async fn pause(&self, yes: bool) {
        if yes { self.memory.pause(LANE) } else { self.memory.resume(LANE) }
    }

    async fn cancel(&self, id: JobId) {
        let _ = self.memory.cancel(id); // it may be over
    }

    async fn settle(&mut self) {
        loop {
            self.workers[0].drain().await;
            let waits =
                self.memory.jobs().into_iter().filter(|job| !is_over(job)).map(|job| job.due_in).min();
            let Some(next) = waits else { return };
            self.memory.advance(next.to_std().unwrap_or_default() + Duration::from_millis(1));
        }
    }

    async fn jobs(&self) -> Vec<Seen> {
        self.memory.jobs()
    }

    async fn close(self) {}
}

/// With lanes on Postgres or on RabbitMQ.
pub struct OnServers {
    bench: Bench,
    engines: Vec<Engine>,
    log: Log,
}

impl OnServers {
    fn at(bench: Bench) -> OnServers {
        OnServers { bench, engines: Vec::new(), log: Log::default() }
    }
}

macro_rules! on_servers {
    ($name:ident, $unfair:literal, $bench:expr) => {
        pub struct $name(OnServers);

        impl Backend for $name {
            const REAL: bool = true;
            const UNFAIR: usize = $unfair;

            async fn open() -> Option<Self> {
                let bench: Option<Bench> = $bench.await;
                Some($name(OnServers::at(bench?)))
            }
            fn log(&self) -> &Log {
                &self.0.log
            }
            async fn enqueue(&self, jobs: &[NewJob]) -> Vec<JobId> {
                self.0.enqueue(jobs).await
            }
            async fn start(&mut self, places: usize) {
                self.0.start(places)
            }
            async fn crash(&mut self) {
                self.0.engines.remove(0).abort()
            }
            async fn pause(&self, yes: bool) {
                self.0.pause(yes).await
            }
            async fn cancel(&self, id: JobId) {
                let mut connection = self.0.bench.pool().acquire().await.unwrap();
                let _ = admin::cancel(&mut connection, id, None, &admin::Note::default()).await; // it may be over
            }
            async fn settle(&mut self) {
                self.0.settle().await
            }
            async fn jobs(&self) -> Vec<Seen> {
                self.0.jobs().await
            }
            async fn close(self) {
                for engine in self.0.engines {
                    engine.shutdown(Duration::from_secs(2)).await;
                }
            }
        }
    };
}

on_servers!(OnPostgres, 4, async { Some(Bench::on_postgres().await) });
// What lies in the broker already is mixed in proportion to the lines, not by turns.
on_servers!(OnRabbitMq, 30, async {
    let broker = testkit::broker().await?;
    Some(Bench::on(&broker).await)
});

impl OnServers {
    async fn enqueue(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let mut tx = self.bench.pool().begin().await.unwrap();
        let ids = queue::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
        ids
    }

    fn start(&mut self, places: usize) {
        let mut config: EngineConfig = Bench::config();
        config.lanes[0].concurrency = places;
        let pool = self.bench.db.another_pool().pool().clone();
        self.engines.push(Engine::start(&pool, registry(), self.log.clone(), config));
    }

    async fn pause(&self, yes: bool) {
        let mut connection = self.bench.pool().acquire().await.unwrap();
        admin::know_lanes(&mut connection, &[LANE]).await.unwrap();
        if yes {
            admin::pause(&mut connection, LANE).await.unwrap();
        } else {
            admin::resume(&mut connection, LANE).await.unwrap();
        }
    }

    async fn settle(&self) {
        eventually("all jobs to be over", || async {
            let left = self.bench.count("select count(*) from queue.jobs where state <> 'dead'").await;
            (left == 0).then_some(())
        })
        .await;
    }

    async fn jobs(&self) -> Vec<Seen> {
        queue::testing::jobs(&mut self.bench.db.owner().await).await.unwrap()
    }
}
