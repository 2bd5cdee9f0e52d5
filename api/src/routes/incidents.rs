//! `incidents`: what is broken, from the first word to the last. The actions and what hangs on an incident stand in
//! files of their own.

mod attachments;
mod bulk;
mod comments;
mod history;
mod input;
mod links;
mod sla;
mod tags;
mod verbs;
mod view;
mod watchers;

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaped, Shaping};
use crate::{
    ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Reading, Search, etag,
};
use actions::tickets::{self, NewTicket, TicketPatch};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::Permission::{TicketsAssign, TicketsUpdate};
use domain::ticket::{Level, Source, Status, TicketKind};
use domain::{CiId, TeamId};
use serde::Deserialize;
use store::Tx;
use store::ticket_list::{FIELDS, LIST, TicketFilter};
use store::tickets::Ticket;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use view::IncidentView;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change))
        .merge(bulk::router())
        .merge(verbs::router())
        .merge(comments::router())
        .merge(attachments::router())
        .merge(history::router())
        .merge(watchers::router())
        .merge(tags::router())
        .merge(links::router())
}

/// The incident that the path names, as far as the caller may see it.
async fn named(tx: &mut Tx, caller: &Caller, key: &str) -> ApiResult<Ticket> {
    let ticket = tickets::find(tx, &caller.actor(), key).await?;
    if ticket.kind == TicketKind::Incident { Ok(ticket) } else { Err(Problem::not_found()) }
}

/// The same for a change: locked at the version that `If-Match` names, if it names one.
async fn guarded(tx: &mut Tx, caller: &Caller, key: &str, if_match: &IfMatch) -> ApiResult<Ticket> {
    let ticket = named(tx, caller, key).await?;
    if let Some(version) = if_match.version()? {
        tickets::expect_version(tx, ticket.id, version).await?;
    }
    Ok(ticket)
}

/// Commits and answers with the incident as it is now.
async fn answer(mut tx: Tx, ticket: Ticket) -> ApiResult<Response> {
    let ticket = store::tickets::get(&mut tx, ticket.id).await?;
    let version = ticket.version;
    let view = IncidentView::of(&mut tx, ticket).await?;
    tx.commit().await?;
    Ok(etag::ok(version, view))
}

filters!(IncidentFilters, FIELDS);

/// List incidents
///
/// Those that one sees: staff all but confidential ones, end users those that they requested or watch. Sorts by created_at, updated_at, priority,
/// impact, urgency, status and number, also by several; newest first, if nothing is named. Can expand requester, assignee and team.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(ListQuery, Search, Shaping, IncidentFilters),
    responses((status = 200, body = Page<IncidentView>)))]
