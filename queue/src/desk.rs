//! Adds jobs that are transactions by themselves: those of callers who come at the same time together.
//!
//! A commit waits for the disk, and one commit can hold many jobs. Whoever comes while one is on its way goes with the next.

use crate::bell::Bell;
use crate::enqueue::{Added, EnqueueError, JobId, add};
use crate::new_job::NewJob;
use crate::plumbing::{Plumbing, is_about_the_data};
use crate::trace;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};

/// Jobs of one commit at most; also how many callers may wait.
const TOGETHER: usize = 1000;

type Answer = oneshot::Sender<Result<JobId, EnqueueError>>;

/// Connections for jobs that may have to wait for somebody's transaction.
const ALONE: u32 = 4;

/// Cheap to clone. It keeps a connection of its own.
///
/// For jobs that are wanted by themselves. What is wanted because of a change belongs in the transaction of that change: see
/// [`add`](crate::add).
#[derive(Clone, Debug)]
pub struct Desk {
    waiting: mpsc::Sender<(NewJob, Answer)>,
    plumbing: Plumbing,
    bell: Bell,
}

impl Desk {
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(pool: &PgPool, bell: Bell) -> Desk {
        let (waiting, receiver) = mpsc::channel(TOGETHER);
        let plumbing = Plumbing::new(&pool.connect_options(), 1 + ALONE);
        tokio::spawn(serve(receiver, plumbing.clone(), bell.clone()));
        Desk { waiting, plumbing, bell }
    }

    /// Answers when the job is durable, and its workers are told. An error of the connection leaves open whether it is: give a job that must not
    /// run twice a unique key. A job with such a key, or an id, goes by itself: whoever holds its key must not hold up others.
    pub async fn enqueue(&self, mut job: NewJob) -> Result<JobId, EnqueueError> {
        job.trace_parent = job.trace_parent.or_else(|| trace::current().map(|context| context.to_string()));
        let gone = || EnqueueError::Database(sqlx::Error::WorkerCrashed);
        if job.unique.is_some() || job.window.is_some() || job.id.is_some() {
            // In a task: a caller that gives up must not leave a transaction behind.
            let task = tokio::spawn(alone(self.plumbing.clone(), self.bell.clone(), job));
            return task.await.unwrap_or_else(|_| Err(gone()));
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.send((job, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn alone(plumbing: Plumbing, bell: Bell, job: NewJob) -> Result<JobId, EnqueueError> {
    let key = job.unique.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
    let added = plumbing.run(move |connection| {
        Box::pin(async move {
            let mut tx = connection.begin().await?;
            sqlx::query("set local lock_timeout = '2s'").execute(&mut *tx).await?;
            let added = match add(&mut tx, &[job]).await {
                Err(EnqueueError::Database(error)) => return Err(error),
                added => added,
            };
            tx.commit().await?;
            Ok(added)
        })
    });
    let added = added.await.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| code == "55P03") { EnqueueError::Contended(key) } else { error.into() }
    })??;
    bell.ring(&added.rings);
    Ok(added.ids[0])
}

async fn serve(mut waiting: mpsc::Receiver<(NewJob, Answer)>, plumbing: Plumbing, bell: Bell) {
    let (mut callers, mut kept) = (Vec::new(), None);
    while waiting.recv_many(&mut callers, TOGETHER).await > 0 {
        let (jobs, answers): (Vec<NewJob>, Vec<Answer>) = callers.drain(..).unzip();
        match together(&plumbing, &mut kept, jobs.clone()).await {
            Ok(added) => {
                bell.ring(&added.rings);
                for (id, answer) in added.ids.into_iter().zip(answers) {
                    let _ = answer.send(Ok(id));
                }
            }
            // One of them cannot be written: the others must not suffer.
            Err(error) if jobs.len() > 1 && !is_about_the_connection(&error) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let added = together(&plumbing, &mut kept, vec![job]).await;
                    let _ = answer.send(added.map(|added| {
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

/// All of them or none: without keys and ids it is one statement, and that is a transaction.
async fn together(
    plumbing: &Plumbing,
    kept: &mut Option<PoolConnection<Postgres>>,
    jobs: Vec<NewJob>,
) -> Result<Added, EnqueueError> {
    let added = plumbing.keep(kept, move |connection| {
        Box::pin(async move {
            match add(connection, &jobs).await {
                // So that the connection is not kept.
                Err(EnqueueError::Database(error)) => Err(error),
                added => Ok(added),
            }
        })
    });
    added.await?
}

/// Then trying each by itself would only take longer.
fn is_about_the_connection(error: &EnqueueError) -> bool {
    matches!(error, EnqueueError::Database(error) if !is_about_the_data(error))
}
