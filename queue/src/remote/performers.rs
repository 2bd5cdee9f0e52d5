//! What stations can do.

use super::LARGEST;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

/// Something that connectors do, without a database. `T` is what they need for it.
pub trait Request<T>: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Known to both sides. A form that older stations cannot read gets another name.
    const KIND: &'static str;
    type Reply: Serialize + DeserializeOwned + Send;

    /// Dropped when its run is over.
    fn perform(self, tools: &T) -> impl Future<Output = Self::Reply> + Send;
}

/// Of work that was done and whose reply cannot be given: why.
pub(super) struct NoReply(pub String);

type Work = BoxFuture<'static, Result<Vec<u8>, NoReply>>;
type Begin<T> = Box<dyn Fn(Vec<u8>, Arc<T>) -> Result<Work, serde_json::Error> + Send + Sync>;

/// The kinds of requests that a station performs.
pub struct Performers<T>(HashMap<&'static str, Begin<T>>);

impl<T: Send + Sync + 'static> Default for Performers<T> {
    fn default() -> Self {
        Performers(HashMap::new())
    }
}

impl<T: Send + Sync + 'static> Performers<T> {
    /// # Panics
    /// When two kinds have the same name: a programming error.
    #[must_use]
    pub fn request<R: Request<T>>(mut self) -> Self {
        let begin: Begin<T> = Box::new(|body, tools| {
            let request: R = serde_json::from_slice(&body)?;
            Ok(Box::pin(async move {
                let reply = request.perform(&tools).await;
                let reply = serde_json::to_vec(&reply)
                    .map_err(|error| NoReply(format!("its answer cannot be written: {error}")))?;
                match reply.len() {
                    ..=LARGEST => Ok(reply),
                    bytes => Err(NoReply(too_large("answer", bytes))),
                }
            }))
        });
        assert!(self.0.insert(R::KIND, begin).is_none(), "two kinds of requests are named {}", R::KIND);
        self
    }

    /// What is to be awaited. `Err`: why a station of this version cannot.
    pub(super) fn prepare(&self, kind: &str, body: Vec<u8>, tools: &Arc<T>) -> Result<Work, String> {
        let begin =
            self.0.get(kind).ok_or_else(|| format!("it does not know requests of the kind {kind}"))?;
        begin(body, tools.clone())
            .map_err(|error| format!("it cannot read this request of the kind {kind}: {error}"))
    }
}

pub(super) fn too_large(what: &str, bytes: usize) -> String {
    format!("the {what} has {bytes} bytes, and no more than {LARGEST} go through the broker")
}
