//! Workflows: what a run adds beside its own end. A next step is enqueued in the transaction that completes the one before; a job
//! that needs others enqueues them, is suspended in the same transaction, and goes on in the transaction that ends the last.

use crate::batch::{self, BatchId, BatchView, Ended, Joined, Member, OnDeath};
use crate::enqueue::enqueue_joined;
use crate::running::{CompleteError, Running, hide};
use crate::{EnqueueError, JobId, NewJob, metrics};
use sqlx::PgConnection;
use std::sync::atomic::Ordering;

/// The jobs that a run has waited for.
#[derive(Clone, Debug)]
pub struct Children {
    pub batch: BatchView,
    /// Those with a result, and those that were not done, in the order in which they were enqueued.
    pub ended: Vec<Ended>,
}

impl Children {
    /// Whether each of them was done.
    pub fn all_done(&self) -> bool {
        self.batch.done == self.batch.total
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    #[error(transparent)]
    Complete(#[from] CompleteError),
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        StepError::Complete(error.into())
    }
}

impl Running {
    /// Completes this job and enqueues what comes next, in the caller's transaction. If this job is of a batch, the next ones are too: it
    /// does not end before them.
    pub async fn complete_then(
        &self,
        connection: &mut PgConnection,
        result: Option<&serde_json::Value>,
        next: &[NewJob],
    ) -> Result<Vec<JobId>, StepError> {
        if self.has_no_row() {
            self.complete_in(connection).await?;
            return Ok(anything(next));
        }
        let ids =
            enqueue_joined(connection, &self.heirs(next), self.is_member.then(|| self.joined())).await?;
        match result {
            Some(result) => self.complete_with(connection, result).await?,
            None => self.complete_in(connection).await?,
        }
        Ok(ids)
    }

    /// Adds jobs to the batch that this job is of, which cannot end before this job has.
    pub async fn add_to_batch(
        &self,
        connection: &mut PgConnection,
        jobs: &[NewJob],
    ) -> Result<Vec<JobId>, EnqueueError> {
        if self.has_no_row() {
            return Ok(anything(jobs));
        }
        enqueue_joined(connection, &self.heirs(jobs), Some(self.joined())).await
    }

    /// Enqueues `children` and suspends this job until all of them have ended, in the caller's transaction; after the commit answer
    /// `Outcome::Done`. Then it runs again, with fresh attempts, and finds them with [`Running::children`]. Who cancels it
    /// meanwhile cancels them. A second call makes the next step.
    pub async fn wait_for(
        &self,
        connection: &mut PgConnection,
        children: &[NewJob],
        on_death: OnDeath,
    ) -> Result<Vec<JobId>, StepError> {
        if self.has_no_row() {
            self.completed.store(true, Ordering::Release);
            return Ok(anything(children));
        }
        let hidden = self.unhide(connection).await?;
        let batch = batch::begin(connection, self.id, self.organization, on_death).await?;
        hide(connection, &hidden).await?;
        let into = Joined { batch: Some(batch.0), member: None };
        let ids = enqueue_joined(connection, &self.heirs(children), Some(into)).await?;
        let hidden = self.unhide(connection).await?;
        // One whose cancellation was asked for is not suspended: its run fails, and it is cancelled.
        let suspended: Option<bool> = sqlx::query_scalar(
            "with resting as ( \
               update queue.jobs j set state = 'suspended', awaits = $3, worker = null, run = j.run + 1, claimed_at = null, attempt = 0, \
                      crashes = 0, waits_for = null, paid = null, last_error = null \
               where id = $1 and run = $2 and worker is not null and not cancel_requested \
               returning id, not unique_held as let_go), \
             freed as (delete from queue.permits p using resting where p.job_id = resting.id), \
             held as (select queue.hold_again(array_agg(id)) from resting where let_go having count(*) > 0) \
             select true from resting, (select count(*) from held) h",
        )
        .bind(self.id.0)
        .bind(self.run)
        .bind(batch.0)
        .fetch_optional(&mut *connection)
        .await?;
        if suspended.is_some() {
            batch::close(connection, batch).await?;
        }
        hide(connection, &hidden).await?;
        if suspended.is_none() {
            metrics::FENCED.inc();
            return Err(CompleteError::Fenced.into());
        }
        self.completed.store(true, Ordering::Release);
        Ok(ids)
    }

    /// What this run has waited for: the last batch, with the results. `None` on the first run of a job that is no callback.
    pub async fn children(&self, connection: &mut PgConnection) -> Result<Option<Children>, sqlx::Error> {
        let Some(awaited) = self.awaited else { return Ok(None) };
        let hidden = self.unhide(connection).await?;
        let batch = batch::show(connection, BatchId(awaited), None).await;
        let ended = match &batch {
            Ok(Some(_)) => batch::ends(connection, BatchId(awaited)).await,
            _ => Ok(Vec::new()),
        };
        // Whatever came of it: the tenant's transaction goes on as the tenant's. (One that the database has aborted does nothing any more.)
        if let (Err(error), Ok(_), Ok(_)) = (hide(connection, &hidden).await, &batch, &ended) {
            return Err(error);
        }
        let (batch, ended) = (batch?, ended?);
        Ok(batch.map(|batch| Children { batch, ended }))
    }

    fn joined(&self) -> Joined {
        Joined { batch: None, member: Some(Member { id: self.id.0, run: self.run }) }
    }

    /// What a job asks for is its organization's, unless it says otherwise.
    fn heirs(&self, jobs: &[NewJob]) -> Vec<NewJob> {
        let heir =
            |job: &NewJob| NewJob { organization: job.organization.or(self.organization), ..job.clone() };
        jobs.iter().map(heir).collect()
    }
}

/// Ids for jobs of a test without a database.
fn anything(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id.unwrap_or_else(JobId::new)).collect()
}
