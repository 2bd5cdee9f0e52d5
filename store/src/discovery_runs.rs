//! Runs and previews of discovery sources, and what they found.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::{RunMode, RunStatus};
use domain::{DiscoveryRunId, DiscoverySourceId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// Items by what became of them; `read` is the number of rows of the inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    pub read: u64,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Newly missing.
    pub missing: u64,
    /// Missing since an earlier run.
    pub still_missing: u64,
    pub failed: u64,
}

#[derive(Clone, Debug)]
pub struct DiscoveryRun {
    pub id: DiscoveryRunId,
    pub source: DiscoverySourceId,
    pub mode: RunMode,
    pub status: RunStatus,
    pub job: Option<Uuid>,
    pub counts: RunCounts,
    /// The first differences, item by item.
    pub sample: Value,
    /// Rows that could not be used, and why.
    pub errors: Value,
    /// Why the whole run failed.
    pub error: Option<String>,
    pub requested_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    source_id: Uuid,
    mode: String,
    status: String,
    job_id: Option<Uuid>,
    counts: Value,
    sample: Value,
    errors: Value,
    error: Option<String>,
    requested_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for DiscoveryRun {
    type Error = Error;
    fn try_from(row: Row) -> Result<DiscoveryRun> {
        Ok(DiscoveryRun {
            id: row.id.into(),
            source: row.source_id.into(),
            mode: word(&row.mode)?,
            status: word(&row.status)?,
            job: row.job_id,
            counts: serde_json::from_value(row.counts)
                .map_err(|error| Error::Corrupt(format!("counts of discovery run {}: {error}", row.id)))?,
            sample: row.sample,
            errors: row.errors,
            error: row.error,
            requested_by: row.requested_by.map(Into::into),
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

/// Waits for its job. While another run of the source is unfinished it violates `discovery_runs_unfinished_key`.
pub async fn insert(
    tx: &mut Tx,
    id: DiscoveryRunId,
    source: DiscoverySourceId,
    mode: RunMode,
    requested_by: Option<UserId>,
) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into discovery_runs (id, organization_id, source_id, mode, status, requested_by, created_at)
         values ($1, $2, $3, $4, 'queued', $5, $6)",
        id.0,
        organization.0,
        source.0,
        mode.as_str(),
        requested_by.map(|id| id.0),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn set_job(tx: &mut Tx, id: DiscoveryRunId, job: Uuid) -> Result<()> {
    sqlx::query!("update discovery_runs set job_id = $2 where id = $1", id.0, job).execute(&mut **tx).await?;
    Ok(())
}

/// The unfinished run of a source, if there is one, and its job.
pub async fn unfinished(
    tx: &mut Tx,
    source: DiscoverySourceId,
) -> Result<Option<(DiscoveryRunId, Option<Uuid>)>> {
    let row = sqlx::query!(
        "select id, job_id from discovery_runs where source_id = $1 and status in ('queued', 'running')",
        source.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.job_id)))
}

pub async fn start(tx: &mut Tx, id: DiscoveryRunId) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update discovery_runs set status = 'running', started_at = coalesce(started_at, $2) where id = $1 and status = 'queued'",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Found {
    pub counts: RunCounts,
    pub sample: Value,
    pub errors: Value,
}

/// False when it has ended already: what this run wrote must not be kept then.
pub async fn finish(
    tx: &mut Tx,
    id: DiscoveryRunId,
    found: Option<&Found>,
    error: Option<&str>,
) -> Result<bool> {
    let now = tx.now();
    let status = if error.is_some() { RunStatus::Failed } else { RunStatus::Succeeded };
    let done = sqlx::query!(
        "update discovery_runs
            set status = $2, error = $3, counts = coalesce($4, counts), sample = coalesce($5, sample),
                errors = coalesce($6, errors), finished_at = $7
          where id = $1 and finished_at is null",
        id.0,
        status.as_str(),
        error,
        found.map(|found| serde_json::to_value(found.counts).expect("numbers are JSON")),
        found.map(|found| found.sample.clone()),
        found.map(|found| found.errors.clone()),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub async fn get(tx: &mut Tx, id: DiscoveryRunId) -> Result<DiscoveryRun> {
    sqlx::query_as!(
        Row,
        "select id, source_id, mode, status, job_id, counts, sample, errors, error, requested_by, created_at, started_at,
                    finished_at from discovery_runs where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// What the runs of a source can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "r.id"),
    field("mode", Kind::Words(RunMode::WORDS), "r.mode"),
    field("status", Kind::Words(RunStatus::WORDS), "r.status"),
    field("job", Kind::Id, "r.job_id").or_null(),
    field("created_at", Kind::Time, "r.created_at").by_id(),
    field("started_at", Kind::Time, "r.started_at").or_null(),
    field("finished_at", Kind::Time, "r.finished_at").or_null(),
];

pub const LIST: List =
    List { from: "discovery_runs r", fields: FIELDS, usual: "-created_at", id: Key::uuid("r.id") };

pub async fn list(
    tx: &mut Tx,
    source: DiscoverySourceId,
    wanted: &Wanted,
) -> Result<Vec<Placed<DiscoveryRun>>> {
    let columns = "select r.id, r.source_id, r.mode, r.status, r.job_id, r.counts, r.sample, r.errors, r.error, r.requested_by, \
                   r.created_at, r.started_at, r.finished_at";
    let more = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(" and r.source_id = ").push_bind(source.0);
    };
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}
