//! People. `users/me` is the caller.

use crate::body::nullable;
use crate::{
    ApiJson, ApiPath, ApiResult, AppState, Caller, Filters, IfMatch, ListQuery, Page, Problem, Search, etag,
};
use actions::users::{NewPerson, PersonChanges};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{DepartmentId, Permission, Role, UserId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use store::users::{Filter, User};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(show_me, update_me))
        .routes(routes!(show_user, update_user))
        .routes(routes!(set_password))
}

/// A person.
#[derive(Serialize, ToSchema)]
struct UserView {
    id: Uuid,
    #[schema(example = "ada@example.org")]
    email: String,
    name: String,
    #[schema(value_type = String, example = "agent")]
    role: Role,
    is_active: bool,
    department: Option<Uuid>,
    manager: Option<Uuid>,
    time_zone: Option<String>,
    locale: Option<String>,
    phone: Option<String>,
    last_login_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        UserView {
            id: user.id.0,
            email: user.email,
            name: user.name,
            role: user.role,
            is_active: user.is_active,
            department: user.department.map(Into::into),
            manager: user.manager.map(Into::into),
            time_zone: user.time_zone,
            locale: user.locale,
            phone: user.phone,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserFilter {
    #[param(value_type = Option<String>, example = "agent")]
    role: Option<Role>,
    is_active: Option<bool>,
    department: Option<Uuid>,
    /// The exact address.
    email: Option<String>,
}

#[utoipa::path(get, path = "/users", tag = "people", params(ListQuery, Search, UserFilter), responses((status = 200, body = Page<UserView>)))]
async fn list_users(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filter): Filters<UserFilter>,
) -> ApiResult<Json<Page<UserView>>> {
    caller.require(Permission::PeopleRead)?;
    list.fixed_order("-created_at")?;
    let filter = Filter {
        role: filter.role,
        is_active: filter.is_active,
        department: filter.department.map(DepartmentId),
        email: filter.email,
        q: list.q.clone(),
    };
    let mut tx = caller.begin(&state).await?;
    let rows = store::users::list(&mut tx, &filter, list.after()?, list.limit()).await?;
    Ok(Json(list.page(rows, |row| (row.created_at, row.id.0), UserView::from)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUserBody {
    email: String,
    name: String,
    #[schema(value_type = String, example = "agent")]
    role: Role,
    /// At least 10 characters. Without one the person cannot log in yet.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    #[serde(default)]
    department: Option<Uuid>,
    #[serde(default)]
    manager: Option<Uuid>,
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    locale: Option<String>,
    #[serde(default)]
    phone: Option<String>,
}

#[utoipa::path(post, path = "/users", tag = "people", request_body = NewUserBody, responses((status = 201, body = UserView)))]
async fn create_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewUserBody>,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleManage)?;
    let new = NewPerson {
        password_hash: actions::users::hashed(body.password.as_ref()).await?,
        email: body.email,
        name: body.name,
        role: body.role,
        department: body.department.map(DepartmentId),
        manager: body.manager.map(UserId),
        time_zone: body.time_zone,
        locale: body.locale,
        phone: body.phone,
    };
    let mut tx = caller.begin(&state).await?;
    let made = actions::users::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/users/{}", made.id), made.updated_at, UserView::from(made)))
}

#[utoipa::path(get, path = "/users/me", tag = "people", responses((status = 200, body = UserView)))]
async fn show_me(State(state): State<AppState>, caller: Caller) -> ApiResult<Response> {
    show(&state, &caller, caller.user_id()).await
}

/// One's own name, time zone, locale and phone
#[utoipa::path(patch, path = "/users/me", tag = "people", request_body = UserPatch, responses((status = 200, body = UserView)))]
async fn update_me(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiJson(body): ApiJson<UserPatch>,
) -> ApiResult<Response> {
    update(&state, &caller, caller.user_id(), if_match, body).await
}

#[utoipa::path(get, path = "/users/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = UserView), (status = 404, body = Problem)))]
async fn show_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Response> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleRead)?;
    }
    show(&state, &caller, id).await
}

async fn show(state: &AppState, caller: &Caller, id: UserId) -> ApiResult<Response> {
    let mut tx = caller.begin(state).await?;
    let found = store::users::get(&mut tx, id).await?;
    Ok(etag::ok(found.updated_at, UserView::from(found)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    role: Option<Role>,
    /// False ends all logins and tokens of the person at once.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    department: Option<Option<Uuid>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    manager: Option<Option<Uuid>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    time_zone: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    locale: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
}

#[utoipa::path(patch, path = "/users/{id}", tag = "people", params(("id" = Uuid, Path)),
    request_body = UserPatch, responses((status = 200, body = UserView)))]
async fn update_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<UserPatch>,
) -> ApiResult<Response> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleManage)?;
    }
    update(&state, &caller, id, if_match, body).await
}

async fn update(
    state: &AppState,
    caller: &Caller,
    id: UserId,
    if_match: IfMatch,
    body: UserPatch,
) -> ApiResult<Response> {
    let changes = PersonChanges {
        name: body.name,
        role: body.role,
        is_active: body.is_active,
        department: body.department.map(|id| id.map(DepartmentId)),
        manager: body.manager.map(|id| id.map(UserId)),
        time_zone: body.time_zone,
        locale: body.locale,
        phone: body.phone,
    };
    let mut tx = caller.begin(state).await?;
    let before = actions::users::lock(&mut tx, id, &changes).await?;
    if_match.check(before.updated_at)?;
    let after = actions::users::update(&mut tx, &caller.actor(), before, changes).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, UserView::from(after)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// At least 10 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Set somebody's password: all their logins end
#[utoipa::path(post, path = "/users/{id}/set-password", tag = "people", params(("id" = Uuid, Path)),
    request_body = NewPassword, responses((status = 204)))]
async fn set_password(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    ApiJson(body): ApiJson<NewPassword>,
) -> ApiResult<StatusCode> {
    caller.require(Permission::PeopleManage)?;
    let hash = actions::credentials::hash_password(&body.password, "/password").await?;
    let mut tx = caller.begin(&state).await?;
    actions::users::set_password(&mut tx, &caller.actor(), id, &hash).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
