//! Who changed what.

use super::named;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page};
use actions::tickets;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use store::ticket_history::{Entry, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize, ToSchema)]
struct HistoryView {
    id: Uuid,
    at: DateTime<Utc>,
    /// user or system.
    actor_kind: String,
    actor: Option<Uuid>,
    /// The name as it was then, or the job that did it.
    actor_name: String,
    #[schema(example = "assigned")]
    action: String,
    changes: Vec<ChangeView>,
    /// Find the request or job in the logs by this.
    trace_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ChangeView {
    #[schema(example = "status")]
    field: String,
    #[schema(value_type = Value)]
    from: Value,
    #[schema(value_type = Value)]
    to: Value,
}

impl From<Entry> for HistoryView {
    fn from(entry: Entry) -> Self {
        let changes = entry.changes.0.into_iter();
        HistoryView {
            id: entry.id.0,
            at: entry.at,
            actor_kind: entry.actor_kind,
            actor: entry.actor.map(|id| id.0),
            actor_name: entry.actor_label,
            action: entry.action,
            changes: changes.map(|c| ChangeView { field: c.field, from: c.from, to: c.to }).collect(),
            trace_id: entry.trace_id,
        }
    }
}

filters!(HistoryFilters, FIELDS);

/// List the history of an incident
///
/// End users do not learn of internal comments, escalations and links from it, nor of reasons that others gave. Sorts by at; the oldest first, if
/// nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/history", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, HistoryFilters),
    responses((status = 200, body = Page<HistoryView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    shape.check::<HistoryView>(&[])?;
    let wanted = query.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let entries = tickets::history(&mut tx, &caller.actor(), &ticket, &wanted).await?;
    Ok(Json(query.shaped(entries, &shape, HistoryView::from)?))
}
