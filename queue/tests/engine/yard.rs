//! Kinds of jobs with limits, and a gauge of how many run at once.

use crate::scripted::{Bench, LANE, Scripted, eventually};
use queue::{
    Backoff, Engine, EngineConfig, Job, JobId, JobResult, Limit, NewJob, Outcome, Registry, Run, Running,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What runs now, and what has been the most, by name.
#[derive(Clone, Default)]
pub struct Gauge(pub Arc<Mutex<HashMap<String, (usize, usize)>>>);

pub struct Inside(Gauge, Vec<String>);

impl Gauge {
    pub fn enter(&self, names: Vec<String>) -> Inside {
        let mut gauge = self.0.lock().unwrap();
        for name in &names {
            let (now, most) = gauge.entry(name.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        Inside(self.clone(), names)
    }

    pub fn most(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).map_or(0, |(_, most)| *most)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut gauge = self.0.0.lock().unwrap();
        self.1.iter().for_each(|name| gauge.get_mut(name).unwrap().0 -= 1);
    }
}

#[derive(Clone)]
pub struct World {
    pub gauge: Gauge,
    pub pool: PgPool,
    pub gate: Arc<tokio::sync::Semaphore>,
}

/// How it ends, the first time and afterwards.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub enum End {
    Done,
    Inside,
    RolledBack,
    Gate,
    Fail,
    Panic,
    Timeout,
    GiveUp,
    Snooze,
    CancelItself,
    UntilCancelled,
}

/// Three limits at once: eight in all, four of a tenant, two of a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fetch {
    pub key: String,
    pub end: End,
}
impl Job for Fetch {
    const KIND: &'static str = "fetch";
    const LANE: &'static str = LANE;
    const TIMEOUT: Duration = Duration::from_millis(1500);
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(5) };
    const LIMITS: &'static [Limit] =
        &[Limit::at_once(8), Limit::at_once(4).per_tenant(), Limit::at_once(2).per_key()];

    fn limit_key(&self) -> Option<String> {
        Some(self.key.clone())
    }
}

impl Run<World> for Fetch {
    async fn run(self, job: &Running, world: &World) -> JobResult {
        let tenant = format!("tenant {}", job.organization.unwrap_or_default());
        let inside = world.gauge.enter(vec!["all".to_owned(), tenant, format!("key {}", self.key)]);
        tokio::time::sleep(Duration::from_millis(2)).await;
        if job.attempt > 1 {
            return Ok(Outcome::Done);
        }
        match self.end {
            End::Done => Ok(Outcome::Done),
            End::Inside | End::RolledBack => {
                let mut tx = world.pool.begin().await?;
                job.complete_in(&mut tx).await?;
                drop(inside); // its end is the commit
                if self.end == End::Inside {
                    tx.commit().await?
                } else {
                    tx.rollback().await?
                }
                Ok(Outcome::Done)
            }
            End::Gate => {
                world.gate.acquire().await?.forget();
                Ok(Outcome::Done)
            }
            End::Fail => Err(anyhow::anyhow!("once").into()),
            End::Panic => panic!("once"),
            End::Timeout => std::future::pending().await,
            End::GiveUp => Err(queue::JobError::GiveUp(anyhow::anyhow!("never"))),
            End::Snooze if world.gauge.most(&job.id.to_string()) == 0 => {
                drop(world.gauge.enter(vec![job.id.to_string()]));
                Ok(Outcome::Snooze(Duration::from_millis(5)))
            }
            End::Snooze => Ok(Outcome::Done),
            End::CancelItself => Ok(Outcome::Cancelled("by itself".into())),
            End::UntilCancelled => {
                job.cancelled().await;
                Err(anyhow::anyhow!("told to").into())
            }
        }
    }
}

/// A bucket of three tokens, one more each thousand seconds: the clock is moved, nobody waits.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    pub key: String,
}
impl Job for Call {
    const KIND: &'static str = "call";
    const LANE: &'static str = LANE;
    const LIMITS: &'static [Limit] = &[Limit::rate(1, Duration::from_secs(1000)).burst(3).per_key()];

    fn limit_key(&self) -> Option<String> {
        Some(self.key.clone())
    }
}
impl Run<World> for Call {
    async fn run(self, _: &Running, _: &World) -> JobResult {
        Ok(Outcome::Done)
    }
}

/// One at a time, whoever it belongs to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Alone {}
impl Job for Alone {
    const KIND: &'static str = "alone";
    const LANE: &'static str = LANE;
    const LIMITS: &'static [Limit] = &[Limit::at_once(1)];
}
impl Run<World> for Alone {
    async fn run(self, _: &Running, world: &World) -> JobResult {
        let _inside = world.gauge.enter(vec!["alone".to_owned()]);
        tokio::task::yield_now().await;
        Ok(Outcome::Done)
    }
}

