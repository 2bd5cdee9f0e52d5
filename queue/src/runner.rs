//! Runs one claimed job and says how it ended.

use crate::claim::Envelope;
use crate::completer::{Completion, End, Failure};
use crate::config::EngineConfig;
use crate::held::{Held, Stop, StopSign};
use crate::keys::KeyRing;
use crate::news::{News, Voice};
use crate::payload::{Payload, Secrets, Unreadable};
use crate::plumbing::jittered;
use crate::registry::{Kind, Registry};
use crate::running::Running;
use crate::trace::{self, TraceContext};
use crate::{JobError, JobId, JobResult, Outcome, metrics};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;

/// Error texts are kept up to this many characters.
const ERROR_LIMIT: usize = 4000;

pub(crate) struct Runner<S> {
    pub registry: Arc<Registry<S>>,
    pub shared: Arc<S>,
    pub held: Arc<Held>,
    pub cancel_grace: Duration,
    pub keys: KeyRing,
    /// For how long a job that others can read is left to them.
    pub give_back: Duration,
    /// Where its jobs say how far they are, if anywhere.
    pub news: Option<Arc<News>>,
}

impl<S: Send + Sync + 'static> Runner<S> {
    /// For who runs jobs in its own task, as an engine with the usual settings would.
    pub fn without_engine(registry: Registry<S>, shared: S) -> Self {
        let EngineConfig { cancel_grace, give_back, .. } = EngineConfig::default();
        Runner {
            registry: Arc::new(registry),
            shared: Arc::new(shared),
            held: Arc::default(),
            cancel_grace,
            keys: KeyRing::installed(),
            give_back,
            news: None,
        }
    }

    /// `None` for a kind that this process does not know (its claims never ask for one).
    pub async fn run(&self, envelope: &Envelope) -> Option<Completion> {
        let kind = self.registry.get(&envelope.kind)?.clone();
        let context =
            match envelope.trace_parent.as_deref().and_then(|parent| parent.parse::<TraceContext>().ok()) {
                Some(parent) => parent.child(),
                None => TraceContext::new_root(),
            };
        let span = tracing::info_span!(
            "job",
            job.id = %envelope.id,
            job.kind = %envelope.kind,
            attempt = envelope.attempt,
            trace_id = %context.trace_id_hex(),
        );
        let sign = &envelope.sign;
        let running = Running {
            id: JobId(envelope.id),
            run: envelope.run,
            kind: envelope.kind.clone(),
            lane: envelope.lane.clone(),
            organization: envelope.organization,
            attempt: envelope.attempt,
            max_attempts: envelope.max_attempts,
            due_at: envelope.due_at,
            trace_parent: Some(context.to_string()),
            worker: envelope.worker,
            rank: envelope.rank,
            cancelled: sign.token.clone(),
            retention: kind.retention.get(),
            slots: envelope.slots.clone(),
            is_member: envelope.is_member,
            awaited: envelope.awaited,
            keys: self.keys.clone(),
            secrets: OnceLock::new(),
            completed: AtomicBool::new(false),
            went_along: AtomicU64::new(0),
            voice: Voice::to(self.news.as_ref()),
        };
        let running = Arc::new(running);
        let guard = self.held.run(&envelope.lane);
        let started = Instant::now();
        let end = match sign.why() {
            Stop::No => {
                let end =
                    self.execute(&kind, envelope, running.clone(), context).instrument(span.clone()).await;
                settle(end, &running)
            }
            Stop::Cancelled => End::Cancelled { why: "cancelled before it began".to_owned() },
            Stop::Lost | Stop::Shutdown => End::Interrupted,
        };
        drop(guard);
        let has_result = matches!(end, End::Done { result: Some(_) });
        running.voice.fall_silent(&running, has_result).await;
        let end = last_word(end, envelope, sign, running.completed.load(Ordering::Acquire));
        metrics::DURATION.with_label_values(&[kind.name]).observe(started.elapsed().as_secs_f64());
        metrics::ATTEMPTS.with_label_values(&[kind.name, end.name()]).inc();
        if matches!(end, End::DoneInside { .. }) {
            let along = running.went_along.load(Ordering::Acquire);
            metrics::ATTEMPTS.with_label_values(&[kind.name, end.name()]).inc_by(along);
        }
        span.in_scope(|| log(&end, started.elapsed()));
        Some(completion(&kind, envelope, end))
    }

    /// What becomes of a run whose handler answers this. `None` as for [`Runner::run`].
    pub fn answered(&self, envelope: &Envelope, answer: JobResult) -> Option<Completion> {
        let kind = self.registry.get(&envelope.kind)?;
        let mut end = self.judge(kind, envelope, &Secrets::default(), answer);
        tidy(&mut end, None);
        let end = last_word(end, envelope, &envelope.sign, false);
        Some(completion(kind, envelope, end))
    }

    async fn execute(
        &self,
        kind: &Arc<Kind<S>>,
        envelope: &Envelope,
        running: Arc<Running>,
        context: TraceContext,
    ) -> End {
        let (sign, seen) = (&envelope.sign, running.clone());
        let (kind_, shared, keys) = (kind.clone(), self.shared.clone(), self.keys.clone());
        let registry = self.registry.clone();
        let (id, args) = (envelope.id, envelope.args.clone());
        let (version, key) = (envelope.args_version, envelope.args_key.clone());
        // In a task of its own: a panic stays there, and a handler that never yields can be left behind.
        let work = async move {
            let payload = Payload { id, kind: kind_.name, args: &args, version, key: key.as_deref() };
            match kind_.handler.run(payload, &keys, &running, &shared) {
                Ok(work) => Ok(registry.wrap(&running, work).await),
                Err(error) => Err(error),
            }
        };
        let mut task = tokio::spawn(trace::scope(context, work).in_current_span());
        let stopped = async {
            sign.token.cancelled().await;
            // Losing the lease leaves no time: somebody else may be at it.
            let grace =
                if sign.why() == Stop::Cancelled { self.cancel_grace } else { Duration::from_millis(500) };
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            result = &mut task => match result {
                Ok(Ok(result)) => self.judge(kind, envelope, seen.secrets.get().unwrap_or(&Secrets::default()), result),
                Ok(Err(Unreadable::Here(why))) => End::GivenBack { delay: jittered(self.give_back), why },
                Ok(Err(error)) => End::Dead { failure: Failure::Undecodable, error: error.to_string() },
                Err(_) if envelope.args_key.is_some() && seen.secrets.get().is_none() => {
                    // What it would say is not known to be free of them.
                    self.failed(kind, envelope, Failure::Panicked, "panicked before its arguments were opened".to_owned(), None)
                }
                Err(error) => self.failed(kind, envelope, Failure::Panicked, panic_text(error), None),
            },
            () = tokio::time::sleep(kind.timeout) => {
                abandon(&task);
                self.failed(kind, envelope, Failure::Timeout, format!("not finished within {:?}", kind.timeout), None)
            }
            () = stopped => {
                abandon(&task);
                if matches!(sign.why(), Stop::Shutdown | Stop::Lost) {
                    // Not the job's fault: it does not count as an attempt.
                    return End::Interrupted;
                }
                self.failed(kind, envelope, Failure::Failed, "told to stop, and did not".to_owned(), None)
            }
        }
    }

    fn judge(&self, kind: &Kind<S>, envelope: &Envelope, secrets: &Secrets, result: JobResult) -> End {
        match result {
            Ok(Outcome::Done) => End::Done { result: None },
            Ok(Outcome::DoneWith(result)) => {
                End::Done { result: Some(secrets.taken_out_of_json(&result).to_string()) }
            }
            Ok(Outcome::Then(next)) => {
                let last_attempt = envelope.attempt >= envelope.max_attempts;
                End::Then { next, last_attempt }
            }
            Ok(Outcome::Snooze(delay)) => End::Snooze { delay },
            Ok(Outcome::Cancelled(why)) => End::Cancelled { why },
            Err(JobError::Retry(error)) => {
                self.failed(kind, envelope, Failure::Failed, format!("{error:#}"), None)
            }
            Err(JobError::RetryIn(delay, error)) => {
                self.failed(kind, envelope, Failure::Failed, format!("{error:#}"), Some(delay))
            }
            Err(JobError::GiveUp(error)) => {
                End::Dead { failure: Failure::GaveUp, error: format!("{error:#}") }
            }
        }
    }

    fn failed(
        &self,
        kind: &Kind<S>,
        envelope: &Envelope,
        failure: Failure,
        error: String,
        wait: Option<Duration>,
    ) -> End {
        if envelope.attempt >= envelope.max_attempts {
            return End::Dead { failure, error };
        }
        let delay = wait.unwrap_or_else(|| kind.backoff.delay(envelope.attempt, rand::random()));
        End::Retry { delay, failure, error }
    }
}

