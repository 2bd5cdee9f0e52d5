//! `reports`: run one now.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::reports::{self, ReportRequest};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{Permission, ReportExecutionId, ReportKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, run))
}

/// A report that there is.
#[derive(Debug, Serialize, ToSchema)]
struct ReportView {
    #[schema(value_type = String, example = "incidents_and_sla")]
    kind: ReportKind,
    title: &'static str,
    description: &'static str,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReportInput {
    #[schema(value_type = String, example = "incidents_and_sla")]
    kind: ReportKind,
    #[serde(deserialize_with = "crate::moment::required")]
    from: DateTime<Utc>,
    /// Not part of the period.
    #[serde(deserialize_with = "crate::moment::required")]
    to: DateTime<Utc>,
    /// IANA zone in which days are shown; UTC if it is left out.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// E-mail addresses. None: the result is kept, to be fetched from `report-executions`.
    #[serde(default)]
    #[schema(example = json!(["boss@example.org"]))]
    recipients: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Started {
    job: Uuid,
    #[schema(value_type = Uuid)]
    execution: ReportExecutionId,
}

const FIELDS: &[Field] = &[
    field("kind", Kind::Words(ReportKind::WORDS), "kind").by("kind", "text"),
    field("title", Kind::LowerText, "title").by("title", "text"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "kind", id: Key { sql: "kind", cast: "text" } };

filters!(ReportFilters, FIELDS);

/// List the reports there are
///
/// Sorts by kind or title; by kind, if nothing is named.
#[utoipa::path(get, path = "/reports", tag = "reports", params(ListQuery, Shaping, ReportFilters), responses((status = 200, body = Page<ReportView>)))]
async fn list(caller: Caller, query: WholeQuery) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::ReportsRun)?;
    let picked = query.of::<ReportView>(&LIST, &caller)?;
    let view = |kind: &ReportKind| match kind {
        ReportKind::IncidentsAndSla => ReportView {
            kind: *kind,
            title: "Incidents and SLA",
            description: "What was opened, resolved and left open, times to response and resolution, targets met and \
                          breached, and the list of incidents",
        },
    };
    Ok(Json(picked.page(ReportKind::ALL.iter().map(view))?))
}

/// Run a report
///
/// It is made by a job, kept as an execution, and mailed to the recipients with the list of incidents as CSV.
#[utoipa::path(post, path = "/reports", tag = "reports", request_body = ReportInput,
    responses((status = 202, body = Started), (status = 422, body = Problem)))]
async fn run(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ReportInput>,
) -> ApiResult<(StatusCode, Json<Started>)> {
    let request = ReportRequest {
        kind: body.kind,
        from: body.from,
        to: body.to,
        time_zone: body.time_zone.unwrap_or_else(|| "UTC".into()),
        recipients: body.recipients,
    };
    let mut tx = caller.begin(&state).await?;
    let started = reports::request(&mut tx, &caller.actor(), request).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Started { job: started.job.0, execution: started.execution })))
}