async fn list(
    Reading { caller, mut tx }: Reading,
    query: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Shaped<IncidentView>>>> {
    shape.check::<IncidentView>(&view::EXPANDABLE)?;
    let filter = TicketFilter {
        kind: Some(TicketKind::Incident),
        conditions: asked.conditions(FIELDS, caller.user_id())?,
        q: query.q.clone(),
    };
    let order = query.sorted_by(&LIST)?;
    let after = query.place(&order)?;
    let reach = caller.reach();
    let rows =
        store::ticket_list::list(&mut tx, &reach, &filter, &order, after.as_ref(), query.limit()).await?;
    let page = query.page(rows, |row| row.place.clone(), |row| row.item)?;
    let mut views = view::Views::gather(&mut tx, &page.items, &shape).await?;
    let items = page.items.into_iter().map(|ticket| shape.shaped(views.listed(ticket, &caller)));
    Ok(Json(Page { items: items.collect::<Result<_, _>>()?, next_cursor: page.next_cursor }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIncident {
    #[schema(min_length = 1, max_length = 500, example = "No network on floor three")]
    title: String,
    #[serde(default)]
    description: String,
    /// high, medium or low.
    #[schema(value_type = Option<String>, default = "medium")]
    impact: Option<Level>,
    #[schema(value_type = Option<String>, default = "medium")]
    urgency: Option<Level>,
    /// Id or e-mail address; somebody unknown becomes an end user. Nobody named: the caller.
    requester: Option<String>,
    /// Id or e-mail address of an agent, manager or admin.
    assignee: Option<String>,
    #[schema(value_type = Option<uuid::Uuid>)]
    team: Option<TeamId>,
    #[serde(default)]
    tags: Vec<String>,
    /// Ids of the configuration items that are affected.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>)]
    configuration_items: Vec<CiId>,
    /// Seen only by its requester, assignee, team and watchers, and by who may see confidential tickets.
    #[serde(default)]
    confidential: bool,
}

/// Open an incident
#[utoipa::path(post, path = "/incidents", tag = "incidents", request_body = NewIncident,
    responses((status = 201, body = IncidentView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewIncident>,
) -> ApiResult<Response> {
    let actor = caller.actor();
    let mut tx = caller.begin(&state).await?;
    let new = NewTicket {
        description: body.description,
        impact: body.impact.unwrap_or(Level::Medium),
        urgency: body.urgency.unwrap_or(Level::Medium),
        requester: input::requester(&mut tx, &actor, body.requester.as_deref()).await?,
        assignee: input::person(&mut tx, &actor, TicketsAssign, "/assignee", body.assignee.as_deref())
            .await?,
        team: body.team,
        tags: body.tags,
        is_confidential: body.confidential,
        ..NewTicket::incident(body.title, Source::Api)
    };
    let ticket = tickets::open(&mut tx, &actor, new).await?;
    if !body.configuration_items.is_empty() {
        input::set_configuration_items(&mut tx, &actor, ticket.id, &body.configuration_items).await?;
    }
    let ticket = store::tickets::get(&mut tx, ticket.id).await?;
    let (location, version) = (format!("/api/v1/incidents/{}", ticket.id), ticket.version);
    let view = IncidentView::of(&mut tx, ticket).await?;
    tx.commit().await?;
    Ok(etag::created(&location, version, view))
}

/// Show an incident
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    responses((status = 200, body = IncidentView)))]
async fn show(Reading { caller, mut tx }: Reading, ApiPath(key): ApiPath<String>) -> ApiResult<Response> {
    let ticket = named(&mut tx, &caller, &key).await?;
    let version = ticket.version;
    Ok(etag::ok(version, IncidentView::of(&mut tx, ticket).await?))
}

/// What is left out stays as it is; null empties.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IncidentPatch {
    #[schema(min_length = 1, max_length = 500)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    title: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    /// Named anew, impact and urgency compute the priority anew.
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    impact: Option<Level>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    urgency: Option<Level>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    status: Option<Status>,
    /// With the status resolved, or to correct it later.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    resolution: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    requester: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    assignee: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<uuid::Uuid>)]
    team: Option<Option<TeamId>>,
    /// Exactly these from now on.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    configuration_items: Option<Vec<CiId>>,
    /// Needs tickets.set_confidential.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    confidential: Option<bool>,
}

/// Change fields of an incident
#[utoipa::path(patch, path = "/incidents/{id}", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = IncidentPatch, responses((status = 200, body = IncidentView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<IncidentPatch>,
) -> ApiResult<Response> {
    let actor = caller.actor();
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    caller.require(TicketsUpdate)?;
    let requester = match body.requester {
        Some(Some(text)) => Some(input::requester(&mut tx, &actor, Some(&text)).await?),
        Some(None) => Some(None),
        None => None,
    };
    let assignee = match body.assignee {
        Some(Some(text)) => {
            Some(input::person(&mut tx, &actor, TicketsAssign, "/assignee", Some(&text)).await?)
        }
        Some(None) => Some(None),
        None => None,
    };
    let patch = TicketPatch {
        title: body.title,
        description: body.description,
        impact: body.impact,
        urgency: body.urgency,
        priority_at_least: None,
        status: body.status,
        resolution: body.resolution,
        requester,
        assignee,
        team: body.team,
        is_confidential: body.confidential,
    };
    tickets::update(&mut tx, &actor, ticket.id, patch).await?;
    if let Some(tags) = &body.tags {
        tickets::set_tags(&mut tx, &actor, ticket.id, tags).await?;
    }
    if let Some(items) = &body.configuration_items {
        input::set_configuration_items(&mut tx, &actor, ticket.id, items).await?;
    }
    answer(tx, ticket).await
}
