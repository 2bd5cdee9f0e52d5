//! SLA policies with their targets.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::sla_policies::NewPolicy;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::sla_policy::Conditions;
use domain::ticket::Priority;
use domain::{CalendarId, ChainId, Permission, SlaPolicyId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::sla_policies::{FIELDS, LIST, Policy, Target};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_policies, create_policy)).routes(routes!(
        show_policy,
        update_policy,
        delete_policy
    ))
}

/// Working time allowed at one priority, in seconds. Null or absent: nothing is promised.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SlaTarget)]
struct TargetBody {
    #[schema(value_type = String, example = "critical")]
    priority: Priority,
    #[serde(default)]
    #[schema(example = 900)]
    first_response_seconds: Option<i32>,
    #[serde(default)]
    #[schema(example = 14400)]
    resolution_seconds: Option<i32>,
}

/// Each given field has to hold the ticket's value; absent ones fit always.
#[derive(ToSchema)]
#[schema(as = SlaConditions)]
#[expect(dead_code, reason = "describes `domain::sla_policy::Conditions`, which reads and writes itself")]
struct ConditionsSchema {
    #[schema(example = json!(["incident"]))]
    kind: Option<Vec<String>>,
    #[schema(example = json!(["critical", "high"]))]
    priority: Option<Vec<String>>,
    impact: Option<Vec<String>>,
    urgency: Option<Vec<String>>,
    source: Option<Vec<String>>,
    team: Option<Vec<Uuid>>,
    requester: Option<Vec<Uuid>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SlaPolicy)]
struct PolicyView {
    id: Uuid,
    #[schema(example = "Standard")]
    name: String,
    description: String,
    /// Lower is asked earlier; the first policy that fits holds.
    position: i32,
    /// Holds for whatever no other policy fits.
    is_default: bool,
    is_active: bool,
    #[schema(value_type = ConditionsSchema)]
    conditions: Conditions,
    /// Null: round the clock.
    calendar: Option<Uuid>,
    /// Share of the target after which a warning is given; null: none.
    #[schema(example = 80)]
    warn_percent: Option<u8>,
    /// The escalation chain that a warning starts.
    warning_chain: Option<Uuid>,
    /// The escalation chain that a breach starts.
    breach_chain: Option<Uuid>,
    targets: Vec<TargetBody>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Policy> for PolicyView {
    fn from(policy: Policy) -> Self {
        let target = |target: Target| TargetBody {
            priority: target.priority,
            first_response_seconds: target.first_response_seconds,
            resolution_seconds: target.resolution_seconds,
        };
        PolicyView {
            id: policy.id.0,
            name: policy.name,
            description: policy.description,
            position: policy.position,
            is_default: policy.is_default,
            is_active: policy.is_active,
            conditions: policy.conditions,
            calendar: policy.calendar.map(|id| id.0),
            warn_percent: policy.warn_percent,
            warning_chain: policy.warning_chain.map(|id| id.0),
            breach_chain: policy.breach_chain.map(|id| id.0),
            targets: policy.targets.into_iter().map(target).collect(),
            version: policy.version,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
        }
    }
}

/// A new policy needs `name` and `targets`; without the rest it has position 100, is active, has no conditions, counts round
/// the clock and warns at 80 %. A change leaves absent fields as they are; lists are replaced as a whole.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = SlaPolicyFields)]
struct PolicyBody {
    #[serde(deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    #[serde(deserialize_with = "crate::body::not_null")]
    position: Option<i32>,
    #[serde(deserialize_with = "crate::body::not_null")]
    is_default: Option<bool>,
    #[serde(deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
    #[schema(value_type = Option<ConditionsSchema>)]
    conditions: Option<Conditions>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    calendar: Option<Option<CalendarId>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<u8>)]
    warn_percent: Option<Option<u8>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    warning_chain: Option<Option<ChainId>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    breach_chain: Option<Option<ChainId>>,
    #[serde(deserialize_with = "crate::body::not_null")]
    targets: Option<Vec<TargetBody>>,
}

