//! SLA breaches: read only.

use crate::filters::{Asked, filters};
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::{BreachId, Permission};
use serde::Serialize;
use serde_json::Value;
use store::sla_breaches::{Breach, FIELDS, LIST};
use utoipa::ToSchema;
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

filters!(BreachFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 2] = [("team", Noun::Team), ("assignee", Noun::Person)];

/// List SLA breaches
///
/// Sorts by breached_at; latest first, if nothing is named. Can expand team and assignee.
#[utoipa::path(get, path = "/sla-breaches", tag = "sla", params(ListQuery, Shaping, BreachFilters),
    responses((status = 200, body = Page<BreachView>)))]
async fn list_breaches(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::SlaRead)?;
    shape.check_with::<BreachView>(&EXPANDABLE)?;
    let mut tx = caller.begin(&state).await?;
    let asked = asked.with_tickets(&mut tx, &caller.actor(), &LIST).await?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let rows = store::sla_breaches::list(&mut tx, &caller.reach(), &wanted).await?;
    let mut page = list.whole(rows, BreachView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
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
    let breach = store::sla_breaches::get(&mut tx, id).await?;
    actions::tickets::see(&mut tx, &caller.actor(), breach.ticket).await?;
    Ok(Json(BreachView::from(breach)))
}