fn completion<S>(kind: &Kind<S>, envelope: &Envelope, end: End) -> Completion {
    Completion {
        id: envelope.id,
        run: envelope.run,
        worker: envelope.worker,
        attempt: envelope.attempt,
        organization: envelope.organization,
        claimed_at: envelope.claimed_at,
        retention: kind.retention.get(),
        slots: envelope.slots.clone(),
        is_member: envelope.is_member,
        end,
    }
}

/// What a job asks for next is its organization's and in its trace, unless it says otherwise. What it says has no words of encrypted
/// arguments.
fn settle(mut end: End, running: &Running) -> End {
    if let End::Then { next, .. } = &mut end {
        for job in next {
            job.organization = job.organization.or(running.organization);
            job.trace_parent = job.trace_parent.take().or_else(|| running.trace_parent.clone());
        }
    }
    tidy(&mut end, running.secrets.get());
    end
}

/// Texts are kept without secrets, and then up to a length: what is left of a word that was cut would not be known for one.
fn tidy(end: &mut End, secrets: Option<&Secrets>) {
    let (End::Retry { error: text, .. } | End::Dead { error: text, .. } | End::Cancelled { why: text }) = end
    else {
        return;
    };
    let whole = std::mem::take(text);
    *text = clip(match secrets {
        Some(secrets) => secrets.taken_out_of(whole),
        None => whole,
    });
}

