//! `alerts`: what monitoring systems told us, one item an episode (from firing to its end).

use crate::{ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page, Search};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::alert::AlertStatus;
use domain::{AlertId, AlertSourceId, Permission};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::alerts::{Alert, AlertFilter};
use utoipa::{IntoParams, ToSchema};
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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AlertFilters {
    source: Option<Uuid>,
    /// firing or resolved.
    #[param(value_type = Option<String>)]
    status: Option<AlertStatus>,
    severity: Option<String>,
    fingerprint: Option<String>,
    /// Id or number of the incident.
    #[param(example = "INC0000123")]
    incident: Option<String>,
}

/// List alerts, newest first
#[utoipa::path(get, path = "/alerts", tag = "alerts", params(ListQuery, Search, AlertFilters),
    responses((status = 200, body = Page<AlertView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filters): Filters<AlertFilters>,
) -> ApiResult<Json<Page<AlertView>>> {
    caller.require(Permission::AlertsRead)?;
    list.fixed_order("-first_received_at")?;
    let mut tx = caller.begin(&state).await?;
    let filter = AlertFilter {
        source: filters.source.map(AlertSourceId),
        status: filters.status,
        severity: filters.severity,
        fingerprint: filters.fingerprint,
        incident: match filters.incident {
            None => None,
            Some(key) => match actions::tickets::find(&mut tx, &caller.actor(), &key).await {
                Ok(ticket) => Some(ticket.id),
                Err(actions::Error::NotFound) => return Ok(Json(Page::empty())),
                Err(error) => return Err(error.into()),
            },
        },
        q: list.q.clone(),
    };
    let rows =
        store::alerts::list(&mut tx, &filter, list.after::<Uuid>()?.map(AlertId), list.limit()).await?;
    Ok(Json(list.page(rows, |row| row.id.0, AlertView::from)?))
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
