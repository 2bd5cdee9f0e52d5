//! `report-schedules`: reports that come by themselves.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::reports::{self, NewSchedule, ScheduleChange};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{PeriodKind, Permission, ReportKind, ReportScheduleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::report_schedules::{FIELDS, LIST, ReportSchedule};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// What the report looks back on, seen from its run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PeriodView {
    /// `previous_day`, `previous_week` (Monday to Sunday), `previous_month`, `last_n_days` (whole days before today) or
    /// `last_n_minutes` (up to the run itself).
    #[schema(value_type = String, example = "previous_day")]
    kind: PeriodKind,
    /// For the last two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ScheduleView {
    #[schema(value_type = uuid::Uuid)]
    id: ReportScheduleId,
    name: String,
    #[schema(value_type = String, example = "incidents_and_sla")]
    kind: ReportKind,
    cron: String,
    time_zone: String,
    period: PeriodView,
    recipients: Vec<String>,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<ReportSchedule> for ScheduleView {
    fn from(schedule: ReportSchedule) -> Self {
        ScheduleView {
            id: schedule.id,
            name: schedule.name,
            kind: schedule.kind,
            cron: schedule.cron,
            time_zone: schedule.time_zone,
            period: PeriodView { kind: schedule.period.kind, count: schedule.period.count },
            recipients: schedule.recipients,
            is_active: schedule.is_active,
            created_at: schedule.created_at,
            updated_at: schedule.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleInput {
    #[schema(example = "Every morning")]
    name: String,
    #[schema(value_type = String, example = "incidents_and_sla")]
    kind: ReportKind,
    /// Five fields with their Unix meaning, in `time_zone`.
    #[schema(example = "0 7 * * 1-5")]
    cron: String,
    /// IANA zone; UTC if it is left out.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    period: PeriodView,
    #[schema(example = json!(["boss@example.org"]))]
    recipients: Vec<String>,
    is_active: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SchedulePatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    cron: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    time_zone: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    period: Option<PeriodView>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    recipients: Option<Vec<String>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

filters!(ScheduleFilters, FIELDS);

/// List report schedules
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/report-schedules", tag = "reports", params(ListQuery, Search, Shaping, ScheduleFilters),
    responses((status = 200, body = Page<ScheduleView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::ReportsRun)?;
    shape.check::<ScheduleView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::report_schedules::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, ScheduleView::from)?))
}

/// Create a report schedule
#[utoipa::path(post, path = "/report-schedules", tag = "reports", request_body = ScheduleInput,
    responses((status = 201, body = ScheduleView), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ScheduleInput>,
) -> ApiResult<Response> {
    let new = NewSchedule {
        name: body.name,
        kind: body.kind,
        cron: body.cron,
        time_zone: body.time_zone.unwrap_or_else(|| "UTC".into()),
        period: body.period.kind,
        period_count: body.period.count,
        recipients: body.recipients,
        is_active: body.is_active.unwrap_or(true),
    };
    let mut tx = caller.begin(&state).await?;
    let schedule = reports::create_schedule(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    let location = format!("/api/v1/report-schedules/{}", schedule.id);
    Ok(etag::created(&location, schedule.version, ScheduleView::from(schedule)))
}

/// Show a report schedule
#[utoipa::path(get, path = "/report-schedules/{id}", tag = "reports", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ReportScheduleId>,
) -> ApiResult<Response> {
    caller.require(Permission::ReportsRun)?;
    let mut tx = caller.begin(&state).await?;
    let schedule = store::report_schedules::get(&mut tx, id).await?;
    Ok(etag::ok(schedule.version, ScheduleView::from(schedule)))
}

/// Change a report schedule
#[utoipa::path(patch, path = "/report-schedules/{id}", tag = "reports", params(("id" = uuid::Uuid, Path)),
    request_body = SchedulePatch, responses((status = 200, body = ScheduleView), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiPath(id): ApiPath<ReportScheduleId>,
    ApiJson(body): ApiJson<SchedulePatch>,
) -> ApiResult<Response> {
    let change = ScheduleChange {
        name: body.name,
        cron: body.cron,
        time_zone: body.time_zone,
        period: body.period.map(|period| (period.kind, period.count)),
        recipients: body.recipients,
        is_active: body.is_active,
    };
    let mut tx = caller.begin(&state).await?;
    let schedule =
        reports::update_schedule(&mut tx, &caller.actor(), id, if_match.version()?, change).await?;
    tx.commit().await?;
    Ok(etag::ok(schedule.version, ScheduleView::from(schedule)))
}

/// Delete a report schedule
///
/// Its executions stay.
#[utoipa::path(delete, path = "/report-schedules/{id}", tag = "reports", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ReportScheduleId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::ReportsManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::report_schedules::lock(&mut tx, id).await?.version)?;
    reports::delete_schedule(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
