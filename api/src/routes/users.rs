//! People. `users/me` is the caller.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::passwords;
use actions::users::{NewPerson, PersonChanges};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{Absence, DepartmentId, Permission, Role, UserId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::Wanted;
use store::users::{FIELDS, LIST, User};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(show_me, update_me))
        .routes(routes!(show_user, update_user, delete_user))
        .routes(routes!(restore_user))
        .routes(routes!(set_password))
        .routes(routes!(lock))
        .routes(routes!(unlock))
}

/// Somebody is away for a time: what would be theirs goes to their substitute, or whoever stands in for that one.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OutOfOffice {
    from: DateTime<Utc>,
    /// Not part of it; within a year.
    until: DateTime<Utc>,
    /// Staff. Nobody: what is theirs waits.
    #[serde(default)]
    substitute: Option<Uuid>,
    #[serde(default)]
    #[schema(max_length = 500, example = "back on Monday")]
    note: Option<String>,
}

impl From<Absence> for OutOfOffice {
    fn from(Absence { from, until, substitute, note }: Absence) -> Self {
        OutOfOffice { from, until, substitute: substitute.map(Into::into), note }
    }
}

impl From<OutOfOffice> for Absence {
    fn from(OutOfOffice { from, until, substitute, note }: OutOfOffice) -> Self {
        Absence { from, until, substitute: substitute.map(UserId), note }
    }
}

/// A person.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserView {
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
    /// As another system calls them: what an import knows them by.
    external_id: Option<String>,
    /// Also one that is over or to come.
    out_of_office: Option<OutOfOffice>,
    /// Of a service account: who answers for it. People have none.
    owner: Option<Uuid>,
    /// Locked by an admin since then: neither logins nor API tokens work.
    locked_at: Option<DateTime<Utc>>,
    last_login_at: Option<DateTime<Utc>>,
    /// Deleted since then: not active, in no list but that of deleted ones, and named by what named them before.
    deleted_at: Option<DateTime<Utc>>,
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
            external_id: user.external_id,
            out_of_office: user.away.map(Into::into),
            owner: user.owner.map(Into::into),
            locked_at: user.locked_at,
            last_login_at: user.last_login_at,
            deleted_at: user.deleted_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

filters!(pub(crate) UserFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 3] =
    [("department", Noun::Department), ("manager", Noun::Person), ("owner", Noun::Person)];

/// List people
///
/// Without the deleted ones. Sorts by created_at or name; newest first, if nothing is named. Can expand department, manager and owner.
#[utoipa::path(get, path = "/users", tag = "people", params(ListQuery, Search, Shaping, UserFilters),
    responses((status = 200, body = Page<UserView>)))]
async fn list_users(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    page_of_users(&state, &caller, &list, &shape, wanted).await
}

/// Also of service accounts.
pub(crate) async fn page_of_users(
    state: &AppState,
    caller: &Caller,
    list: &ListQuery,
    shape: &Shape,
    wanted: Wanted,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleRead)?;
    shape.check_with::<UserView>(&EXPANDABLE)?;
    let mut tx = caller.begin(state).await?;
    let rows = store::users::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, UserView::from)?;
    shape.expand(&mut tx, caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUserBody {
    email: String,
    name: String,
    #[schema(value_type = String, example = "agent")]
    role: Role,
    /// 12 to 128 characters. Without one the person cannot log in yet.
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
    let password_hash = match &body.password {
        Some(password) => {
            let (organization, email, name) = (caller.organization(), &body.email, &body.name);
            let policy = &state.passwords;
            Some(passwords::first(&state.db, policy, organization, email, name, password).await?)
        }
        None => None,
    };
    let new = NewPerson {
        password_hash,
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

/// One's own name, time zone, locale, phone and absence
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
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<OutOfOffice>)]
    out_of_office: Option<Option<OutOfOffice>>,
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
        away: body.out_of_office.map(|away| away.map(Into::into)),
    };
    let mut tx = caller.begin(state).await?;
    let before = actions::users::lock(&mut tx, id, &changes).await?;
    if_match.check(before.updated_at)?;
    let after = actions::users::update(&mut tx, &caller.actor(), before, changes).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, UserView::from(after)))
}

/// Delete somebody softly
///
/// Their logins and API tokens end at once and for good, open tickets that they work on lose their assignee, and their address is free. Tickets,
/// comments and history keep their name.
#[utoipa::path(delete, path = "/users/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "Deleted already, the last admin, oneself, or somebody who answers for service accounts", body = Problem)))]
async fn delete_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::PeopleManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = actions::removals::lock(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    actions::removals::delete(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bring somebody back who was deleted
///
/// With their password, teams and roles, and active if they were. Logins, API tokens and tickets do not come back.
#[utoipa::path(post, path = "/users/{id}/restore", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = UserView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "Not deleted, or the address is somebody else's by now", body = Problem)))]
async fn restore_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = actions::removals::lock(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    let after = actions::removals::restore(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, UserView::from(after)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// 12 to 128 characters.
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
    passwords::set(&state.db, &state.passwords, &caller.actor(), id, &body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lock somebody out until they are unlocked: their logins end, and their API tokens rest
#[utoipa::path(post, path = "/users/{id}/lock", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = UserView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The last admin", body = Problem)))]
async fn lock(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Response> {
    set_locked(&state, &caller, id, true).await
}

/// Let somebody in again who was locked out
#[utoipa::path(post, path = "/users/{id}/unlock", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = UserView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn unlock(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Response> {
    set_locked(&state, &caller, id, false).await
}

async fn set_locked(state: &AppState, caller: &Caller, id: UserId, locked: bool) -> ApiResult<Response> {
    let mut tx = caller.begin(state).await?;
    let after = actions::users::set_locked(&mut tx, &caller.actor(), id, locked).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, UserView::from(after)))
}
