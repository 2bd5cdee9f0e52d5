//! Business calendars: who may edit them, and what an edit means for clocks that run.

use crate::{Error, FieldError, Result, check, events, sla};
use chrono::Weekday;
use domain::calendar::{Calendar, CalendarError, Window};
use domain::permission::{self, Permission};
use domain::{Actor, CalendarId};
use serde_json::json;
use std::collections::BTreeSet;
use store::Tx;
use store::calendars::{BusinessCalendar, Holiday};

/// Enough for twenty years of fifty holidays each.
const MOST_HOLIDAYS: usize = 1000;
const MOST_WINDOWS: usize = 7 * 24;

#[derive(Clone, Debug, PartialEq)]
pub struct NewCalendar {
    pub name: String,
    /// An IANA name.
    pub time_zone: String,
    pub windows: Vec<(Weekday, Window)>,
    pub holidays: Vec<Holiday>,
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewCalendar) -> Result<BusinessCalendar> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(new)?;
    let now = tx.now();
    let calendar = BusinessCalendar {
        id: CalendarId::new(),
        name: new.name,
        time_zone: new.time_zone,
        windows: new.windows,
        holidays: new.holidays,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::calendars::insert(tx, &calendar).await.map_err(named)?;
    events::record(
        tx,
        actor,
        "calendar.created",
        None,
        json!({"calendar": calendar.id, "name": calendar.name}),
    )
    .await?;
    Ok(calendar)
}

/// Replaces everything. Clocks that run by it are worked out anew by a job. `version`: only if it still has this one.
pub async fn replace(
    tx: &mut Tx,
    actor: &Actor,
    id: CalendarId,
    version: Option<i64>,
    new: NewCalendar,
) -> Result<BusinessCalendar> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(new)?;
    let mut calendar = store::calendars::lock(tx, id).await?;
    if version.is_some_and(|version| version != calendar.version) {
        return Err(Error::Stale);
    }
    let before = calendar.clone();
    (calendar.name, calendar.time_zone) = (new.name, new.time_zone);
    (calendar.windows, calendar.holidays) = (new.windows, new.holidays);
    calendar.updated_at = tx.now();
    store::calendars::update(tx, &calendar).await.map_err(named)?;
    events::record(tx, actor, "calendar.updated", None, json!({"calendar": id, "name": calendar.name}))
        .await?;
    calendar.version += 1;
    if before.rules()? != calendar.rules()? {
        sla::request_recompute(tx, actor).await?;
    }
    Ok(calendar)
}

/// Refused while a policy or a running clock counts by it.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: CalendarId) -> Result<()> {
    permission::check(actor, Permission::SlaManage)?;
    store::calendars::lock(tx, id).await?;
    if store::calendars::has_open_clocks(tx, id).await? {
        return Err(Error::conflict("clocks of open tickets still run by this calendar"));
    }
    store::calendars::delete(tx, id).await.map_err(named)?;
    events::record(tx, actor, "calendar.deleted", None, json!({"calendar": id})).await?;
    Ok(())
}

fn checked(mut new: NewCalendar) -> Result<NewCalendar> {
    let mut wrong = Vec::new();
    check::name_among(&mut wrong, &mut new.name);
    let mut field = |pointer: &str, detail: String| {
        wrong.push(FieldError { pointer: pointer.into(), detail });
    };
    if new.windows.is_empty() {
        field("/windows", "a calendar without any window never opens: add one".into());
    }
    if new.windows.len() > MOST_WINDOWS {
        field("/windows", format!("must have at most {MOST_WINDOWS} entries"));
    }
    if new.holidays.len() > MOST_HOLIDAYS {
        field("/holidays", format!("must have at most {MOST_HOLIDAYS} entries"));
    }
    let mut days = BTreeSet::new();
    for (index, holiday) in new.holidays.iter().enumerate() {
        if !days.insert(holiday.day) {
            field(&format!("/holidays/{index}/date"), format!("{} is there twice", holiday.day));
        }
        if holiday.name.chars().count() > 200 || holiday.name.contains(char::is_control) {
            let detail = "must be one line of at most 200 characters";
            field(&format!("/holidays/{index}/name"), detail.into());
        }
    }
    if let Err(error) = Calendar::new(&new.time_zone, new.windows.iter().copied(), days) {
        let pointer = match error {
            CalendarError::Zone(_) => "/time_zone",
            CalendarError::Time(_) | CalendarError::Order | CalendarError::Overlap(_) => "/windows",
        };
        field(pointer, error.to_string());
    }
    if wrong.is_empty() { Ok(new) } else { Err(Error::Invalid(wrong)) }
}

fn named(error: store::Error) -> Error {
    match error.constraint() {
        Some("business_calendars_name_key") => Error::conflict("there is a calendar of this name already"),
        Some("sla_policies_calendar_fkey") => {
            Error::conflict("an SLA policy counts by this calendar: give the policy another one first")
        }
        _ => error.into(),
    }
}
