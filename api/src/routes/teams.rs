//! Teams and their members.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::teams::{MemberChanges, TeamFields};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{DepartmentId, Permission, TeamId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use store::teams::{FIELDS, LIST, MEMBER_FIELDS, MEMBERS, Member, Team};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_teams, create_team))
        .routes(routes!(show_team, update_team, delete_team))
        .routes(routes!(restore_team))
        .routes(routes!(list_members, add_member))
        .routes(routes!(show_member, update_member, remove_member))
}

/// A team.
#[derive(Serialize, ToSchema)]
struct TeamView {
    id: Uuid,
    #[schema(example = "Network")]
    name: String,
    /// Where mail for the whole team goes.
    email: Option<String>,
    manager: Option<Uuid>,
    department: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Deleted since then: in no list but that of deleted ones, and named by what named it before.
    deleted_at: Option<DateTime<Utc>>,
}

impl From<Team> for TeamView {
    fn from(team: Team) -> Self {
        TeamView {
            id: team.id.0,
            name: team.name,
            email: team.email,
            manager: team.manager.map(Into::into),
            department: team.department.map(Into::into),
            created_at: team.created_at,
            updated_at: team.updated_at,
            deleted_at: team.deleted_at,
        }
    }
}

/// Somebody in a team.
#[derive(Serialize, ToSchema)]
struct MemberView {
    user: Uuid,
    name: String,
    email: String,
    #[schema(example = "agent")]
    role: &'static str,
    is_active: bool,
    is_lead: bool,
    /// With a level from 1 (begins) to 5 (teaches others).
    #[schema(example = json!({"linux": 4}))]
    skills: BTreeMap<String, u8>,
    since: DateTime<Utc>,
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        MemberView {
            user: member.user.0,
            name: member.name,
            email: member.email,
            role: member.role.as_str(),
            is_active: member.is_active,
            is_lead: member.is_lead,
            skills: member.skills,
            since: member.since,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTeam {
    name: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    manager: Option<Uuid>,
    #[serde(default)]
    department: Option<Uuid>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TeamPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    manager: Option<Option<Uuid>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    department: Option<Option<Uuid>>,
}

filters!(TeamFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 2] = [("manager", Noun::Person), ("department", Noun::Department)];

/// List teams
///
/// Without the deleted ones. Sorts by name or created_at; by name, if nothing is named. Can expand manager and department.
#[utoipa::path(get, path = "/teams", tag = "people", params(ListQuery, Search, Shaping, TeamFilters),
    responses((status = 200, body = Page<TeamView>)))]
async fn list_teams(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleRead)?;
    shape.check_with::<TeamView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::teams::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, TeamView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[utoipa::path(post, path = "/teams", tag = "people", request_body = NewTeam, responses((status = 201, body = TeamView)))]
async fn create_team(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewTeam>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = TeamFields {
        name: body.name,
        email: body.email,
        manager: body.manager.map(UserId),
        department: body.department.map(DepartmentId),
    };
    let made = actions::teams::create(&mut tx, &caller.actor(), fields).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/teams/{}", made.id), made.updated_at, TeamView::from(made)))
}

#[utoipa::path(get, path = "/teams/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = TeamView), (status = 404, body = Problem)))]
async fn show_team(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = store::teams::get(&mut tx, id).await?;
    Ok(etag::ok(found.updated_at, TeamView::from(found)))
}

#[utoipa::path(patch, path = "/teams/{id}", tag = "people", params(("id" = Uuid, Path)),
    request_body = TeamPatch, responses((status = 200, body = TeamView)))]
async fn update_team(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<TeamPatch>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = store::teams::lock(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    let fields = TeamFields {
        name: body.name.unwrap_or_else(|| before.name.clone()),
        email: body.email.unwrap_or_else(|| before.email.clone()),
        manager: body.manager.map_or(before.manager, |id| id.map(UserId)),
        department: body.department.map_or(before.department, |id| id.map(DepartmentId)),
    };
    let after = actions::teams::update(&mut tx, &caller.actor(), before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, TeamView::from(after)))
}

