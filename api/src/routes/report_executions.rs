//! `report-executions`: every run of a report and what came out of it.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::{Permission, ReportExecutionId, ReportKind, ReportScheduleId, UserId};
use serde::Serialize;
use serde_json::Value;
use store::report_executions::{self, Csv, Execution, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(csv))
}

#[derive(Debug, Serialize, ToSchema)]
struct ExecutionView {
    #[schema(value_type = Uuid)]
    id: ReportExecutionId,
    #[schema(value_type = Option<Uuid>)]
    schedule: Option<ReportScheduleId>,
    #[schema(value_type = String, example = "incidents_and_sla")]
    kind: ReportKind,
    /// `queued`, `done` or `failed`.
    #[schema(example = "done")]
    status: &'static str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    time_zone: String,
    recipients: Vec<String>,
    /// The figures, once it is done. Times are in seconds.
    #[schema(value_type = Option<Object>)]
    summary: Option<Value>,
    /// How many incidents are in the file.
    incidents: Option<i64>,
    csv_bytes: Option<i32>,
    error: Option<String>,
    job: Option<Uuid>,
    #[schema(value_type = Option<Uuid>)]
    requested_by: Option<UserId>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        ExecutionView {
            id: execution.id,
            schedule: execution.schedule,
            kind: execution.kind,
            status: execution.status.as_str(),
            from: execution.from,
            to: execution.to,
            time_zone: execution.time_zone,
            recipients: execution.recipients,
            summary: execution.summary,
            incidents: execution.csv_rows,
            csv_bytes: execution.csv_bytes,
            error: execution.error,
            job: execution.job,
            requested_by: execution.requested_by,
            created_at: execution.created_at,
            finished_at: execution.finished_at,
        }
    }
}

filters!(ExecutionFilters, FIELDS);

/// List report executions
///
/// Sorts by created_at; newest first, if nothing is named.
#[utoipa::path(get, path = "/report-executions", tag = "reports", params(ListQuery, Shaping, ExecutionFilters),
    responses((status = 200, body = Page<ExecutionView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require_wide(Permission::ReportsRun)?;
    shape.check::<ExecutionView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = report_executions::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, ExecutionView::from)?))
}

/// Show a report execution
#[utoipa::path(get, path = "/report-executions/{id}", tag = "reports", params(("id" = Uuid, Path)),
    responses((status = 200, body = ExecutionView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ReportExecutionId>,
) -> ApiResult<Json<ExecutionView>> {
    caller.require_wide(Permission::ReportsRun)?;
    let mut tx = caller.begin(&state).await?;
    Ok(Json(report_executions::get(&mut tx, id).await?.into()))
}

/// Download the incidents of a report
#[utoipa::path(get, path = "/report-executions/{id}/csv", tag = "reports", params(("id" = Uuid, Path)),
    responses((status = 200, body = String, content_type = "text/csv"), (status = 404, body = Problem)))]
async fn csv(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ReportExecutionId>,
) -> ApiResult<Response> {
    caller.require_wide(Permission::ReportsRun)?;
    let mut tx = caller.begin(&state).await?;
    file(report_executions::csv(&mut tx, id).await?)
}

/// The file of a report as an attachment.
pub(super) fn file(csv: Csv) -> ApiResult<Response> {
    let disposition = format!("attachment; filename=\"{}\"", csv.file_name);
    let disposition = HeaderValue::from_str(&disposition).map_err(|error| Problem::internal(&error))?;
    let media_type = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    Ok(([(header::CONTENT_TYPE, media_type), (header::CONTENT_DISPOSITION, disposition)], csv.bytes)
        .into_response())
}
