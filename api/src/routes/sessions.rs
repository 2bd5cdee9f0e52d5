//! Logins that stand: where one is logged in, and putting an end to it.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, Credential, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{Permission, UserId};
use serde::Serialize;
use serde_json::Value;
use store::sessions::{FIELDS, LIST, Login};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_sessions, revoke_others))
        .routes(routes!(revoke_session))
        .routes(routes!(list_sessions_of, revoke_all_of))
}

/// A login.
#[derive(Serialize, ToSchema)]
struct SessionView {
    id: Uuid,
    /// The `User-Agent` that it was last refreshed by.
    device: Option<String>,
    address: Option<String>,
    created_at: DateTime<Utc>,
    /// To the minute.
    last_used_at: DateTime<Utc>,
    /// Unless it is refreshed before.
    expires_at: DateTime<Utc>,
    /// The one that asks.
    current: bool,
}

impl SessionView {
    fn of(login: Login, caller: &Caller) -> Self {
        SessionView {
            id: login.family,
            device: login.user_agent,
            address: login.ip,
            created_at: login.login_at,
            last_used_at: login.last_used_at,
            expires_at: login.expires_at,
            current: caller.credential() == Credential::Login(login.family),
        }
    }
}

filters!(SessionFilters, FIELDS);

async fn page(
    state: &AppState,
    caller: &Caller,
    (list, shape, asked): (ListQuery, Shape, Asked),
    user: UserId,
) -> ApiResult<Json<Page<Value>>> {
    shape.check::<SessionView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    if user == caller.user_id() {
        caller.require_whole()?;
    }
    let mut tx = caller.begin(state).await?;
    store::users::get(&mut tx, user).await?;
    let rows = store::sessions::list(&mut tx, user, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, |login| SessionView::of(login, caller))?))
}

/// Where one is logged in
///
/// Sorts by created_at, last_used_at or expires_at; the last begun first, if nothing is named.
#[utoipa::path(get, path = "/auth/sessions", tag = "auth", params(ListQuery, Shaping, SessionFilters),
    responses((status = 200, body = Page<SessionView>), (status = 401, body = Problem),
        (status = 403, description = "Not for API tokens with scopes", body = Problem)))]
async fn list_sessions(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    page(&state, &caller, (list, shape, asked), caller.user_id()).await
}

/// End all of one's logins but the one that asks
#[utoipa::path(delete, path = "/auth/sessions", tag = "auth",
    responses((status = 204), (status = 401, body = Problem),
        (status = 403, description = "Not for API tokens; or `reauthentication-required`: the login is older than ten minutes", body = Problem)))]
async fn revoke_others(State(state): State<AppState>, caller: Caller) -> ApiResult<StatusCode> {
    let current = caller.require_recent_login()?;
    let mut tx = caller.begin(&state).await?;
    actions::sessions::revoke_all(&mut tx, &caller.actor(), caller.user_id(), Some(current)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a login: one's own, or as admin anybody's
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "auth", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 401, body = Problem),
        (status = 403, description = "One's own, by an API token; or `reauthentication-required`: the login that asks is older than ten minutes", body = Problem),
        (status = 404, body = Problem)))]
async fn revoke_session(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    let is_own = store::sessions::owner(&mut tx, id).await? == Some(caller.user_id());
    // To end the one that asks is to log out.
    if is_own && caller.credential() != Credential::Login(id) {
        caller.require_recent_login()?;
    }
    actions::sessions::revoke(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where somebody is logged in
///
/// Sorts by created_at, last_used_at or expires_at; the last begun first, if nothing is named.
#[utoipa::path(get, path = "/users/{id}/sessions", tag = "people", params(("id" = Uuid, Path), ListQuery, Shaping, SessionFilters),
    responses((status = 200, body = Page<SessionView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn list_sessions_of(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleManage)?;
    }
    page(&state, &caller, (list, shape, asked), id).await
}

/// End all logins of somebody
#[utoipa::path(delete, path = "/users/{id}/sessions", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn revoke_all_of(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<StatusCode> {
    if id == caller.user_id() {
        caller.require_recent_login()?;
    }
    let mut tx = caller.begin(&state).await?;
    actions::sessions::revoke_all(&mut tx, &caller.actor(), id, None).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
