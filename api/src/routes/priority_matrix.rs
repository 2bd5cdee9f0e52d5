//! `priority-matrix`: impact × urgency → priority, of the caller's organization.

use crate::{ApiJson, ApiResult, AppState, Caller, IfMatch, etag};
use axum::extract::State;
use axum::response::Response;
use domain::Permission;
use domain::ticket::{Level, Priority, PriorityMatrix};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show, replace))
}

/// One row an impact.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MatrixView {
    high: MatrixRow,
    medium: MatrixRow,
    low: MatrixRow,
}

/// The priority at each urgency: critical, high, medium or low.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MatrixRow {
    #[schema(value_type = String, example = "critical")]
    high: Priority,
    #[schema(value_type = String, example = "high")]
    medium: Priority,
    #[schema(value_type = String, example = "medium")]
    low: Priority,
}

impl MatrixView {
    fn of(matrix: &PriorityMatrix) -> Self {
        let row = |impact| MatrixRow {
            high: matrix.priority(impact, Level::High),
            medium: matrix.priority(impact, Level::Medium),
            low: matrix.priority(impact, Level::Low),
        };
        MatrixView { high: row(Level::High), medium: row(Level::Medium), low: row(Level::Low) }
    }

    /// The first letters of the cells: as exact as a version, and needs no column.
    fn tag(&self) -> String {
        self.matrix().cells().filter_map(|(_, _, priority)| priority.as_str().chars().next()).collect()
    }

    fn matrix(&self) -> PriorityMatrix {
        let mut matrix = PriorityMatrix::default();
        for (impact, row) in
            [(Level::High, &self.high), (Level::Medium, &self.medium), (Level::Low, &self.low)]
        {
            matrix.set(impact, Level::High, row.high);
            matrix.set(impact, Level::Medium, row.medium);
            matrix.set(impact, Level::Low, row.low);
        }
        matrix
    }
}

/// Show the priority matrix
#[utoipa::path(get, path = "/priority-matrix", tag = "organizations", responses((status = 200, body = MatrixView)))]
async fn show(State(state): State<AppState>, caller: Caller) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let view = MatrixView::of(&store::priority_matrix::get(&mut tx).await?);
    Ok(etag::ok(view.tag(), view))
}

/// Replace the priority matrix
///
/// Tickets keep the priority they have until their impact or urgency is named anew.
#[utoipa::path(put, path = "/priority-matrix", tag = "organizations", request_body = MatrixView,
    responses((status = 200, body = MatrixView)))]
async fn replace(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiJson(body): ApiJson<MatrixView>,
) -> ApiResult<Response> {
    caller.require(Permission::OrganizationManage)?;
    let mut tx = caller.begin(&state).await?;
    store::organizations::lock(&mut tx).await?;
    if_match.check(MatrixView::of(&store::priority_matrix::get(&mut tx).await?).tag())?;
    actions::priority_matrix::set(&mut tx, &caller.actor(), &body.matrix()).await?;
    tx.commit().await?;
    Ok(etag::ok(body.tag(), body))
}