fn abandon<T>(task: &JoinHandle<T>) {
    task.abort();
}

/// What the reason of a stop and a completion inside a transaction make of how the handler ended.
fn last_word(end: End, envelope: &Envelope, sign: &StopSign, completed_inside: bool) -> End {
    match (sign.why(), end) {
        (_, end @ (End::Done { .. } | End::Then { .. })) if completed_inside => {
            if let End::Then { next, .. } = end {
                tracing::error!(
                    jobs = next.len(),
                    "completed inside, so what comes next is not enqueued: `complete_then` does both"
                );
            }
            End::DoneInside { last_attempt: envelope.attempt >= envelope.max_attempts }
        }
        (Stop::Cancelled, End::Retry { error, .. } | End::Dead { error, .. }) => {
            End::Cancelled { why: clip(format!("cancelled while it ran ({error})")) }
        }
        (Stop::Cancelled, End::Snooze { .. } | End::GivenBack { .. }) => {
            End::Cancelled { why: "cancelled while it ran".to_owned() }
        }
        (
            Stop::Shutdown | Stop::Lost,
            End::Retry { .. } | End::Dead { failure: Failure::Failed | Failure::Panicked, .. },
        ) => End::Interrupted,
        (_, end) => end,
    }
}

fn log(end: &End, took: Duration) {
    let took_ms = took.as_secs_f64() * 1000.0;
    match end {
        End::Retry { delay, failure, error } => {
            tracing::warn!(
                took_ms,
                outcome = failure.name(),
                error,
                wait_ms = delay.as_millis() as u64,
                "job failed, will be tried again"
            );
        }
        End::Dead { failure, error } => {
            tracing::error!(took_ms, outcome = failure.name(), error, "job is a dead letter")
        }
        End::Cancelled { why } => tracing::info!(took_ms, why, "job cancelled"),
        End::GivenBack { why, .. } => tracing::warn!(why, "job is left to another worker"),
        _ => tracing::debug!(took_ms, outcome = end.name(), "job ended"),
    }
}

fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            format!("panicked: {text}")
        }
        Err(error) => error.to_string(),
    }
}

fn clip(mut text: String) -> String {
    // Postgres text holds no NUL.
    text.retain(|c| c != '\0');
    if let Some((cut, _)) = text.char_indices().nth(ERROR_LIMIT) {
        text.truncate(cut);
    }
    text
}
