//! Enqueue in the caller's transaction: the job exists if and only if the change does.

use crate::batch::{self, Joined};
use crate::keys::SealError;
use crate::new_job::NewJob;
use crate::unique::Windows;
use crate::{metrics, trace};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use uuid::Uuid;

/// The channel on which workers are told of work: the payload is the lane for new jobs, `~` and the lane when there may be
/// some with a rank in the past: ready again, or important (see the floor in `Claimer::run`).
pub(crate) const CHANNEL: &str = "relaydesk_jobs";
/// The rank of a row that is due at an SQL expression: earlier by the lane's `aging` for each point of priority.
macro_rules! rank {
    ($due:literal, $row:literal) => {
        concat!(
            "case when ",
            $row,
            ".priority = 0 then ",
            $due,
            " else ",
            $due,
            " - ",
            $row,
            ".priority * \
             coalesce((select l.aging from queue.lanes l where l.name = ",
            $row,
            ".lane), interval '1 minute') end"
        )
    };
}
pub(crate) use rank;

/// Rows sent in one statement.
const BATCH: usize = 1000;

/// A UUIDv7: sorts by time of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        JobId(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Uuid> for JobId {
    fn from(id: Uuid) -> Self {
        JobId(id)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    #[error("arguments of {kind} cannot be encoded: {source}")]
    Encode { kind: &'static str, source: serde_json::Error },
    #[error("{kind} cannot be enqueued: {source}")]
    Seal { kind: &'static str, source: SealError },
    #[error("the batch has ended, or is closed and this is not one of its running jobs")]
    BatchClosed,
    #[error("job {0} has the unique key of the callback")]
    Duplicate(JobId),
    /// Other transactions finished the job with the same key each time it was looked for.
    #[error("the job with unique key {0:?} comes and goes too fast; try again")]
    Contended(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What was added, and who is to be told of it.
#[derive(Clone, Debug)]
#[must_use = "workers find these jobs at their next look only, unless they are told: `Bell::ring`"]
pub struct Added {
    /// One per job, in order; for a job that was left out because of its unique key, the id of the one that is there already.
    pub ids: Vec<JobId>,
    /// What [`Bell::ring`](crate::Bell::ring) is to be told after the commit.
    pub rings: BTreeSet<String>,
}

/// Adds jobs inside the caller's transaction. Answers one id per job, in order; for a job that was left out because of
/// its unique key, the id of the one that is there already.
///
/// Workers are told at commit by the transaction itself, once per lane however many jobs there are. PostgreSQL lets transactions that
/// tell commit one after the other, the flush included: where many commit at once, [`add`] and a [`Bell`](crate::Bell) are
/// faster.
pub async fn enqueue(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<JobId>, EnqueueError> {
    Ok(put(connection, jobs, Telling::AtCommit, Vec::new()).await?.ids)
}

/// As [`enqueue`], of a batch or of none.
pub(crate) async fn enqueue_joined(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    batch: Option<Joined>,
) -> Result<Vec<JobId>, EnqueueError> {
    let parts = match batch {
        Some(batch) => batch::join(connection, batch, jobs.len()).await?,
        None => Vec::new(),
    };
    Ok(put(connection, jobs, Telling::AtCommit, parts).await?.ids)
}

/// Adds jobs inside the caller's transaction, or in one of its own when there is none, and tells nobody: ring the bell after
/// the commit.
pub async fn add(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<Added, EnqueueError> {
    put(connection, jobs, Telling::Later, Vec::new()).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    AtCommit,
    Later,
}

async fn put(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    telling: Telling,
    parts: Vec<i64>,
) -> Result<Added, EnqueueError> {
    let trace_parent = trace::current().map(|context| context.to_string());
    let adding = Adding { jobs, telling, parts, trace_parent };
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.unwrap_or_else(JobId::new).0).collect();
    // Keys in one order everywhere, so that two transactions with the same keys wait for each other and do not deadlock.
    let windows = Windows::look(connection, jobs).await?;
    let mut order: Vec<usize> = (0..jobs.len())
        .filter(|i| !windows.shut.contains_key(i) && !windows.follows.contains_key(i))
        .collect();
    if jobs.iter().any(|job| job.unique.is_some()) {
        order.sort_by_key(|i| jobs[*i].unique.as_ref().map(|(key, _)| (jobs[*i].kind, key.as_str())));
    }
    let mut kept = HashSet::with_capacity(jobs.len());
    for chunk in order.chunks(BATCH) {
        adding.insert(connection, &ids, chunk, &mut kept).await?;
    }
    let mut answer: Vec<JobId> = Vec::with_capacity(jobs.len());
    let mut counts: HashMap<(&str, &str), u64> = HashMap::new();
    for (i, job) in jobs.iter().enumerate() {
        answer.push(match (kept.get(&ids[i]), windows.shut.get(&i), windows.follows.get(&i)) {
            (Some(id), ..) => JobId(*id),
            (None, Some(there), _) => *there,
            (None, None, Some(first)) => answer[*first],
            (None, None, None) => adding.left_out(connection, &ids, i).await?,
        });
        *counts.entry((job.lane, job.kind)).or_default() += 1;
    }
    let entered = (0..jobs.len()).map(|i| (i, ids[i])).filter(|(i, id)| answer[*i].0 == *id);
    Windows::begin(connection, jobs, entered).await?;
    let left_out = (0..adding.parts.len()).filter(|i| answer[*i].0 != ids[*i]).map(|i| adding.parts[i]);
    batch::leave_out(connection, left_out).await?;
    for ((lane, kind), count) in counts {
        metrics::ENQUEUED.with_label_values(&[lane, kind]).inc_by(count);
    }
    Ok(Added { ids: answer, rings: adding.rings() })
}

struct Adding<'a> {
    jobs: &'a [NewJob],
    telling: Telling,
    /// Of a batch, for each; or none.
    parts: Vec<i64>,
    trace_parent: Option<String>,
}

impl Adding<'_> {
    /// Of the jobs that are ready, or may be: those of a lane with something important are announced as the older.
    fn rings(&self) -> BTreeSet<String> {
        let mut lanes: BTreeMap<&str, bool> = BTreeMap::new();
        for job in
            self.jobs.iter().filter(|job| job.run_at.is_some() || job.delay.is_none_or(|d| d.is_zero()))
        {
            *lanes.entry(job.lane).or_default() |= job.priority > 0 || job.run_at.is_some();
        }
        lanes
            .into_iter()
            .map(|(lane, older)| if older { format!("~{lane}") } else { lane.to_owned() })
            .collect()
    }

    /// The job that holds the key of a job that was not inserted. It may have finished meanwhile: then insert again.
    async fn left_out(
        &self,
        connection: &mut PgConnection,
        ids: &[Uuid],
        index: usize,
    ) -> Result<JobId, EnqueueError> {
        let job = &self.jobs[index];
        let key = job.unique.as_ref().map(|(key, _)| key.as_str()).unwrap_or_default();
        // Its id was given, and is there.
        let itself: Option<Uuid> = match job.id {
            None => None,
            Some(id) => {
                let there = sqlx::query_scalar("select id from queue.jobs where id = $1").bind(id.0);
                there.fetch_optional(&mut *connection).await?
            }
        };
        if let Some(id) = itself {
            return Ok(JobId(id));
        }
        for _ in 0..20 {
            let there: Option<Uuid> = sqlx::query_scalar(
                "select id from queue.jobs where kind = $1 and unique_key = $2 and unique_held \
                 and organization_id is not distinct from coalesce($3, current_organization())",
            )
            .bind(job.kind)
            .bind(key)
            .bind(job.organization)
            .fetch_optional(&mut *connection)
            .await?;
            if let Some(id) = there {
                return Ok(JobId(id));
            }
            let mut kept = HashSet::new();
            self.insert(connection, ids, &[index], &mut kept).await?;
            if kept.contains(&ids[index]) {
                return Ok(JobId(ids[index]));
            }
        }
        Err(EnqueueError::Contended(key.to_owned()))
    }

    /// Whether it has what few jobs have: only the statement for all kinds of jobs writes it.
    fn is_special(&self, index: usize) -> bool {
        let job = &self.jobs[index];
        self.parts.get(index).is_some() || job.version != 1 || job.encrypted
    }

    /// Whether it is to run now, like any other.
    fn is_plain(&self, index: usize) -> bool {
        let job = &self.jobs[index];
        !self.is_special(index)
            && (job.id, &job.unique, &job.limit_key, job.run_at) == (None, &None, &None, None)
            && job.window.is_none()
            && job.priority == 0
            && job.delay.is_none_or(|delay| delay.is_zero())
    }

    /// Whether the jobs differ in nothing but their arguments, and none can be there already.
    fn are_alike(&self, chunk: &[usize]) -> bool {
        let first = &self.jobs[chunk[0]];
        chunk.iter().all(|i| !self.is_special(*i))
            && chunk.iter().map(|i| &self.jobs[*i]).all(|job| {
                (job.id, &job.unique, &job.window, &job.limit_key) == (None, &None, &None, &None)
                    && (job.kind, job.lane, job.organization) == (first.kind, first.lane, first.organization)
                    && (job.run_at, job.delay, job.priority) == (first.run_at, first.delay, first.priority)
                    && (job.max_attempts, &job.trace_parent) == (first.max_attempts, &first.trace_parent)
            })
    }

    /// The arguments as they are written, and what sealed them.
    fn written(&self, ids: &[Uuid], chunk: &[usize]) -> Result<Vec<(String, Option<String>)>, EnqueueError> {
        let written = |i: &usize| {
            let job = &self.jobs[*i];
            job.written(ids[*i]).map_err(|source| EnqueueError::Seal { kind: job.kind, source })
        };
        chunk.iter().map(written).collect()
    }

    /// One statement for a whole batch, the notification of its lanes included.
    async fn insert(
        &self,
        connection: &mut PgConnection,
        ids: &[Uuid],
        chunk: &[usize],
        kept: &mut HashSet<Uuid>,
    ) -> Result<(), EnqueueError> {
        let rows = || chunk.iter().map(|i| &self.jobs[*i]);
        let trace_parent = self.trace_parent.as_deref();
        let written: Vec<(String, Option<String>)>;
        let query = match *chunk {
            [i] if self.is_plain(i) => {
                let job = &self.jobs[i];
                sqlx::query(if self.telling == Telling::Later { ADD_PLAIN } else { ENQUEUE_PLAIN })
                    .bind(ids[i])
                    .bind(job.organization)
                    .bind(job.max_attempts.max(1))
                    .bind(job.lane)
                    .bind(job.kind)
                    .bind(job.trace_parent.as_deref().or(trace_parent))
                    .bind(job.args.to_string())
            }
            [i] if !self.is_special(i) => {
                let job = &self.jobs[i];
                sqlx::query(if self.telling == Telling::Later { ADD_ONE } else { ENQUEUE_ONE })
                    .bind(ids[i])
                    .bind(job.organization)
                    .bind(job.run_at)
                    .bind(job.delay.map_or(0.0, |d| d.as_secs_f64()))
                    .bind(job.priority)
                    .bind(job.max_attempts.max(1))
                    .bind(job.unique.as_ref().map(|(key, _)| key.as_str()))
                    .bind(job.unique.as_ref().map_or(0, |(_, unique)| unique.mask()))
                    .bind(job.lane)
                    .bind(job.kind)
                    .bind(job.trace_parent.as_deref().or(trace_parent))
                    .bind(job.args.to_string())
                    .bind(job.limit_key.as_deref())
                    .bind(i as i32)
            }
            _ if self.are_alike(chunk) => {
                let job = &self.jobs[chunk[0]];
                sqlx::query(if self.telling == Telling::Later { ADD_ALIKE } else { ENQUEUE_ALIKE })
                    .bind(chunk.iter().map(|i| ids[*i]).collect::<Vec<_>>())
                    .bind(job.organization)
                    .bind(job.run_at)
                    .bind(job.delay.map_or(0.0, |d| d.as_secs_f64()))
                    .bind(job.priority)
                    .bind(job.max_attempts.max(1))
                    .bind(job.lane)
                    .bind(job.kind)
                    .bind(job.trace_parent.as_deref().or(trace_parent))
                    .bind(rows().map(|job| job.args.to_string()).collect::<Vec<_>>())
                    .execute(&mut *connection)
                    .await?;
                kept.extend(chunk.iter().map(|i| ids[*i]));
                return Ok(());
            }
            _ => {
                written = self.written(ids, chunk)?;
                sqlx::query(if self.telling == Telling::Later { ADD } else { ENQUEUE })
                    .bind(chunk.iter().map(|i| ids[*i]).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.organization).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.run_at).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.delay.map_or(0.0, |d| d.as_secs_f64())).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.priority).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.max_attempts.max(1)).collect::<Vec<_>>())
                    .bind(
                        rows()
                            .map(|job| job.unique.as_ref().map(|(key, _)| key.as_str()))
                            .collect::<Vec<_>>(),
                    )
                    .bind(
                        rows()
                            .map(|job| job.unique.as_ref().map_or(0, |(_, unique)| unique.mask()))
                            .collect::<Vec<_>>(),
                    )
                    .bind(rows().map(|job| job.lane).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.kind).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.trace_parent.as_deref().or(trace_parent)).collect::<Vec<_>>())
                    .bind(written.iter().map(|(args, _)| args.as_str()).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.limit_key.as_deref()).collect::<Vec<_>>())
                    .bind(chunk.iter().map(|i| *i as i32).collect::<Vec<_>>())
                    .bind(chunk.iter().map(|i| self.parts.get(*i).copied()).collect::<Vec<_>>())
                    .bind(rows().map(|job| job.version).collect::<Vec<_>>())
                    .bind(written.iter().map(|(_, key)| key.as_deref()).collect::<Vec<_>>())
            }
        };
        for row in query.fetch_all(&mut *connection).await? {
            kept.insert(row.try_get(0)?);
        }
        Ok(())
    }
}

