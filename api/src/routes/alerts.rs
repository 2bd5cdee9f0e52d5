//! `alerts`: what monitoring systems told us, one item an episode (from firing to its end).

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Search};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::Permission;
use domain::alert::AlertStatus;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use store::alerts::{Alert, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

#[derive(Serialize, ToSchema)]
struct AlertView {
    id: Uuid,
    source: Uuid,
    fingerprint: String,
    /// firing or resolved.
    #[schema(value_type = String)]
    status: AlertStatus,
    severity: String,
    title: String,
    description: String,
    labels: BTreeMap<String, String>,
    source_url: Option<String>,
    starts_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
    /// How often the sender told us.
    received_count: i64,
    first_received_at: DateTime<Utc>,
    last_received_at: DateTime<Utc>,
    incident: Option<Uuid>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        AlertView {
            id: alert.id.0,
            source: alert.source.0,
            fingerprint: alert.fingerprint,
            status: alert.status,
            severity: alert.severity,
            title: alert.title,
            description: alert.description,
            labels: alert.labels,
            source_url: alert.source_url,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            received_count: alert.received_count,
            first_received_at: alert.first_received_at,
            last_received_at: alert.last_received_at,
            incident: alert.incident.map(|id| id.0),
        }
    }
}

filters!(AlertFilters, FIELDS);

/// List alerts
///
/// Sorts by first_received_at; newest first, if nothing is named. Nothing can be expanded.
#[utoipa::path(get, path = "/alerts", tag = "alerts", params(ListQuery, Search, Shaping, AlertFilters),
    responses((status = 200, body = Page<AlertView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::AlertsRead)?;
    shape.check::<AlertView>(&[])?;
    let mut tx = caller.begin(&state).await?;
    let asked = asked.with_tickets(&mut tx, &caller.actor(), &LIST).await?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let rows = store::alerts::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, AlertView::from)?))
}

/// Show an alert
#[utoipa::path(get, path = "/alerts/{id}", tag = "alerts", params(("id" = Uuid, Path)), responses((status = 200, body = AlertView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Json<AlertView>> {
    caller.require(Permission::AlertsRead)?;
    let mut tx = caller.begin(&state).await?;
    Ok(Json(store::alerts::get(&mut tx, id.into()).await?.into()))
}
