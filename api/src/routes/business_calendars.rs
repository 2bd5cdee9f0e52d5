//! Business calendars: when SLA clocks run.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::calendars::NewCalendar;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc, Weekday};
use domain::calendar::{Window, format_time_of_day, parse_time_of_day};
use domain::sla_policy::LONGEST_TARGET;
use domain::{CalendarId, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::calendars::{BusinessCalendar, FIELDS, Holiday, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_calendars, create_calendar))
        .routes(routes!(show_calendar, update_calendar, delete_calendar))
        .routes(routes!(calculate))
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A span of a weekday in which time counts, by the wall clock of the calendar's zone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WindowBody {
    #[schema(example = "monday")]
    weekday: String,
    #[schema(example = "08:00")]
    opens: String,
    /// Up to 24:00, which is the end of the day.
    #[schema(example = "12:00")]
    closes: String,
}

/// A whole local day on which no time counts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HolidayBody {
    #[schema(example = "2026-12-25")]
    #[serde(deserialize_with = "crate::moment::day")]
    date: NaiveDate,
    #[serde(default)]
    #[schema(example = "Christmas Day")]
    name: String,
}

/// Weekly hours in a time zone, less holidays.
#[derive(Serialize, ToSchema)]
struct CalendarView {
    id: Uuid,
    #[schema(example = "Office Berlin")]
    name: String,
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    windows: Vec<WindowBody>,
    holidays: Vec<HolidayBody>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<BusinessCalendar> for CalendarView {
    fn from(calendar: BusinessCalendar) -> Self {
        let window = |(weekday, window): (Weekday, Window)| WindowBody {
            weekday: WEEKDAYS[weekday.num_days_from_monday() as usize].to_owned(),
            opens: format_time_of_day(window.opens),
            closes: format_time_of_day(window.closes),
        };
        CalendarView {
            id: calendar.id.0,
            name: calendar.name,
            time_zone: calendar.time_zone,
            windows: calendar.windows.into_iter().map(window).collect(),
            holidays: calendar
                .holidays
                .into_iter()
                .map(|h| HolidayBody { date: h.day, name: h.name })
                .collect(),
            version: calendar.version,
            created_at: calendar.created_at,
            updated_at: calendar.updated_at,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCalendarBody {
    name: String,
    time_zone: String,
    windows: Vec<WindowBody>,
    #[serde(default)]
    holidays: Vec<HolidayBody>,
}

/// Windows and holidays are replaced as a whole.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CalendarPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    time_zone: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    windows: Option<Vec<WindowBody>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    holidays: Option<Vec<HolidayBody>>,
}

fn read_windows(windows: Vec<WindowBody>) -> ApiResult<Vec<(Weekday, Window)>> {
    let read = |(index, body): (usize, WindowBody)| {
        let at = |field: &str| format!("/windows/{index}/{field}");
        let weekday = WEEKDAYS
            .iter()
            .position(|name| *name == body.weekday)
            .and_then(|n| Weekday::try_from(n as u8).ok());
        let weekday = weekday.ok_or_else(|| {
            Problem::invalid(at("weekday"), format!("must be one of {}", WEEKDAYS.join(", ")))
        })?;
        let time = |field: &str, text: &str| {
            parse_time_of_day(text).map_err(|error| Problem::invalid(at(field), error.to_string()))
        };
        Ok((weekday, Window { opens: time("opens", &body.opens)?, closes: time("closes", &body.closes)? }))
    };
    windows.into_iter().enumerate().map(read).collect()
}

fn read_holidays(holidays: Vec<HolidayBody>) -> Vec<Holiday> {
    holidays.into_iter().map(|holiday| Holiday { day: holiday.date, name: holiday.name }).collect()
}

filters!(CalendarFilters, FIELDS);

/// List business calendars
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/business-calendars", tag = "sla", params(ListQuery, Search, Shaping, CalendarFilters),
    responses((status = 200, body = Page<CalendarView>)))]
async fn list_calendars(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::SlaRead)?;
    shape.check::<CalendarView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::calendars::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, CalendarView::from)?))
}

