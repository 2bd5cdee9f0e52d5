//! Escalation chains, and the escalations of a ticket that came of them.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::escalation_chains::NewChain;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::escalation::{EscalationState, Step};
use domain::sla::Trigger;
use domain::{ChainId, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::escalation_chains::{Chain, FIELDS, LIST};
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_chains, create_chain))
        .routes(routes!(show_chain, update_chain, delete_chain))
        .routes(routes!(list_escalations))
}

/// What is done, and how many seconds after the step before.
#[derive(ToSchema)]
#[schema(as = EscalationStep)]
#[expect(dead_code, reason = "describes `domain::escalation::Step`, which reads and writes itself")]
struct StepSchema {
    /// `assign_team`, `notify_manager`, `raise_priority` or `notify_channel`
    #[schema(example = "notify_channel")]
    action: String,
    /// For `assign_team`.
    team: Option<Uuid>,
    /// For `notify_channel`.
    channel: Option<Uuid>,
    #[schema(example = 900, maximum = 2592000)]
    after_seconds: u32,
}

#[derive(Serialize, ToSchema)]
struct ChainView {
    id: Uuid,
    #[schema(example = "Network, out of hours")]
    name: String,
    #[schema(value_type = Vec<StepSchema>)]
    steps: Vec<Step>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Chain> for ChainView {
    fn from(chain: Chain) -> Self {
        ChainView {
            id: chain.id.0,
            name: chain.name,
            steps: chain.steps,
            version: chain.version,
            created_at: chain.created_at,
            updated_at: chain.updated_at,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewChainBody {
    name: String,
    #[schema(value_type = Vec<StepSchema>)]
    steps: Vec<Step>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChainPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[schema(value_type = Option<Vec<StepSchema>>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    steps: Option<Vec<Step>>,
}

filters!(ChainFilters, FIELDS);

/// List escalation chains
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/escalation-chains", tag = "sla", params(ListQuery, Search, Shaping, ChainFilters),
    responses((status = 200, body = Page<ChainView>)))]
async fn list_chains(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::SlaRead)?;
    shape.check::<ChainView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::escalation_chains::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, ChainView::from)?))
}

/// Create an escalation chain
#[utoipa::path(post, path = "/escalation-chains", tag = "sla", request_body = NewChainBody,
    responses((status = 201, body = ChainView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create_chain(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewChainBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let new = NewChain { name: body.name, steps: body.steps };
    let made = actions::escalation_chains::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/escalation-chains/{}", made.id), made.version, ChainView::from(made)))
}

/// Show an escalation chain
#[utoipa::path(get, path = "/escalation-chains/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 200, body = ChainView), (status = 404, body = Problem)))]
async fn show_chain(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChainId>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = store::escalation_chains::get(&mut tx, id).await?;
    Ok(etag::ok(found.version, ChainView::from(found)))
}

/// Change an escalation chain: those that run go on with the steps they began with
#[utoipa::path(patch, path = "/escalation-chains/{id}", tag = "sla", params(("id" = Uuid, Path)),
    request_body = ChainPatch, responses((status = 200, body = ChainView), (status = 412, body = Problem)))]
async fn update_chain(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChainId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<ChainPatch>,
) -> ApiResult<Response> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = store::escalation_chains::lock(&mut tx, id).await?;
    if_match.check(before.version)?;
    let new = NewChain { name: body.name.unwrap_or(before.name), steps: body.steps.unwrap_or(before.steps) };
    let after =
        actions::escalation_chains::replace(&mut tx, &caller.actor(), id, Some(before.version), new).await?;
    tx.commit().await?;
    Ok(etag::ok(after.version, ChainView::from(after)))
}

/// Delete an escalation chain that no policy uses
#[utoipa::path(delete, path = "/escalation-chains/{id}", tag = "sla", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 409, body = Problem)))]
async fn delete_chain(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChainId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::SlaManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::escalation_chains::lock(&mut tx, id).await?.version)?;
    actions::escalation_chains::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One run of a chain.
#[derive(Serialize, ToSchema)]
struct EscalationView {
    id: Uuid,
    chain: Option<Uuid>,
    chain_name: String,
    #[schema(example = "breach")]
    trigger: &'static str,
    /// `running`, `finished` or `stopped`
    state: &'static str,
    /// Why it stopped.
    reason: String,
    next_at: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    done: Vec<DoneStepView>,
}

#[derive(Serialize, ToSchema)]
struct DoneStepView {
    /// From 0.
    step: i32,
    action: String,
    /// `done`, `skipped` or `failed`
    outcome: &'static str,
    detail: String,
    done_at: DateTime<Utc>,
}

const ESCALATION_FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("chain", Kind::Id, "chain").or_null(),
    field("trigger", Kind::Words(Trigger::WORDS), "trigger"),
    field("state", Kind::Words(EscalationState::WORDS), "state"),
    field("next_at", Kind::Time, "next_at").or_null(),
    field("started_at", Kind::Time, "started_at").by("started_at", "timestamptz"),
    field("ended_at", Kind::Time, "ended_at").or_null(),
];
const ESCALATIONS: List =
    List { from: "", fields: ESCALATION_FIELDS, usual: "started_at", id: Key::uuid("id") };

filters!(EscalationFilters, ESCALATION_FIELDS);

/// The escalations of an incident, with the steps that were done
///
/// Sorts by started_at; the oldest first, if nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/escalations", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, EscalationFilters),
    responses((status = 200, body = Page<EscalationView>)))]
async fn list_escalations(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::SlaRead)?;
    let picked = query.of::<EscalationView>(&ESCALATIONS, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let ticket = actions::tickets::find(&mut tx, &caller.actor(), &key).await?;
    let mut items = Vec::new();
    for escalation in store::escalations::of_ticket(&mut tx, ticket.id).await? {
        let done = store::escalations::steps_of(&mut tx, escalation.id).await?;
        let done = done.into_iter().map(|step| DoneStepView {
            step: step.step,
            action: step.action,
            outcome: step.outcome.as_str(),
            detail: step.detail,
            done_at: step.done_at,
        });
        items.push(EscalationView {
            id: escalation.id.0,
            chain: escalation.chain.map(|id| id.0),
            chain_name: escalation.chain_name,
            trigger: escalation.trigger.as_str(),
            state: escalation.state.as_str(),
            reason: escalation.reason,
            next_at: escalation.next_at,
            started_at: escalation.started_at,
            ended_at: escalation.ended_at,
            done: done.collect(),
        });
    }
    Ok(Json(picked.page(items)?))
}
