//! SLA breaches: read only.

use crate::{ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::sla::Metric;
use domain::ticket::Priority;
use domain::{BreachId, Permission, SlaPolicyId, TeamId};
use serde::{Deserialize, Serialize};
use store::sla_breaches::{Breach, Filter};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_breaches)).routes(routes!(show_breach))
}

/// A target that was not kept. Policy, priority, team and assignee are those at the breach.
#[derive(Serialize, ToSchema)]
struct BreachView {
    id: Uuid,
    ticket: Uuid,
    /// `first_response` or `resolution`
    #[schema(example = "resolution")]
    metric: &'static str,
    policy: Option<Uuid>,
    policy_name: String,
    #[schema(example = "high")]
    priority: &'static str,
    team: Option<Uuid>,
    assignee: Option<Uuid>,
    target_seconds: i32,
    /// The moment at which the target had passed.
    breached_at: DateTime<Utc>,
    detected_at: DateTime<Utc>,
    /// When it was done after all; null while it is not.
    fulfilled_at: Option<DateTime<Utc>>,
    /// Working time beyond the target, known when it was done.
    overrun_seconds: Option<i64>,
}

impl From<Breach> for BreachView {
    fn from(breach: Breach) -> Self {
        BreachView {
            id: breach.id.0,
            ticket: breach.ticket.0,
            metric: breach.metric.as_str(),
            policy: breach.policy.map(|id| id.0),
            policy_name: breach.policy_name,
            priority: breach.priority.as_str(),
            team: breach.team.map(|id| id.0),
            assignee: breach.assignee.map(|id| id.0),
            target_seconds: breach.target_seconds,
            breached_at: breach.breached_at,
            detected_at: breach.detected_at,
            fulfilled_at: breach.fulfilled_at,
            overrun_seconds: breach.overrun_seconds,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BreachFilters {
    /// A ticket's id or number.
    #[param(example = "INC0000123")]
    ticket: Option<String>,
    #[param(value_type = Option<String>, example = "resolution")]
    metric: Option<Metric>,
    #[param(value_type = Option<Uuid>)]
    policy: Option<SlaPolicyId>,
    #[param(value_type = Option<String>)]
    priority: Option<Priority>,
    #[param(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    /// Breached at this moment or later.
    #[serde(default, deserialize_with = "crate::moment::optional")]
    since: Option<DateTime<Utc>>,
    /// Breached before this moment.
    #[serde(default, deserialize_with = "crate::moment::optional")]
    until: Option<DateTime<Utc>>,
}

/// List SLA breaches, latest first
#[utoipa::path(get, path = "/sla-breaches", tag = "sla", params(ListQuery, BreachFilters),
    responses((status = 200, body = Page<BreachView>)))]
async fn list_breaches(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filters): Filters<BreachFilters>,
) -> ApiResult<Json<Page<BreachView>>> {
    caller.require(Permission::SlaRead)?;
    list.fixed_order("-breached_at")?;
    let mut tx = caller.begin(&state).await?;
    let ticket = match filters.ticket {
        None => None,
        Some(key) => match actions::tickets::find(&mut tx, &caller.actor(), &key).await {
            Ok(ticket) => Some(ticket.id),
            Err(actions::Error::NotFound) => return Ok(Json(Page::empty())),
            Err(error) => return Err(error.into()),
        },
    };
    let filter = Filter {
        ticket,
        metric: filters.metric,
        policy: filters.policy,
        priority: filters.priority,
        team: filters.team,
        since: filters.since,
        until: filters.until,
    };
    let rows = store::sla_breaches::list(&mut tx, &filter, list.after()?, list.limit()).await?;
    Ok(Json(list.page(rows, |row| (row.breached_at, row.id.0), BreachView::from)?))
}

/// Show an SLA breach
#[utoipa::path(get, path = "/sla-breaches/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 200, body = BreachView), (status = 404, body = Problem)))]
async fn show_breach(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<BreachId>,
) -> ApiResult<Json<BreachView>> {
    caller.require(Permission::SlaRead)?;
    let mut tx = caller.begin(&state).await?;
    Ok(Json(BreachView::from(store::sla_breaches::get(&mut tx, id).await?)))
}
