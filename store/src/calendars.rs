//! Business calendars with their windows and holidays.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx};
use chrono::{DateTime, NaiveDate, Utc, Weekday};
use domain::CalendarId;
use domain::calendar::{Calendar, Window};
use serde::Deserialize;
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct BusinessCalendar {
    pub id: CalendarId,
    pub name: String,
    pub time_zone: String,
    pub windows: Vec<(Weekday, Window)>,
    pub holidays: Vec<Holiday>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Holiday {
    pub day: NaiveDate,
    pub name: String,
}

impl BusinessCalendar {
    /// What the rows mean. They were checked when they were written.
    pub fn rules(&self) -> Result<Calendar> {
        Calendar::new(&self.time_zone, self.windows.iter().copied(), self.holidays.iter().map(|h| h.day))
            .map_err(|error| Error::Corrupt(format!("calendar {}: {error}", self.id)))
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    time_zone: String,
    windows: serde_json::Value,
    holidays: serde_json::Value,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for BusinessCalendar {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let corrupt = |error: &dyn std::fmt::Display| Error::Corrupt(format!("calendar {}: {error}", row.id));
        let windows: Vec<(u8, u32, u32)> = serde_json::from_value(row.windows).map_err(|e| corrupt(&e))?;
        let windows = windows
            .into_iter()
            .map(|(weekday, opens, closes)| {
                let weekday = weekday.checked_sub(1).and_then(|day| Weekday::try_from(day).ok());
                Ok((weekday.ok_or_else(|| corrupt(&"no such weekday"))?, Window { opens, closes }))
            })
            .collect::<Result<_>>()?;
        Ok(BusinessCalendar {
            id: row.id.into(),
            name: row.name,
            time_zone: row.time_zone,
            windows,
            holidays: serde_json::from_value(row.holidays).map_err(|e| corrupt(&e))?,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select id, name, time_zone, version, created_at, updated_at,
                      coalesce((select json_agg(json_build_array(w.weekday, w.opens, w.closes) order by w.weekday, w.opens)
                                  from business_windows w where w.calendar_id = c.id), '[]') as "windows!",
                      coalesce((select json_agg(json_build_object('day', h.day, 'name', h.name) order by h.day)
                                  from holidays h where h.calendar_id = c.id), '[]') as "holidays!"
                 from business_calendars c "# + $tail,
            $($argument),*
        )
    };
}

pub async fn get(tx: &mut Tx, id: CalendarId) -> Result<BusinessCalendar> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// Reads it and keeps others from changing it until the transaction ends.
pub async fn lock(tx: &mut Tx, id: CalendarId) -> Result<BusinessCalendar> {
    // Two statements: one that waited for the lock would see the new row with the windows and holidays of before.
    sqlx::query_scalar!("select id from business_calendars where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// What calendars can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("name", Kind::LowerText, "lower(c.name)").by("lower(c.name)", "text"),
    field("time_zone", Kind::Text, "c.time_zone"),
    field("created_at", Kind::Time, "c.created_at").by("c.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "c.updated_at").by("c.updated_at", "timestamptz"),
];

/// `q` is a part of the name.
pub const LIST: List =
    List { from: "business_calendars c", fields: FIELDS, usual: "-created_at", id: Key::uuid("c.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<BusinessCalendar>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "c.name");
    };
    let columns = "select c.id, c.name, c.time_zone, c.version, c.created_at, c.updated_at, \
                   coalesce((select json_agg(json_build_array(w.weekday, w.opens, w.closes) order by w.weekday, w.opens) \
                               from business_windows w where w.calendar_id = c.id), '[]') as windows, \
                   coalesce((select json_agg(json_build_object('day', h.day, 'name', h.name) order by h.day) \
                               from holidays h where h.calendar_id = c.id), '[]') as holidays";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

pub async fn insert(tx: &mut Tx, calendar: &BusinessCalendar) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into business_calendars (id, organization_id, name, time_zone, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6)",
        calendar.id.0,
        organization.0,
        calendar.name,
        calendar.time_zone,
        calendar.created_at,
        calendar.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    insert_hours(tx, calendar).await
}

/// Writes everything anew, provided that the row still has the given version.
pub async fn update(tx: &mut Tx, calendar: &BusinessCalendar) -> Result<()> {
    let done = sqlx::query!(
        "update business_calendars set name = $3, time_zone = $4, updated_at = $5, version = version + 1
          where id = $1 and version = $2",
        calendar.id.0,
        calendar.version,
        calendar.name,
        calendar.time_zone,
        calendar.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() != 1 {
        return Err(Error::Stale);
    }
    sqlx::query!("delete from business_windows where calendar_id = $1", calendar.id.0)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("delete from holidays where calendar_id = $1", calendar.id.0).execute(&mut **tx).await?;
    insert_hours(tx, calendar).await
}

async fn insert_hours(tx: &mut Tx, calendar: &BusinessCalendar) -> Result<()> {
    let organization = tx.organization();
    let windows = &calendar.windows;
    let weekdays: Vec<i16> = windows.iter().map(|(day, _)| day.number_from_monday() as i16).collect();
    let opens: Vec<i32> = windows.iter().map(|(_, window)| window.opens as i32).collect();
    let closes: Vec<i32> = windows.iter().map(|(_, window)| window.closes as i32).collect();
    sqlx::query!(
        "insert into business_windows (organization_id, calendar_id, weekday, opens, closes)
         select $1, $2, * from unnest($3::int2[], $4::int4[], $5::int4[])",
        organization.0,
        calendar.id.0,
        &weekdays,
        &opens,
        &closes,
    )
    .execute(&mut **tx)
    .await?;
    let days: Vec<NaiveDate> = calendar.holidays.iter().map(|holiday| holiday.day).collect();
    let names: Vec<String> = calendar.holidays.iter().map(|holiday| holiday.name.clone()).collect();
    sqlx::query!(
        "insert into holidays (organization_id, calendar_id, day, name)
         select $1, $2, * from unnest($3::date[], $4::text[])",
        organization.0,
        calendar.id.0,
        &days,
        &names,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// True while a clock that may still run counts by it.
pub async fn has_open_clocks(tx: &mut Tx, id: CalendarId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from sla_clocks where calendar_id = $1 and phase in ('running', 'paused')) as "found!""#,
        id.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

pub async fn delete(tx: &mut Tx, id: CalendarId) -> Result<()> {
    let done = sqlx::query!("delete from business_calendars where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
