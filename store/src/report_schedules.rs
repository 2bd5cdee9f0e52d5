//! Reports that run by the clock.

use crate::lock::lock;
use crate::words::word;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{Period, PeriodKind, ReportKind, ReportScheduleId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct ReportSchedule {
    pub id: ReportScheduleId,
    pub name: String,
    pub kind: ReportKind,
    /// Five fields, Unix meaning.
    pub cron: String,
    /// IANA name.
    pub time_zone: String,
    pub period: Period,
    pub recipients: Vec<String>,
    pub is_active: bool,
    pub version: i64,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    name: String,
    kind: String,
    cron: String,
    time_zone: String,
    period: String,
    period_count: Option<i32>,
    recipients: Vec<String>,
    is_active: bool,
    version: i64,
    created_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for ReportSchedule {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let period: PeriodKind = word(&row.period)?;
        let count = row.period_count.and_then(|count| u32::try_from(count).ok());
        Ok(ReportSchedule {
            id: row.id.into(),
            name: row.name,
            kind: word(&row.kind)?,
            cron: row.cron,
            time_zone: row.time_zone,
            period: Period::new(period, count).map_err(|error| Error::Corrupt(error.to_string()))?,
            recipients: row.recipients,
            is_active: row.is_active,
            version: row.version,
            created_by: row.created_by.map(Into::into),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select {
    ($tail:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            Row,
            "select id, name, kind, cron, time_zone, period, period_count, recipients, is_active, version, created_by,
                    created_at, updated_at from report_schedules " + $tail
            $(, $argument)*
        )
    };
}

fn count(period: Period) -> Option<i32> {
    period.count.and_then(|count| i32::try_from(count).ok())
}

/// Times and version of `schedule` are ignored: they begin now.
pub async fn insert(tx: &mut Tx, schedule: &ReportSchedule) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into report_schedules (id, organization_id, name, kind, cron, time_zone, period, period_count, recipients,
                                       is_active, created_by, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)",
        schedule.id.0,
        organization.0,
        schedule.name,
        schedule.kind.as_str(),
        schedule.cron,
        schedule.time_zone,
        schedule.period.kind.as_str(),
        count(schedule.period),
        &schedule.recipients,
        schedule.is_active,
        schedule.created_by.map(|user| user.0),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: ReportScheduleId) -> Result<ReportSchedule> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// Changes the row if it still has the version of `schedule`.
pub async fn update(tx: &mut Tx, schedule: &ReportSchedule) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update report_schedules
            set name = $3, kind = $4, cron = $5, time_zone = $6, period = $7, period_count = $8, recipients = $9,
                is_active = $10, version = version + 1, updated_at = $11
          where id = $1 and version = $2",
        schedule.id.0,
        schedule.version,
        schedule.name,
        schedule.kind.as_str(),
        schedule.cron,
        schedule.time_zone,
        schedule.period.kind.as_str(),
        count(schedule.period),
        &schedule.recipients,
        schedule.is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

/// Its executions stay.
pub async fn delete(tx: &mut Tx, id: ReportScheduleId) -> Result<()> {
    let done = sqlx::query!("delete from report_schedules where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

lock!(ReportScheduleId => ReportSchedule, "select id from report_schedules where id = $1 for no key update");

/// Newest first, at most `limit`, after the position `(created_at, id)`.
pub async fn list(
    tx: &mut Tx,
    q: Option<&str>,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<ReportSchedule>> {
    let (after_at, after_id) = after.unzip();
    select!(
        "where ($1::timestamptz is null or (created_at, id) < ($1, $2::uuid))
           and ($4::text is null or position(lower($4) in lower(name)) > 0)
         order by created_at desc, id desc limit $3",
        after_at,
        after_id,
        limit,
        q
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}
