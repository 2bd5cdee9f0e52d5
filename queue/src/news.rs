//! Jobs that say how far they are, for those who follow them live.
//!
//! Handlers say it as often as they like. One task of the engine writes it down for all of them together, a few times a second, and
//! the last word counts. It notes *that* there is something new (`queue.news`); whoever follows looks into the jobs themselves
//! ([`admin::news`](crate::admin::news)), so what is shown was committed, whatever became of the process that said it.

use crate::plumbing::{Patience, Plumbing, is_about_the_data};
use crate::running::Running;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(250);
/// The same while a run that is over waits for its last report.
const HURRY: Duration = Duration::from_millis(20);
/// How long it waits at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// A report whose row is locked is tried so often.
const TRIES: u8 = 8;
/// Of jobs that say nothing but their result no more are noted at a time: more are not shown either.
const ROOM: usize = 1000;
/// So many at a time.
const FORGOTTEN: i64 = 10_000;

/// What the jobs of a process have said and nobody has written yet.
#[derive(Debug, Default)]
pub(crate) struct News {
    unwritten: Mutex<Unwritten>,
    changed: Notify,
    hurried: Notify,
}

#[derive(Debug, Default)]
struct Unwritten {
    notes: BTreeMap<Uuid, Note>,
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Debug)]
struct Note {
    run: i64,
    organization: Option<Uuid>,
    lane: String,
    kind: String,
    /// To be kept with the job; progress that the handler keeps itself is not.
    report: Option<String>,
    tries: u8,
}

/// How a run makes itself heard. By default nobody listens.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    news: Option<Arc<News>>,
    has_spoken: AtomicBool,
}

impl Voice {
    pub fn to(news: Option<&Arc<News>>) -> Voice {
        Voice { news: news.cloned(), has_spoken: AtomicBool::new(false) }
    }

    /// There is something new about the job. With a report, that is to be kept with it.
    pub fn speak(&self, job: &Running, report: Option<String>) {
        let Some(news) = &self.news else { return };
        self.has_spoken.store(true, Ordering::Release);
        news.note(job, report);
    }

    /// The handler has ended, maybe with a result. Returns when its last report is kept, or after a second.
    pub async fn fall_silent(&self, job: &Running, has_result: bool) {
        let Some(news) = &self.news else { return };
        if !has_result && !self.has_spoken.load(Ordering::Acquire) {
            return;
        }
        // Completed inside, there is no row left to keep it with.
        if let Some(written) = news.last_note(job, job.completed.load(Ordering::Acquire)) {
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }
}

impl News {
    fn lock(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, job: &Running, report: Option<String>) {
        let mut unwritten = self.lock();
        if report.is_none() && unwritten.notes.len() >= ROOM && !unwritten.notes.contains_key(&job.id.0) {
            return;
        }
        match unwritten.notes.get_mut(&job.id.0).filter(|note| note.run == job.run) {
            // What the handler keeps itself is newer than what it reported before.
            Some(note) => (note.report, note.tries) = (report, 0),
            None => {
                unwritten.notes.insert(
                    job.id.0,
                    Note {
                        run: job.run,
                        organization: job.organization,
                        lane: job.lane.clone(),
                        kind: job.kind.clone(),
                        report,
                        tries: 0,
                    },
                );
            }
        }
        drop(unwritten);
        self.changed.notify_one();
    }

    /// So that its end is looked at. Answers what to wait for, if a report is not written yet.
    fn last_note(&self, job: &Running, gone: bool) -> Option<oneshot::Receiver<()>> {
        let pending = self.lock().notes.get(&job.id.0).and_then(|note| note.report.clone()).filter(|_| !gone);
        let waits = pending.is_some();
        self.note(job, pending);
        if !waits {
            return None;
        }
        let (answer, written) = oneshot::channel();
        self.lock().waiting.push(answer);
        self.hurried.notify_one();
        Some(written)
    }

    fn take(&self) -> Unwritten {
        std::mem::take(&mut *self.lock())
    }

    /// What could not be written yet, unless something newer was said.
    fn put_back(&self, notes: impl Iterator<Item = (Uuid, Note)>) {
        let mut unwritten = self.lock();
        for (job, note) in notes {
            unwritten.notes.entry(job).or_insert(note);
        }
        drop(unwritten);
        self.changed.notify_one();
    }