/// Create a business calendar
#[utoipa::path(post, path = "/business-calendars", tag = "sla", request_body = NewCalendarBody,
    responses((status = 201, body = CalendarView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create_calendar(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewCalendarBody>,
) -> ApiResult<Response> {
    let new = NewCalendar {
        name: body.name,
        time_zone: body.time_zone,
        windows: read_windows(body.windows)?,
        holidays: read_holidays(body.holidays),
    };
    let mut tx = caller.begin(&state).await?;
    let made = actions::calendars::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    Ok(etag::created(
        &format!("/api/v1/business-calendars/{}", made.id),
        made.version,
        CalendarView::from(made),
    ))
}

/// Show a business calendar
#[utoipa::path(get, path = "/business-calendars/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 200, body = CalendarView), (status = 404, body = Problem)))]
async fn show_calendar(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<CalendarId>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = store::calendars::get(&mut tx, id).await?;
    Ok(etag::ok(found.version, CalendarView::from(found)))
}

/// Change a business calendar: clocks that run by it are worked out anew
#[utoipa::path(patch, path = "/business-calendars/{id}", tag = "sla", params(("id" = Uuid, Path)),
    request_body = CalendarPatch, responses((status = 200, body = CalendarView), (status = 412, body = Problem)))]
async fn update_calendar(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<CalendarId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<CalendarPatch>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = store::calendars::lock(&mut tx, id).await?;
    if_match.check(before.version)?;
    let new = NewCalendar {
        name: body.name.unwrap_or(before.name),
        time_zone: body.time_zone.unwrap_or(before.time_zone),
        windows: body.windows.map_or(Ok(before.windows), read_windows)?,
        holidays: body.holidays.map_or(before.holidays, read_holidays),
    };
    let after = actions::calendars::replace(&mut tx, &caller.actor(), id, Some(before.version), new).await?;
    tx.commit().await?;
    Ok(etag::ok(after.version, CalendarView::from(after)))
}

/// Delete a business calendar that no policy uses
#[utoipa::path(delete, path = "/business-calendars/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 409, body = Problem)))]
async fn delete_calendar(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<CalendarId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::calendars::lock(&mut tx, id).await?.version)?;
    actions::calendars::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Calculation {
    #[schema(example = "2026-11-20T15:00:00Z")]
    #[serde(deserialize_with = "crate::moment::required")]
    start: DateTime<Utc>,
    /// Working time.
    #[schema(example = 7200)]
    seconds: i32,
}

#[derive(Serialize, ToSchema)]
struct Calculated {
    due_at: DateTime<Utc>,
    /// The same on the wall clock of the calendar's zone.
    #[schema(example = "2026-11-23T09:00:00+01:00")]
    due_local: String,
    /// Whether the calendar is open at the start.
    open_at_start: bool,
}

/// Try a calendar: when has so much working time passed
#[utoipa::path(post, path = "/business-calendars/{id}/calculate", tag = "sla", params(("id" = Uuid, Path)),
    request_body = Calculation, responses((status = 200, body = Calculated), (status = 422, body = Problem)))]
async fn calculate(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<CalendarId>,
    ApiJson(body): ApiJson<Calculation>,
) -> ApiResult<Json<Calculated>> {
    caller.require(Permission::SlaRead)?;
    if !(1..=LONGEST_TARGET).contains(&body.seconds) {
        return Err(Problem::invalid("/seconds", format!("must be between 1 and {LONGEST_TARGET}")));
    }
    let mut tx = caller.begin(&state).await?;
    let rules = store::calendars::get(&mut tx, id).await?.rules()?;
    let due_at = rules
        .add_working(body.start, TimeDelta::seconds(body.seconds.into()))
        .ok_or_else(|| Problem::invalid("/seconds", "in this calendar that takes more than fifty years"))?;
    let due_local = due_at.with_timezone(&rules.zone()).to_rfc3339();
    Ok(Json(Calculated { due_at, due_local, open_at_start: rules.is_open(body.start) }))
}
