//! Who follows an incident.

use super::{guarded, input, named};
use crate::filters::filters;
use crate::shape::{Shaping, address};
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem};
use actions::tickets;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::Permission::TicketsUpdate;
use domain::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Tx;
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

#[derive(Serialize, ToSchema)]
struct WatcherView {
    user: Uuid,
    name: String,
    /// For who has `people.read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    since: DateTime<Utc>,
}

async fn all(tx: &mut Tx, caller: &Caller, ticket: domain::TicketId) -> ApiResult<Json<Page<WatcherView>>> {
    let watchers = store::ticket_watchers::list(tx, ticket).await?.into_iter();
    let view = |w: store::ticket_watchers::Watcher| WatcherView {
        user: w.user.0,
        name: w.name,
        email: address(w.email, caller),
        since: w.since,
    };
    Ok(Json(Page { items: watchers.map(view).collect(), next_cursor: None }))
}

const FIELDS: &[Field] = &[
    field("user", Kind::Id, "user"),
    field("name", Kind::LowerText, "name").by("name", "text"),
    field("email", Kind::LowerText, "email").by("email", "text"),
    field("since", Kind::Time, "since").by("since", "timestamptz"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "since", id: Key::uuid("user") };

filters!(WatcherFilters, FIELDS);

/// List the watchers of an incident
///
/// Sorts by since, name or email; by since, if nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/watchers", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, WatcherFilters),
    responses((status = 200, body = Page<WatcherView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<WatcherView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let Json(page) = all(&mut tx, &caller, ticket.id).await?;
    Ok(Json(picked.page(page.items)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WatcherBody {
    /// Id or e-mail address; left out: the caller.
    user: Option<String>,
}

/// Watch an incident, or have somebody watch it
#[utoipa::path(post, path = "/incidents/{id}/watchers", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = Option<WatcherBody>, responses((status = 201, body = Page<WatcherView>), (status = 200, body = Page<WatcherView>, description = "watched it already")))]
async fn add(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    body: Option<ApiJson<WatcherBody>>,
) -> ApiResult<(StatusCode, Json<Page<WatcherView>>)> {
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let named_user = body.and_then(|ApiJson(body)| body.user);
    let user =
        match input::person(&mut tx, &caller.actor(), TicketsUpdate, "/user", named_user.as_deref()).await? {
            Some(user) => user,
            None => caller.user_id(),
        };
    let is_new = tickets::add_watcher(&mut tx, &caller.actor(), ticket.id, user).await?;
    let watchers = all(&mut tx, &caller, ticket.id).await?;
    tx.commit().await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, watchers))
}

/// Stop watching an incident
#[utoipa::path(delete, path = "/incidents/{id}/watchers/{user}", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ("user" = String, Path, description = "id, or `me`")),
    responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((key, user)): ApiPath<(String, String)>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let user: UserId =
        if user == "me" { caller.user_id() } else { user.parse().map_err(|_| Problem::not_found())? };
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    tickets::remove_watcher(&mut tx, &caller.actor(), ticket.id, user).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