/// One row for each of a source `u`, due at `due.at`.
macro_rules! insert {
    ($source:literal, $due:literal, $end:literal) => {
        concat!(
            "insert into queue.jobs (id, organization_id, due_at, rank, state, priority, max_attempts, unique_key, unique_while, unique_held, \
                                     lane, kind, trace_parent, args, limit_key, part, args_version, args_key) \
             select u.id, coalesce(u.organization_id, (select current_organization())), \
                    case when due.at > now() then due.at else clock_timestamp() end, ",
            // In the order in which the caller has them, though they may be written in that of their keys.
            rank!("case when due.at > now() then due.at else statement_timestamp() + u.n * interval '1 microsecond' end", "u"),
            ", case when due.at > now() then 'scheduled'::queue.state else 'ready' end, \
               u.priority, u.max_attempts, u.unique_key, u.unique_while, case when u.unique_while <> 0 then true end, \
               u.lane, u.kind, u.trace_parent, u.args::json, \
               case when length(u.limit_key) > 200 then left(u.limit_key, 160) || md5(u.limit_key) else u.limit_key end, u.part, \
               nullif(u.args_version, 1), u.args_key \
             from ",
            $source,
            ", lateral (",
            $due,
            ") due ",
            $end
        )
    };
}

macro_rules! insert_many {
    () => {
        insert!(
            "unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::float8[], $5::int2[], $6::int2[], $7::text[], $8::int2[], \
                    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::int4[], $15::int8[], \
                    $16::int2[], $17::text[]) \
                as u(id, organization_id, run_at, delay, priority, max_attempts, unique_key, unique_while, lane, kind, \
                     trace_parent, args, limit_key, n, part, args_version, args_key)",
            "select coalesce(u.run_at, now()) + make_interval(secs => u.delay) as at",
            "on conflict do nothing returning id, lane, state, priority"
        )
    };
}

