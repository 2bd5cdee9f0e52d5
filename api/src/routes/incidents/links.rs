//! Links from and to an incident.

use super::{guarded, named};
use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem};
use actions::tickets;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::ticket::{LinkKind, Status};
use domain::{LinkId, TicketId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Tx;
use store::listing::{Field, Key, Kind, List, field};
use store::ticket_links::Link;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

#[derive(Serialize, ToSchema)]
struct LinkView {
    id: Uuid,
    #[schema(example = "blocks")]
    kind: &'static str,
    /// outgoing: this one blocks the other; incoming: the other blocks this one.
    direction: &'static str,
    ticket: Uuid,
    number: String,
    title: String,
    status: &'static str,
    created_at: DateTime<Utc>,
}

impl From<Link> for LinkView {
    fn from(link: Link) -> Self {
        LinkView {
            id: link.id.0,
            kind: link.kind.as_str(),
            direction: if link.outgoing { "outgoing" } else { "incoming" },
            ticket: link.other.0,
            number: link.other_number,
            title: link.other_title,
            status: link.other_status.as_str(),
            created_at: link.created_at,
        }
    }
}

async fn all(tx: &mut Tx, caller: &Caller, ticket: TicketId) -> ApiResult<Json<Page<LinkView>>> {
    // One may see this ticket and not the other.
    let links = store::ticket_links::list(tx, &caller.reach(), ticket).await?;
    Ok(Json(Page { items: links.into_iter().map(LinkView::from).collect(), next_cursor: None }))
}

const FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("kind", Kind::Words(LinkKind::WORDS), "kind"),
    field("direction", Kind::Words(&["outgoing", "incoming"]), "direction"),
    field("ticket", Kind::Id, "ticket").says("The other ticket."),
    field("number", Kind::Text, "number").by("number", "text").says("That of the other ticket."),
    field("status", Kind::Words(Status::WORDS), "status"),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "created_at", id: Key::uuid("id") };

filters!(LinkFilters, FIELDS);

/// List the links of an incident
///
/// Sorts by created_at or number; the oldest first, if nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/links", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, LinkFilters),
    responses((status = 200, body = Page<LinkView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<LinkView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let Json(page) = all(&mut tx, &caller, ticket.id).await?;
    Ok(Json(picked.page(page.items)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    /// relates_to, duplicates, blocks, caused_by or parent_of: this one … the other.
    #[schema(value_type = String, example = "relates_to")]
    kind: LinkKind,
    /// The other ticket, by id or number.
    #[schema(example = "INC0000007")]
    ticket: String,
}

/// Link an incident to another ticket
#[utoipa::path(post, path = "/incidents/{id}/links", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = LinkBody, responses((status = 201, body = Page<LinkView>), (status = 200, body = Page<LinkView>, description = "was linked already")))]
async fn add(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    ApiJson(body): ApiJson<LinkBody>,
) -> ApiResult<(StatusCode, Json<Page<LinkView>>)> {
    let mut tx = caller.begin(&state).await?;
    let actor = caller.actor();
    let ticket = named(&mut tx, &caller, &key).await?;
    let other = tickets::find(&mut tx, &actor, &body.ticket)
        .await
        .map_err(|_| Problem::invalid("/ticket", "there is no such ticket"))?;
    let id = tickets::link(&mut tx, &actor, ticket.id, body.kind, other.id).await?;
    let links = all(&mut tx, &caller, ticket.id).await?;
    tx.commit().await?;
    Ok((if id.is_some() { StatusCode::CREATED } else { StatusCode::OK }, links))
}

/// Remove a link
#[utoipa::path(delete, path = "/incidents/{id}/links/{link}", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ("link" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((key, link)): ApiPath<(String, LinkId)>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    tickets::unlink(&mut tx, &caller.actor(), ticket.id, link).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