impl Run<World> for Scripted {
    async fn run(self, _: &Running, world: &World) -> JobResult {
        let _inside = world.gauge.enter(vec!["lane".to_owned()]);
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(Outcome::Done)
    }
}

pub struct Yard {
    pub bench: Bench,
    pub world: World,
}

impl Yard {
    pub async fn new() -> Yard {
        let bench = Bench::new().await;
        let world = World {
            gauge: Gauge::default(),
            pool: bench.pool().clone(),
            gate: Arc::new(tokio::sync::Semaphore::new(0)),
        };
        Yard { bench, world }
    }

    pub fn registry() -> Registry<World> {
        Registry::new().job::<Fetch>().job::<Call>().job::<Alone>().job::<Scripted>()
    }

    pub fn start_with(&self, config: EngineConfig) -> Engine {
        let pool = self.bench.db.another_pool().pool().clone();
        Engine::start(&pool, Yard::registry(), World { pool: pool.clone(), ..self.world.clone() }, config)
    }

    pub fn start(&self, concurrency: usize) -> Engine {
        self.start_places(concurrency, Bench::patient())
    }

    /// Its jobs are taken back soon after it was heard of last.
    pub fn start_mortal(&self, concurrency: usize) -> Engine {
        self.start_places(concurrency, Bench::config())
    }

    fn start_places(&self, concurrency: usize, mut config: EngineConfig) -> Engine {
        config.lanes[0].concurrency = concurrency;
        self.start_with(config)
    }

    pub async fn fetch(&self, key: &str, end: End) -> JobId {
        self.bench.enqueue(NewJob::of(&Fetch { key: key.to_owned(), end })).await
    }

    pub async fn enqueue_all(&self, jobs: &[NewJob]) {
        let mut tx = self.bench.pool().begin().await.unwrap();
        queue::enqueue(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Waits until no job is left, and looks at the books all the time: in one snapshot no permit is without its running
    /// job, and no slot holds more than it may.
    pub async fn work_off(&self) {
        eventually("all jobs to be over", || async {
            let wrong = self
                .bench
                .count(
                    "select (select count(*) from queue.permits p where not exists (select from queue.jobs j \
                               where j.id = p.job_id and j.run = p.run and j.worker is not null)) \
                          + (select count(*) from (select slot, count(*) as held from queue.permits group by slot) h \
                             join queue.slots s on s.name = h.slot join queue.limits l on l.name = s.limit_name \
                             where h.held > coalesce(l.set_at_once, l.at_once))",
                )
                .await;
            assert_eq!(wrong, 0, "permits without a job, or too many");
            (self.bench.count("select count(*) from queue.jobs where state <> 'dead'").await == 0).then_some(())
        })
        .await;
        assert_eq!(self.permits().await, 0, "nothing runs, nothing is held");
    }

    /// See `at_rest_the_books_are_exact_and_no_place_is_wasted`. Looked at in one snapshot.
    pub async fn comes_to_rest(&self) {
        eventually("exact books and no place wasted", || async {
            let wrong = self
                .bench
                .count(
                    "with slot as ( \
                       select j.id, j.run, j.worker, s.name, s.most from queue.jobs j cross join lateral (values \
                         ('fetch', 8), ('fetch/tenant:' || j.organization_id, 4), ('fetch/key:' || j.limit_key, 2)) s(name, most)), \
                     held as (select slot, count(*) as held from queue.permits group by slot) \
                     select (select count(*) from slot full join queue.permits p \
                               on p.slot = slot.name and p.job_id = slot.id and p.run = slot.run and slot.worker is not null \
                             where (slot.worker is not null and p.slot is null) or slot.id is null) \
                          + (select count(*) from slot join held on held.slot = slot.name where held > most) \
                          + (select count(*) from queue.jobs j where j.worker is null and not exists ( \
                               select from slot join held on held.slot = slot.name where slot.id = j.id and held >= most))",
                )
                .await;
            (wrong == 0).then_some(())
        })
        .await;
    }

    pub async fn forget_jobs(&self) {
        sqlx::query("delete from queue.jobs").execute(&mut self.bench.db.owner().await).await.unwrap();
    }

    pub async fn permits(&self) -> i64 {
        self.bench.count("select count(*) from queue.permits").await
    }

    pub async fn limited(&self) -> i64 {
        self.bench.count("select count(*) from queue.jobs where state = 'limited'").await
    }
}
