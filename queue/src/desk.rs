//! Adds jobs that are transactions by themselves: those of callers who come at the same time together.
//!
//! A commit waits for the disk, and one commit can hold many jobs. Whoever comes while one is on its way goes with the next.

use crate::bell::Bell;
use crate::enqueue::{Added, EnqueueError, JobId, add};
use crate::new_job::NewJob;
use crate::plumbing::{Plumbing, is_about_the_data};
use crate::trace;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};

/// Jobs of one commit at most; also how many callers may wait.
const TOGETHER: usize = 1000;

type Answer = oneshot::Sender<Result<JobId, EnqueueError>>;

/// Cheap to clone. It keeps one connection of its own.
///
/// For jobs that are wanted by themselves. What is wanted because of a change belongs in the transaction of that change: see
/// [`add`](crate::add).
#[derive(Clone, Debug)]
pub struct Desk {
    waiting: mpsc::Sender<(NewJob, Answer)>,
}

impl Desk {
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(pool: &PgPool, bell: Bell) -> Desk {
        let (waiting, receiver) = mpsc::channel(TOGETHER);
        tokio::spawn(serve(receiver, Plumbing::new(&pool.connect_options(), 1), bell));
        Desk { waiting }
    }

    /// Answers when the job is durable, and its workers are told. An error of the connection leaves open whether it is: give a job that must not
    /// run twice a unique key.
    pub async fn enqueue(&self, mut job: NewJob) -> Result<JobId, EnqueueError> {
        job.trace_parent = job.trace_parent.or_else(|| trace::current().map(|context| context.to_string()));
        let (answer, answered) = oneshot::channel();
        let gone = || EnqueueError::Database(sqlx::Error::WorkerCrashed);
        self.waiting.send((job, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn serve(mut waiting: mpsc::Receiver<(NewJob, Answer)>, plumbing: Plumbing, bell: Bell) {
    let (mut callers, mut kept) = (Vec::new(), None);
    while waiting.recv_many(&mut callers, TOGETHER).await > 0 {
        let (jobs, answers): (Vec<NewJob>, Vec<Answer>) = callers.drain(..).unzip();
        match put(&plumbing, &mut kept, jobs.clone()).await {
            Ok(added) => {
                bell.ring(&added.rings);
                for (id, answer) in added.ids.into_iter().zip(answers) {
                    let _ = answer.send(Ok(id));
                }
            }
            // One of them cannot be written: the others must not suffer.
            Err(error) if jobs.len() > 1 && !is_about_the_connection(&error) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let alone = put(&plumbing, &mut kept, vec![job]).await;
                    let _ = answer.send(alone.map(|added| {
                        bell.ring(&added.rings);
                        added.ids[0]
                    }));
                }
            }
            Err(error) => {
                let text = error.to_string();
                let mut error = Some(error);
                for answer in answers {
                    let error = error.take().unwrap_or_else(|| {
                        EnqueueError::Database(sqlx::Error::Io(std::io::Error::other(text.clone())))
                    });
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
    drop(kept);
    plumbing.close().await;
}

/// All of them or none.
async fn put(
    plumbing: &Plumbing,
    kept: &mut Option<PoolConnection<Postgres>>,
    jobs: Vec<NewJob>,
) -> Result<Added, EnqueueError> {
    plumbing
        .keep(kept, move |connection| {
            Box::pin(async move {
                // One statement is a transaction.
                if !jobs.iter().any(|job| job.unique.is_some() || job.window.is_some()) {
                    return Ok(add(connection, &jobs).await);
                }
                let mut tx = sqlx::Connection::begin(connection).await?;
                let added = add(&mut tx, &jobs).await;
                if added.is_ok() {
                    tx.commit().await?;
                }
                Ok(added)
            })
        })
        .await?
}

/// Then trying each by itself would only take longer.
fn is_about_the_connection(error: &EnqueueError) -> bool {
    matches!(error, EnqueueError::Database(error) if !is_about_the_data(error))
}
