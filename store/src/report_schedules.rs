//! Reports that run by the clock.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field, within};
use crate::lock::lock;
use crate::words::word;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{Period, PeriodKind, ReportKind, ReportScheduleId, UserId};
use sqlx::{FromRow, Postgres, QueryBuilder};
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

#[derive(FromRow)]
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

/// What schedules can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "r.id"),
    field("name", Kind::LowerText, "lower(r.name)").by("lower(r.name)", "text"),
    field("kind", Kind::Words(ReportKind::WORDS), "r.kind"),
    field("time_zone", Kind::Text, "r.time_zone"),
    within(
        "recipient",
        Kind::LowerText,
        "exists (select from unnest(r.recipients) as a(address) where lower(a.address)",
    )
    .says("An address that gets it."),
    field("is_active", Kind::Flag, "r.is_active"),
    field("created_at", Kind::Time, "r.created_at").by("r.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "r.updated_at").by("r.updated_at", "timestamptz"),
];

/// `q` is a part of the name.
pub const LIST: List =
    List { from: "report_schedules r", fields: FIELDS, usual: "-created_at", id: Key::uuid("r.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<ReportSchedule>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "r.name");
    };
    let columns = "select r.id, r.name, r.kind, r.cron, r.time_zone, r.period, r.period_count, r.recipients, r.is_active, r.version, \
                   r.created_by, r.created_at, r.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}
