//! The engine: lanes of workers on apalis' runtime, and the background tasks that feed them.

use crate::backend::{HandOver, LaneBackend};
use crate::claim::Envelope;
use crate::claimer::{Claimer, give_back};
use crate::completer::{Command, Completer};
use crate::config::EngineConfig;
use crate::heart::{Heart, Incarnation};
use crate::held::{Held, Stop};
use crate::keys::KeyRing;
use crate::leader::{self, Leader};
use crate::listener::{self, Wakers};
use crate::news::News;
use crate::plumbing::Plumbing;
use crate::registry::Registry;
use crate::retention::Retentions;
use crate::runner::Runner;
use crate::transport::consumer::Consumer;
use crate::transport::link::Broker;
use crate::transport::relay::Relay;
use crate::transport::{Head, Transport};
use apalis_core::worker::builder::WorkerBuilder;
use futures::FutureExt;
use sqlx::PgPool;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

/// A running engine. Call [`Engine::shutdown`]; dropped without it, its jobs run again when their lease ends.
#[derive(Debug)]
pub struct Engine {
    incarnation: Arc<Incarnation>,
    held: Arc<Held>,
    hand_overs: Vec<HandOver>,
    lanes: Vec<JoinHandle<()>>,
    claimers: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    heart: Vec<JoinHandle<()>>,
    completions: mpsc::Sender<Command>,
    plumbing: Plumbing,
    heart_plumbing: Plumbing,
    broker: Option<(Arc<Broker>, Plumbing)>,
    leading: Arc<AtomicBool>,
    /// A background task ended that should not have.
    broken: CancellationToken,
    /// Claims no more.
    stop_claiming: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
}

