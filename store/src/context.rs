//! Who acts, and by way of what: told to the database as each transaction begins, so that the audit log knows it (docs/audit.md).
//!
//! It belongs to the running task: the API sets it around a request (and adds the caller when it knows them), workers around a job, the command
//! line around a command. What runs without one is in the log under the role that it is connected as.

use domain::{Actor, UserId};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// What a request, job or command is known by.
#[derive(Debug, Default)]
pub struct Context {
    address: Option<String>,
    request: Option<String>,
    trace: Option<String>,
    job: Option<Uuid>,
    acting: Mutex<Acting>,
}

#[derive(Clone, Debug, Default)]
struct Acting {
    kind: Option<&'static str>,
    id: Option<UserId>,
    real: Option<UserId>,
    label: Option<String>,
}

impl Context {
    /// Of what Relaydesk does by itself; `label` says which part, for example a kind of job.
    pub fn system(label: impl Into<String>) -> Context {
        let acting = Acting { kind: Some("system"), label: Some(label.into()), ..Acting::default() };
        Context { acting: Mutex::new(acting), ..Context::default() }
    }

    /// Of a request; who sent it is told by [`act_as`].
    pub fn request(address: Option<IpAddr>, id: &str, trace: String) -> Context {
        let address = address.map(|address| address.to_canonical().to_string());
        Context { address, request: Some(id.to_owned()), trace: Some(trace), ..Context::default() }
    }

    pub fn job(kind: &str, id: Uuid, trace: Option<String>) -> Context {
        Context { job: Some(id), trace, ..Context::system(kind) }
    }

    /// What `audit.append` takes apart again.
    fn told(&self) -> String {
        let acting = self.acting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let id = |id: Option<UserId>| id.map(|id| id.to_string()).unwrap_or_default();
        // What no transaction of a request has named is Relaydesk's own.
        let kind = acting.kind.unwrap_or("system");
        let parts = [
            kind.to_owned(),
            id(acting.id),
            id(acting.real),
            acting.label.unwrap_or_default(),
            self.address.clone().unwrap_or_default(),
            self.request.clone().unwrap_or_default(),
            self.trace.clone().unwrap_or_default(),
            self.job.map(|job| job.to_string()).unwrap_or_default(),
        ];
        parts.map(|part| part.replace(|c: char| c.is_control(), " ")).join("\u{1f}")
    }
}

/// Runs `work` in this context.
pub async fn scope<F: Future>(context: Context, work: F) -> F::Output {
    CURRENT.scope(Arc::new(context), work).await
}

/// The running task's context for work that goes on by itself, after the request or job.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(CURRENT.try_with(Arc::clone).unwrap_or_default(), work)
}

/// From now on this actor acts in the running task's context: transactions that begin later are theirs.
pub fn act_as(actor: &Actor) {
    act(Acting { kind: Some(actor.kind()), id: actor.user_id(), real: None, label: label_of(actor) });
}

/// The same where somebody else uses the actor's rights: a person who acts for another one, the owner of a service account.
pub fn act_for(actor: &Actor, real: UserId) {
    act(Acting { kind: Some(actor.kind()), id: actor.user_id(), real: Some(real), label: label_of(actor) });
}

fn act(acting: Acting) {
    let _ = CURRENT.try_with(|context| {
        *context.acting.lock().unwrap_or_else(PoisonError::into_inner) = acting;
    });
}

/// A part of Relaydesk; people are known by their id alone, so that their name can be forgotten.
pub(crate) fn label_of(actor: &Actor) -> Option<String> {
    actor.user_id().is_none().then(|| actor.label().to_owned())
}

/// What the database is told of the running task; empty without a context.
pub(crate) fn told() -> String {
    CURRENT.try_with(|context| context.told()).unwrap_or_default()
}