/// Delete a team softly: its name is free, and what is over keeps it
#[utoipa::path(delete, path = "/teams/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem),
        (status = 409, description = "Deleted already, or the team has tickets that are not closed", body = Problem)))]
async fn delete_team(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = store::teams::lock(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    actions::teams::delete(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bring a team back that was deleted
#[utoipa::path(post, path = "/teams/{id}/restore", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = TeamView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "Not deleted, its name is taken by now, or the department above is deleted", body = Problem)))]
async fn restore_team(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
) -> ApiResult<Response> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = store::teams::lock(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    let after = actions::teams::restore(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, TeamView::from(after)))
}

filters!(MemberFilters, MEMBER_FIELDS);

const MEMBER_EXPANDABLE: [(&str, Noun); 1] = [("user", Noun::Person)];

/// List the members of a team
///
/// Sorts by name, email or since; by name, if nothing is named. Can expand user.
#[utoipa::path(get, path = "/teams/{id}/members", tag = "people", params(("id" = Uuid, Path), ListQuery, Search, Shaping, MemberFilters),
    responses((status = 200, body = Page<MemberView>)))]
async fn list_members(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleRead)?;
    shape.check_with::<MemberView>(&MEMBER_EXPANDABLE)?;
    let wanted = list.wanted(&MEMBERS, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    store::teams::get(&mut tx, id).await?;
    let members = store::teams::members(&mut tx, id, &wanted).await?;
    let mut page = list.whole(members, MemberView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &MEMBER_EXPANDABLE).await?;
    Ok(Json(page))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMember {
    user: Uuid,
}

#[utoipa::path(post, path = "/teams/{id}/members", tag = "people", params(("id" = Uuid, Path)),
    request_body = NewMember, responses((status = 204)))]
async fn add_member(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    ApiJson(body): ApiJson<NewMember>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::teams::add_member(&mut tx, &caller.actor(), id, UserId(body.user)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/teams/{id}/members/{user}", tag = "people", params(("id" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 200, body = MemberView), (status = 404, body = Problem)))]
async fn show_member(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, user)): ApiPath<(TeamId, UserId)>,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleRead)?;
    let mut tx = caller.begin(&state).await?;
    let member = store::teams::member(&mut tx, id, user).await?;
    Ok(etag::ok(member.updated_at, MemberView::from(member)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_lead: Option<bool>,
    /// All of them, with a level from 1 (begins) to 5 (teaches others).
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(example = json!({"linux": 4}))]
    skills: Option<BTreeMap<String, u8>>,
}

/// What somebody is in a team, and what they can do there
#[utoipa::path(patch, path = "/teams/{id}/members/{user}", tag = "people", params(("id" = Uuid, Path), ("user" = Uuid, Path)),
    request_body = MemberPatch, responses((status = 200, body = MemberView), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn update_member(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, user)): ApiPath<(TeamId, UserId)>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<MemberPatch>,
) -> ApiResult<Response> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    let team = store::teams::lock(&mut tx, id).await?;
    let before = store::teams::member(&mut tx, id, user).await?;
    if_match.check(before.updated_at)?;
    let changes = MemberChanges { is_lead: body.is_lead, skills: body.skills };
    actions::teams::update_member(&mut tx, &caller.actor(), &team, &before, changes).await?;
    let after = store::teams::member(&mut tx, id, user).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, MemberView::from(after)))
}

#[utoipa::path(delete, path = "/teams/{id}/members/{user}", tag = "people",
    params(("id" = Uuid, Path), ("user" = Uuid, Path)), responses((status = 204)))]
async fn remove_member(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, user)): ApiPath<(TeamId, UserId)>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    store::teams::lock(&mut tx, id).await?;
    if_match.check(store::teams::member(&mut tx, id, user).await?.updated_at)?;
    actions::teams::remove_member(&mut tx, &caller.actor(), id, user).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