impl Engine {
    /// Starts to work on the lanes of `config` with the kinds of `registry`. `pool` only tells where the database is: the
    /// engine keeps connections of its own (six, one for the heartbeat, one that listens). Returns at once, also while
    /// the database is away.
    pub fn start<S: Send + Sync + 'static>(
        pool: &PgPool,
        registry: Registry<S>,
        shared: S,
        config: EngineConfig,
    ) -> Engine {
        let options = pool.connect_options().as_ref().clone();
        let plumbing = Plumbing::new(&options, 6);
        let heart_plumbing = Plumbing::new(&options, 1);
        let (config, registry) = (Arc::new(config), Arc::new(registry));
        let kinds: Arc<[&'static str]> = registry.kinds().into();
        let limits = Arc::new(registry.limits());
        let (stop_claiming, stop) = (CancellationToken::new(), CancellationToken::new());
        let broken = CancellationToken::new();
        let watch = Watch { broken: broken.clone(), stopping: stop_claiming.clone() };
        let incarnation = Arc::new(Incarnation::new());
        let names: Vec<String> = config.lanes.iter().map(|lane| lane.name.clone()).collect();
        let held = Arc::new(Held::of(&names));
        let leading = Arc::new(AtomicBool::new(false));
        let (completions, receiver) = mpsc::channel(4096);
        let news = Arc::new(News::default());
        let runner = Arc::new(Runner {
            registry: registry.clone(),
            shared: Arc::new(shared),
            held: held.clone(),
            cancel_grace: config.cancel_grace,
            keys: config.keys.clone().unwrap_or_else(KeyRing::installed),
            give_back: config.give_back,
            news: Some(news.clone()),
        });

        let heart_wake = Arc::new(Notify::new());
        let (pulse, _) = watch::channel(true);
        let wakers = Arc::new(Wakers {
            near: config.bell.as_ref().map(|bell| bell.by().to_owned()),
            lanes: names.iter().map(|name| (name.clone(), Arc::default())).collect(),
            heart: heart_wake.clone(),
        });
        if let Some(bell) = &config.bell {
            bell.hear(&wakers);
        }
        let broker = config.broker.clone().map(|broker| {
            let broker = Arc::new(Broker::new(broker, &config.name, &heart_wake));
            (broker, Plumbing::relaxed(&options, 2))
        });
        let (mut lanes, mut claimers, mut hand_overs) = (Vec::new(), Vec::new(), Vec::new());
        for lane in &config.lanes {
            let hand_over = HandOver::default();
            let claimer = Claimer {
                lane: lane.name.clone(),
                concurrency: lane.concurrency,
                kinds: kinds.clone(),
                limits: limits.clone(),
                clock_shift: config.clock.handle(),
                plumbing: plumbing.clone(),
                incarnation: incarnation.clone(),
                held: held.clone(),
                wake: wakers.lanes[&lane.name].clone(),
                hand_over: hand_over.clone(),
                stop: stop_claiming.clone(),
            };
            match (&broker, lane.transport) {
                (Some((broker, relaxed)), Transport::Rabbitmq) => {
                    let head = Arc::new(Head::default());
                    let relay = Relay {
                        lane: lane.name.clone(),
                        concurrency: lane.concurrency,
                        broker: broker.clone(),
                        plumbing: relaxed.clone(),
                        wake: claimer.wake.clone(),
                        head: head.clone(),
                        stop: stop_claiming.clone(),
                    };
                    let pulse = pulse.subscribe();
                    let consumer = Consumer { claimer, broker: broker.clone(), head, pulse };
                    claimers.push(watch.spawn("a consumer", consumer.run()));
                    claimers.push(watch.spawn("a relay", relay.run()));
                }
                _ => claimers.push(watch.spawn("a claimer", claimer.run())),
            }
            let worker = work(lane.name.clone(), hand_over.clone(), runner.clone(), completions.clone());
            lanes.push(watch.spawn("a lane", worker));
            hand_overs.push(hand_over);
        }

        let completer = Completer {
            receiver,
            held: held.clone(),
            plumbing: plumbing.clone(),
            clock_shift: config.clock.handle(),
            stop: stop.clone(),
        };
        let poll = listener::poll(
            plumbing.clone(),
            names.clone(),
            kinds,
            wakers.clone(),
            config.poll,
            stop_claiming.clone(),
        );
        let retentions = Retentions::of(&registry);
        let follow = retentions.clone().follow(plumbing.clone(), config.beat, stop.clone());
        let mut background = vec![
            watch.spawn("the follower of retentions", follow),
            watch.spawn("the completer", completer.run()),
            watch.spawn("the listener", listener::listen(options, wakers.clone(), stop.clone())),
            watch.spawn("the poll", poll),
            watch.spawn("the news", news.run(plumbing.clone(), stop.clone())),
        ];
        if config.may_lead {
            let leader = Leader {
                id: Uuid::now_v7(),
                config: config.clone(),
                plumbing: plumbing.clone(),
                built_in: Arc::new(registry.schedules().to_vec()),
                leading: leading.clone(),
                stop: stop_claiming.clone(),
            };
            background.push(watch.spawn("the leader", leader.run()));
            for duty in leader::duties() {
                let duty = duty.run(plumbing.clone(), config.clone(), leading.clone(), stop_claiming.clone());
                background.push(watch.spawn("a duty of the leader", duty));
            }
        }
        let heart = Heart {
            name: config.name.clone(),
            lanes: config.lanes.clone(),
            limits: limits.declared().into(),
            retentions: retentions.clone(),
            broker: broker.as_ref().map(|(broker, _)| broker.clone()),
            lease: config.lease,
            beat: config.beat,
            plumbing: heart_plumbing.clone(),
            incarnation: incarnation.clone(),
            held: held.clone(),
            wake: heart_wake,
            pulse,
            registered: wakers.lanes.values().cloned().collect(),
            stop: stop.clone(),
        };
        let heart = vec![watch.spawn("the heartbeat", heart.run())];
        Engine {
            incarnation,
            held,
            hand_overs,
            lanes,
            claimers,
            background,
            heart,
            completions,
            plumbing,
            heart_plumbing,
            broker,
            leading,
            broken,
            stop_claiming,
            stop,
        }
    }

    /// Resolves when one of the engine's own tasks has ended though nobody stopped it: a defect. The process should end, and
    /// its supervisor start another; half an engine looks alive and is not.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Who this process is in `queue.workers` at the moment.
    pub fn worker_id(&self) -> Uuid {
        self.incarnation.current()
    }

    /// Jobs that run now.
    pub fn running(&self) -> usize {
        self.held.running()
    }

    pub fn is_leading(&self) -> bool {
        self.leading.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Stops: claims no more, gives back what it has not started (without counting an attempt), lets running jobs end for
    /// `grace`, then tells them to stop and hands them back, writes what is to be written. Takes `grace` plus a few
    /// seconds at most, whatever the database does.
    pub async fn shutdown(mut self, grace: Duration) {
        let started = Instant::now();
        self.stop_claiming.cancel();
        let claimers = futures::future::join_all(self.claimers.iter_mut());
        if tokio::time::timeout(Duration::from_secs(3), claimers).await.is_err() {
            self.claimers.iter().for_each(JoinHandle::abort);
        }
        let unstarted: Vec<Envelope> = self.hand_overs.iter().flat_map(HandOver::close).collect();
        if !unstarted.is_empty() {
            let _ = tokio::time::timeout(Duration::from_secs(3), give_back(&self.plumbing, &unstarted)).await;
        }
        let mut lanes = futures::future::join_all(self.lanes.drain(..));
        if tokio::time::timeout(grace, &mut lanes).await.is_err() {
            warn!(jobs = self.held.running(), "grace time is over; running jobs are handed back");
            self.held.stop_all(Stop::Shutdown);
            let _ = tokio::time::timeout(Duration::from_secs(2), lanes).await;
        }
        let (answer, flushed) = oneshot::channel();
        let flush = async {
            if self.completions.send(Command::Flush(answer)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(3), flush).await.is_err() {
            warn!("the database did not take the last completions; those jobs run again");
        }
        // The heartbeat goes on until here, so that nobody takes over what is still being written.
        self.stop.cancel();
        for task in self.heart.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
        drop(self.completions);
        let sign_off = Heart::sign_off(&self.heart_plumbing, self.incarnation.current());
        let _ = tokio::time::timeout(Duration::from_secs(2), sign_off).await;
        for mut task in self.background.drain(..) {
            if tokio::time::timeout(Duration::from_millis(500), &mut task).await.is_err() {
                task.abort();
            }
        }
        if let Some((broker, relaxed)) = self.broker {
            // Somebody may be connecting and hold what is to be closed.
            let _ = tokio::time::timeout(Duration::from_secs(2), broker.close()).await;
            relaxed.close().await;
        }
        self.heart_plumbing.close().await;
        self.plumbing.close().await;
        info!(took_ms = started.elapsed().as_millis() as u64, "job engine stopped");
    }

    /// Ends like a killed process: nothing is completed, given back or signed off. For tests of rescue.
    pub fn abort(self) {
        for task in self.lanes.iter().chain(&self.claimers).chain(&self.background).chain(&self.heart) {
            task.abort();
        }
        self.held.stop_all(Stop::Lost);
    }
}

/// Notes when a background task ends before its time.
struct Watch {
    broken: CancellationToken,
    stopping: CancellationToken,
}

impl Watch {
    fn spawn(&self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let (broken, stopping) = (self.broken.clone(), self.stopping.clone());
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if !stopping.is_cancelled() {
                error!(panicked = ended.is_err(), "{what} of the job engine ended; the engine cannot go on");
                broken.cancel();
            }
        })
    }
}

/// One lane's worker, until its hand-over is closed and what it started has ended.
async fn work<S: Send + Sync + 'static>(
    lane: String,
    hand_over: HandOver,
    runner: Arc<Runner<S>>,
    completions: mpsc::Sender<Command>,
) {
    let handler = move |envelope: Box<Envelope>| {
        let (runner, completions) = (runner.clone(), completions.clone());
        async move {
            if let Some(completion) = runner.run(&envelope).await {
                // The permit goes with the envelope, after the completer took over: its pace holds back the claims.
                let _ = completions.send(Command::Complete(Box::new(completion))).await;
            }
        }
    };
    let worker = WorkerBuilder::new(lane.as_str()).backend(LaneBackend { hand_over }).build(handler);
    if let Err(error) = worker.run().await {
        // Cannot happen: the backend is infallible and the handler answers nothing.
        tracing::error!(%error, lane, "the lane's worker ended");
    }
}
