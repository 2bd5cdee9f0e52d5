//! Runs of reports and what came out of them.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::reports::Summary;
use crate::words::word;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{OrganizationId, ReportExecutionId, ReportKind, ReportScheduleId, UserId};
use sqlx::FromRow;
use std::str::FromStr;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Queued,
    /// Made, and its mails are in the ledger.
    Done,
    Failed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        [Status::Queued, Status::Done, Status::Failed]
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| format!("unknown status {s:?}: expected queued, done or failed"))
    }
}

#[derive(Clone, Debug)]
pub struct NewExecution {
    pub id: ReportExecutionId,
    pub schedule: Option<ReportScheduleId>,
    /// What started it: asked for twice, run once.
    pub start_key: String,
    pub kind: ReportKind,
    pub time_zone: String,
    pub from: DateTime<Utc>,
    /// Not part of the period.
    pub to: DateTime<Utc>,
    pub recipients: Vec<String>,
    pub requested_by: Option<UserId>,
}

#[derive(Clone, Debug)]
pub struct Execution {
    pub id: ReportExecutionId,
    pub schedule: Option<ReportScheduleId>,
    pub kind: ReportKind,
    pub time_zone: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub recipients: Vec<String>,
    pub status: Status,
    pub summary: Option<serde_json::Value>,
    pub csv_bytes: Option<i32>,
    pub csv_rows: Option<i64>,
    pub error: Option<String>,
    pub job: Option<Uuid>,
    pub requested_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    schedule_id: Option<Uuid>,
    kind: String,
    time_zone: String,
    period_from: DateTime<Utc>,
    period_to: DateTime<Utc>,
    recipients: Vec<String>,
    status: String,
    summary: Option<serde_json::Value>,
    csv_bytes: Option<i32>,
    csv_rows: Option<i64>,
    error: Option<String>,
    job_id: Option<Uuid>,
    requested_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Execution {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        Ok(Execution {
            id: row.id.into(),
            schedule: row.schedule_id.map(Into::into),
            kind: word(&row.kind)?,
            time_zone: row.time_zone,
            from: row.period_from,
            to: row.period_to,
            recipients: row.recipients,
            status: word(&row.status)?,
            summary: row.summary,
            csv_bytes: row.csv_bytes,
            csv_rows: row.csv_rows,
            error: row.error,
            job: row.job_id,
            requested_by: row.requested_by.map(Into::into),
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

macro_rules! select {
    ($tail:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            Row,
            "select id, schedule_id, kind, time_zone, period_from, period_to, recipients, status, summary,
                    length(csv) as csv_bytes, csv_rows, error, job_id, requested_by, created_at, finished_at
               from report_executions " + $tail
            $(, $argument)*
        )
    };
}

/// Keeps a new execution; false when its start key is there already.
pub async fn insert(tx: &mut Tx, new: &NewExecution) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into report_executions (id, organization_id, schedule_id, start_key, kind, time_zone, period_from, period_to,
                                        recipients, requested_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict on constraint report_executions_start_key do nothing",
        new.id.0,
        organization.0,
        new.schedule.map(|schedule| schedule.0),
        new.start_key,
        new.kind.as_str(),
        new.time_zone,
        new.from,
        new.to,
        &new.recipients,
        new.requested_by.map(|user| user.0),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn set_job(tx: &mut Tx, id: ReportExecutionId, job: Uuid) -> Result<()> {
    sqlx::query!("update report_executions set job_id = $2 where id = $1", id.0, job)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: ReportExecutionId) -> Result<Execution> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// As [`get`], holding the row until the transaction ends.
pub async fn lock(tx: &mut Tx, id: ReportExecutionId) -> Result<Execution> {
    select!("where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?
        .try_into()
}

pub async fn finish(
    tx: &mut Tx,
    id: ReportExecutionId,
    summary: &Summary,
    csv: &[u8],
    csv_rows: i64,
) -> Result<()> {
    let now = tx.now();
    let summary = serde_json::to_value(summary).map_err(|error| Error::Corrupt(error.to_string()))?;
    sqlx::query!(
        "update report_executions
            set status = 'done', summary = $2, csv = $3, csv_rows = $4, error = null, finished_at = $5
          where id = $1",
        id.0,
        summary,
        csv,
        csv_rows,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes what went wrong; `last`: it will not be tried again.
pub async fn fail(tx: &mut Tx, id: ReportExecutionId, error: &str, last: bool) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update report_executions
            set status = case when $3 then 'failed' else status end, error = $2,
                finished_at = case when $3 then $4::timestamptz end
          where id = $1 and status <> 'done'",
        id.0,
        error,
        last,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Executions from before `before` that are not over. Needs a system transaction.
pub async fn unfinished(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, ReportExecutionId)>> {
    let rows = sqlx::query!(
        "select organization_id, id from report_executions
          where status = 'queued' and created_at < $1 order by created_at limit $2",
        before,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into())).collect())
}

/// The file of an execution that is done.
#[derive(Clone, Debug)]
pub struct Csv {
    pub file_name: String,
    pub bytes: Vec<u8>,
}

/// The file can be fetched without a login by who has the token, until then.
pub async fn allow_download(
    tx: &mut Tx,
    id: ReportExecutionId,
    token_hash: &str,
    until: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update report_executions set download_hash = $2, download_until = $3 where id = $1",
        id.0,
        token_hash,
        until
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a download token is for, and until when it is good. Needs a transaction that presents its hash.
pub async fn by_download(
    tx: &mut Tx,
    token_hash: &str,
) -> Result<(OrganizationId, ReportExecutionId, DateTime<Utc>)> {
    let row = sqlx::query!(
        r#"select organization_id, id, download_until as "until!" from report_executions where download_hash = $1"#,
        token_hash
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    Ok((row.organization_id.into(), row.id.into(), row.until))
}

pub async fn csv(tx: &mut Tx, id: ReportExecutionId) -> Result<Csv> {
    let row = sqlx::query!(
        r#"select kind, period_from, period_to, time_zone, csv as "csv!" from report_executions
            where id = $1 and csv is not null"#,
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    let zone: chrono_tz::Tz = row.time_zone.parse().unwrap_or(chrono_tz::UTC);
    let day = |time: DateTime<Utc>| time.with_timezone(&zone).format("%Y-%m-%d").to_string();
    // The period ends before `to`.
    let last = row.period_to - chrono::TimeDelta::seconds(1);
    let file_name = format!("{}_{}_{}.csv", row.kind, day(row.period_from), day(last));
    Ok(Csv { file_name, bytes: row.csv })
}

/// What runs can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "x.id"),
    field("schedule", Kind::Id, "x.schedule_id").or_null(),
    field("kind", Kind::Words(ReportKind::WORDS), "x.kind"),
    field("status", Kind::Words(&["queued", "done", "failed"]), "x.status"),
    field("requested_by", Kind::Id, "x.requested_by").or_null(),
    field("from", Kind::Time, "x.period_from"),
    field("to", Kind::Time, "x.period_to"),
    field("created_at", Kind::Time, "x.created_at").by("x.created_at", "timestamptz"),
    field("finished_at", Kind::Time, "x.finished_at").or_null(),
];

pub const LIST: List =
    List { from: "report_executions x", fields: FIELDS, usual: "-created_at", id: Key::uuid("x.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Execution>>> {
    let columns = "select x.id, x.schedule_id, x.kind, x.time_zone, x.period_from, x.period_to, x.recipients, x.status, x.summary, \
                   length(x.csv) as csv_bytes, x.csv_rows, x.error, x.job_id, x.requested_by, x.created_at, x.finished_at";
    LIST.rows::<Row, _>(tx, wanted, columns, |_| {}).await
}