/// Apart from [`insert_many`], because Postgres keeps the plan of this one, and plans one over arrays anew at each call.
macro_rules! insert_one {
    () => {
        insert!(
            "(select $1::uuid as id, $2::uuid as organization_id, $3::timestamptz as run_at, $4::float8 as delay, \
                     $5::int2 as priority, $6::int2 as max_attempts, $7::text as unique_key, $8::int2 as unique_while, \
                     $9::text as lane, $10::text as kind, $11::text as trace_parent, $12::text as args, \
                     $13::text as limit_key, $14::int4 as n, null::int8 as part, null::int2 as args_version, null::text as args_key) u",
            "select coalesce(u.run_at, now()) + make_interval(secs => u.delay) as at offset 0",
            "on conflict do nothing returning id, lane, state, priority"
        )
    };
}

/// A job like any other, now: less for the server to work out, which tells when each is a commit of its own.
macro_rules! insert_plain {
    () => {
        "insert into queue.jobs (id, organization_id, due_at, state, max_attempts, lane, kind, trace_parent, args) \
         values ($1, coalesce($2, current_organization()), clock_timestamp(), 'ready', $3, $4, $5, $6, $7::text::json) \
         returning id, lane, state, priority"
    };
}

/// Jobs that differ in their arguments only: a fifth faster, because there is less to unpack, and no key to look for.
macro_rules! insert_alike {
    ($end:literal) => {
        insert!(
            "(select e.id, $2::uuid as organization_id, $5::int2 as priority, $6::int2 as max_attempts, null as unique_key, \
                     0::int2 as unique_while, $7::text as lane, $8::text as kind, $9::text as trace_parent, e.args, \
                     null::text as limit_key, e.n, null::int8 as part, \
                     null::int2 as args_version, null::text as args_key \
              from unnest($1::uuid[], $10::text[]) with ordinality e(id, args, n)) u",
            "select coalesce($3::timestamptz, now()) + make_interval(secs => $4::float8) as at offset 0",
            $end
        )
    };
}

/// Workers are told at commit.
macro_rules! telling {
    ($insert:expr) => {
        concat!(
            "with added as (",
            $insert,
            "), told as (select pg_notify('relaydesk_jobs', case when bool_or(priority > 0) then '~' else '' end || lane) \
                         from added where state = 'ready' group by lane) \
             select id, (select count(*) from told) from added"
        )
    };
}

const ADD: &str = insert_many!();
const ADD_ONE: &str = insert_one!();
const ADD_PLAIN: &str = insert_plain!();
const ADD_ALIKE: &str = insert_alike!("");
const ENQUEUE: &str = telling!(insert_many!());
const ENQUEUE_ONE: &str = telling!(insert_one!());
const ENQUEUE_PLAIN: &str = telling!(insert_plain!());
const ENQUEUE_ALIKE: &str = telling!(insert_alike!("returning id, lane, state, priority"));