    /// Writes until `stop`, and then once more.
    pub async fn run(self: Arc<Self>, plumbing: Plumbing, stop: CancellationToken) {
        let mut patience = Patience::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
            }
            // Whoever waits goes on when `waiting` is dropped, written or not.
            let Unwritten { notes, waiting } = self.take();
            let notes = Arc::new(notes);
            if !notes.is_empty() {
                let work = notes.clone();
                let written = plumbing
                    .run(move |connection| Box::pin(async move { write(connection, &work).await }))
                    .await;
                match written {
                    Ok(locked) => {
                        patience.reset();
                        let again = locked.into_iter().filter_map(|job| {
                            let note = notes.get(&job)?;
                            Some((job, Note { tries: note.tries + 1, ..note.clone() }))
                        });
                        let again: Vec<_> = again.filter(|(_, note)| note.tries < TRIES).collect();
                        if !again.is_empty() {
                            self.put_back(again.into_iter());
                        }
                    }
                    Err(error) if is_about_the_data(&error) => {
                        warn!(%error, jobs = notes.len(), "what jobs said cannot be written");
                    }
                    Err(error) => {
                        self.put_back(notes.iter().map(|(job, note)| (*job, note.clone())));
                        drop(waiting);
                        if !patience.failed("telling how far jobs are", &error, &stop).await {
                            return;
                        }
                        continue;
                    }
                }
            }
            drop(waiting);
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
                () = async {
                    self.hurried.notified().await;
                    tokio::time::sleep(HURRY).await;
                } => {}
            }
        }
    }
}

/// Keeps the reports of runs that still have their jobs, and notes for all of them that there is something new. Nobody is waited for:
/// answers the jobs whose rows are locked (or gone).
async fn write(
    connection: &mut PgConnection,
    notes: &BTreeMap<Uuid, Note>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let reports: Vec<(Uuid, i64, &str)> =
        notes.iter().filter_map(|(job, note)| Some((*job, note.run, note.report.as_deref()?))).collect();
    let mut locked: Vec<Uuid> = reports.iter().map(|report| report.0).collect();
    if !reports.is_empty() {
        let kept: Vec<Uuid> = sqlx::query_scalar(
            "update queue.jobs j set progress = held.report::json \
             from (select h.id, said.report from unnest($1::uuid[], $2::int8[], $3::text[]) as said(id, run, report) \
                   join queue.jobs h on h.id = said.id where h.run = said.run and h.worker is not null \
                   for no key update of h skip locked) held \
             where j.id = held.id returning j.id",
        )
        .bind(&locked)
        .bind(reports.iter().map(|report| report.1).collect::<Vec<_>>())
        .bind(reports.iter().map(|report| report.2).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        locked.retain(|job| !kept.contains(job));
    }
    sqlx::query(
        "insert into queue.news (job_id, organization_id, lane, kind) \
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) \
         on conflict (job_id) do update set running = true, changed_at = clock_timestamp()",
    )
    .bind(notes.keys().copied().collect::<Vec<_>>())
    .bind(notes.values().map(|note| note.organization).collect::<Vec<_>>())
    .bind(notes.values().map(|note| note.lane.clone()).collect::<Vec<_>>())
    .bind(notes.values().map(|note| note.kind.clone()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(locked)
}

/// The leader's: jobs that were last said to run, and do not. Their own process tells of their ends; whoever was killed, or waited long
/// for the database, does not.
pub(crate) async fn settle(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update queue.news n set running = false, changed_at = clock_timestamp() \
         from (select o.job_id from queue.news o where o.running \
                 and not exists (select from queue.jobs j where j.id = o.job_id and j.worker is not null) \
               for no key update skip locked) over \
         where n.job_id = over.job_id",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Nobody comes back after a day for what was missed. Answers whether there may be more.
pub(crate) async fn forget(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query(
        "delete from queue.news where job_id = any(array( \
           select job_id from queue.news where not running and changed_at < now() - interval '1 day' order by changed_at limit $1))",
    )
    .bind(FORGOTTEN)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() == FORGOTTEN as u64)
}