impl PolicyBody {
    fn onto(self, policy: NewPolicy) -> NewPolicy {
        let target = |target: TargetBody| Target {
            priority: target.priority,
            first_response_seconds: target.first_response_seconds,
            resolution_seconds: target.resolution_seconds,
        };
        NewPolicy {
            name: self.name.unwrap_or(policy.name),
            description: self.description.unwrap_or(policy.description),
            position: self.position.unwrap_or(policy.position),
            is_default: self.is_default.unwrap_or(policy.is_default),
            is_active: self.is_active.unwrap_or(policy.is_active),
            conditions: self.conditions.unwrap_or(policy.conditions),
            calendar: self.calendar.unwrap_or(policy.calendar),
            warn_percent: self.warn_percent.unwrap_or(policy.warn_percent),
            warning_chain: self.warning_chain.unwrap_or(policy.warning_chain),
            breach_chain: self.breach_chain.unwrap_or(policy.breach_chain),
            targets: self.targets.map_or(policy.targets, |targets| targets.into_iter().map(target).collect()),
        }
    }
}

filters!(PolicyFilters, FIELDS);

/// List SLA policies
///
/// Sorts by position, is_default, name, created_at or updated_at; in the order in which they are asked, if nothing is named.
#[utoipa::path(get, path = "/sla-policies", tag = "sla", params(ListQuery, Search, Shaping, PolicyFilters),
    responses((status = 200, body = Page<PolicyView>)))]
async fn list_policies(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::SlaRead)?;
    shape.check::<PolicyView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::sla_policies::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, PolicyView::from)?))
}

/// Create an SLA policy: open tickets that it fits are counted by it from their beginning
#[utoipa::path(post, path = "/sla-policies", tag = "sla", request_body = PolicyBody,
    responses((status = 201, body = PolicyView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create_policy(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<PolicyBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let made =
        actions::sla_policies::create(&mut tx, &caller.actor(), body.onto(NewPolicy::default())).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/sla-policies/{}", made.id), made.version, PolicyView::from(made)))
}

/// Show an SLA policy
#[utoipa::path(get, path = "/sla-policies/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 200, body = PolicyView), (status = 404, body = Problem)))]
async fn show_policy(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SlaPolicyId>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = store::sla_policies::get(&mut tx, id).await?;
    Ok(etag::ok(found.version, PolicyView::from(found)))
}

/// Change an SLA policy: clocks of open tickets are worked out anew, time they have used stays used
#[utoipa::path(patch, path = "/sla-policies/{id}", tag = "sla", params(("id" = Uuid, Path)),
    request_body = PolicyBody, responses((status = 200, body = PolicyView), (status = 412, body = Problem)))]
async fn update_policy(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SlaPolicyId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<PolicyBody>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = store::sla_policies::lock(&mut tx, id).await?;
    if_match.check(before.version)?;
    let version = before.version;
    let now = NewPolicy {
        name: before.name,
        description: before.description,
        position: before.position,
        is_default: before.is_default,
        is_active: before.is_active,
        conditions: before.conditions,
        calendar: before.calendar,
        warn_percent: before.warn_percent,
        warning_chain: before.warning_chain,
        breach_chain: before.breach_chain,
        targets: before.targets,
    };
    let after =
        actions::sla_policies::replace(&mut tx, &caller.actor(), id, Some(version), body.onto(now)).await?;
    tx.commit().await?;
    Ok(etag::ok(after.version, PolicyView::from(after)))
}

/// Delete an SLA policy: its breaches stay
#[utoipa::path(delete, path = "/sla-policies/{id}", tag = "sla", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn delete_policy(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SlaPolicyId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::sla_policies::lock(&mut tx, id).await?.version)?;
    actions::sla_policies::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
