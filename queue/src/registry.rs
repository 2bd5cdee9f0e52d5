//! Which kinds of jobs this process can run.

use crate::keys::KeyRing;
use crate::limit::Limits;
use crate::payload::{Payload, Unreadable};
use crate::retention::InForce;
use crate::running::Running;
use crate::schedules::Schedule;
use crate::{Backoff, JobResult, Limit, Run};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Wraps the work of a handler, to give its task something that it finds there.
pub type Around = for<'a> fn(&'a Running, BoxFuture<'a, JobResult>) -> BoxFuture<'a, JobResult>;

/// The kinds a worker knows. A job of an unknown kind is left for a newer worker.
pub struct Registry<S> {
    kinds: HashMap<&'static str, Arc<Kind<S>>>,
    around: Option<Around>,
    schedules: Vec<Schedule>,
}

pub(crate) struct Kind<S> {
    pub name: &'static str,
    pub timeout: Duration,
    pub backoff: Backoff,
    pub retention: Arc<InForce>,
    pub limits: &'static [Limit],
    pub handler: Box<dyn Handler<S>>,
}

/// One kind, its type forgotten.
pub(crate) trait Handler<S>: Send + Sync {
    fn run<'a>(
        &self,
        payload: Payload<'_>,
        keys: &KeyRing,
        job: &'a Running,
        shared: &'a S,
    ) -> Result<BoxFuture<'a, JobResult>, Unreadable>;
}

struct Typed<J>(PhantomData<fn() -> J>);

impl<S: Send + Sync, J: Run<S>> Handler<S> for Typed<J> {
    fn run<'a>(
        &self,
        payload: Payload<'_>,
        keys: &KeyRing,
        job: &'a Running,
        shared: &'a S,
    ) -> Result<BoxFuture<'a, JobResult>, Unreadable> {
        let args = payload.read::<J>(keys, |secrets| {
            let _ = job.secrets.set(secrets);
        })?;
        Ok(Box::pin(args.run(job, shared)))
    }
}

impl<S: Send + Sync + 'static> Default for Registry<S> {
    fn default() -> Self {
        Registry::new()
    }
}

impl<S: Send + Sync + 'static> Registry<S> {
    pub fn new() -> Self {
        Registry { kinds: HashMap::new(), around: None, schedules: Vec::new() }
    }

    /// What goes around every run.
    #[must_use]
    pub fn around(mut self, around: Around) -> Self {
        self.around = Some(around);
        self
    }

    pub(crate) fn wrap<'a>(
        &self,
        job: &'a Running,
        work: BoxFuture<'a, JobResult>,
    ) -> BoxFuture<'a, JobResult> {
        match self.around {
            Some(around) => around(job, work),
            None => work,
        }
    }

    /// # Panics
    /// When two kinds have the same name: a programming error.
    #[must_use]
    pub fn job<J: Run<S>>(mut self) -> Self {
        let kind = Kind {
            name: J::KIND,
            timeout: J::TIMEOUT,
            backoff: J::BACKOFF,
            retention: Arc::new(InForce::new(J::RETENTION)),
            limits: J::LIMITS,
            handler: Box::new(Typed::<J>(PhantomData)),
        };
        let before = self.kinds.insert(J::KIND, Arc::new(kind));
        assert!(before.is_none(), "two kinds of jobs are named {}", J::KIND);
        self
    }

    /// A schedule that belongs to the program: kept in the database by whoever leads, removed when the program no longer
    /// has it.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    pub(crate) fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// The names of the kinds, sorted.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.kinds.keys().copied().collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        self.kinds.values().for_each(|kind| limits.add(kind.name, kind.limits));
        limits
    }

    /// Of each kind, by its name.
    pub(crate) fn retentions(&self) -> Vec<(&'static str, Arc<InForce>)> {
        let mut all: Vec<_> = self.kinds.values().map(|kind| (kind.name, kind.retention.clone())).collect();
        all.sort_unstable_by_key(|kind| kind.0);
        all
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<Kind<S>>> {
        self.kinds.get(kind)
    }
}
