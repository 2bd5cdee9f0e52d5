//! `user-roles`: the shipped roles, those of the organization's own making, and who has these.

use super::permissions::{Whose, rights_of, team_names};
use crate::filters::filters;
use crate::shape::{Noun, Shaping};
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::roles::{self, RoleFields};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::permission::Permissions;
use domain::{Permission, Role, RoleGrantId, RoleId, TeamId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use store::Tx;
use store::listing::{Field, Key, Kind, List, field, within};
use store::roles::{CustomRole, Grant, Holder};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(list_grants, grant))
        .routes(routes!(revoke))
}

/// A role and what it grants.
#[derive(Serialize, ToSchema)]
struct RoleView {
    /// Of a shipped role its name.
    #[schema(example = "agent")]
    id: String,
    #[schema(example = "agent")]
    name: String,
    description: String,
    /// Shipped roles are the same everywhere and do not change; every user has one of them (`role` of the user).
    is_shipped: bool,
    /// Each permission with how far it reaches: own, team, department or organization.
    #[schema(value_type = Object, example = json!({"tickets.view": "team", "tickets.comment_public": "team"}))]
    permissions: BTreeMap<&'static str, &'static str>,
    /// With `user_id`: by which way the person has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldView>,
    created_at: Option<DateTime<Utc>>,
    updated_at: Option<DateTime<Utc>>,
}

/// Directly, or as a member of a team.
#[derive(Serialize, ToSchema)]
struct HeldView {
    team: Option<Uuid>,
    team_name: Option<String>,
}

fn words(permissions: &Permissions) -> BTreeMap<&'static str, &'static str> {
    permissions.iter().map(|(permission, scope)| (permission.as_str(), scope.as_str())).collect()
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        let description = match role {
            Role::Admin => "Everything in the organization",
            Role::Manager => "Works on tickets, runs teams, promises and reports",
            Role::Agent => "Works on tickets",
            Role::EndUser => "Opens tickets and follows their own",
        };
        RoleView {
            id: role.as_str().to_owned(),
            name: role.as_str().to_owned(),
            description: description.to_owned(),
            is_shipped: true,
            permissions: words(&role.permissions()),
            held: Vec::new(),
            created_at: None,
            updated_at: None,
        }
    }
}

impl From<CustomRole> for RoleView {
    fn from(role: CustomRole) -> Self {
        RoleView {
            id: role.id.to_string(),
            name: role.name,
            description: role.description,
            is_shipped: false,
            permissions: words(&role.permissions),
            held: Vec::new(),
            created_at: Some(role.created_at),
            updated_at: Some(role.updated_at),
        }
    }
}

const FIELDS: &[Field] = &[
    field("id", Kind::Text, "id"),
    field("name", Kind::LowerText, "name").by("name", "text"),
    field("is_shipped", Kind::Flag, "is_shipped").by("is_shipped", "integer"),
    within("permission", Kind::Text, "permissions").says("One that the role grants."),
    field("created_at", Kind::Time, "created_at").or_null(),
    field("updated_at", Kind::Time, "updated_at").or_null(),
];
const LIST: List = List {
    from: "name description",
    fields: FIELDS,
    usual: "-is_shipped,name",
    id: Key { sql: "id", cast: "text" },
};

filters!(RoleFilters, FIELDS);

/// List the roles there are; with `user_id` those that a person has, and by which way
///
/// Who may not read the directory gets their own. Sorts by name or is_shipped; the shipped ones first, if nothing is named.
#[utoipa::path(get, path = "/user-roles", tag = "people", params(ListQuery, Search, Shaping, RoleFilters, Whose),
    responses((status = 200, body = Page<RoleView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    mut query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let whose = Whose::of(&mut query)?;
    let picked = query.of::<RoleView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let custom = store::roles::all(&mut tx).await?;
    let all = Role::ALL.into_iter().map(RoleView::from).chain(custom.into_iter().map(RoleView::from));
    let mut roles: Vec<RoleView> = all.collect();
    if whose.user_id.is_some() || caller.require(Permission::PeopleRead).is_err() {
        let rights = rights_of(&mut tx, &caller, whose.user_id).await?;
        let teams = team_names(&mut tx, &rights).await?;
        for role in &mut roles {
            if role.id == rights.role.as_str() {
                role.held.push(HeldView { team: None, team_name: None });
            }
            let held = rights.custom.iter().filter(|held| held.id.to_string() == role.id);
            role.held.extend(held.map(|held| HeldView {
                team: held.team.map(|team| team.0),
                team_name: held.team.and_then(|team| teams.get(&team)).cloned(),
            }));
        }
        roles.retain(|role| !role.held.is_empty());
    }
    Ok(Json(picked.page(roles)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    #[schema(min_length = 1, max_length = 200, example = "Night shift")]
    name: String,
    #[serde(default)]
    description: String,
    /// Each permission (`GET user-permissions`) with how far it reaches: own, team, department or organization. Those that are not about
    /// tickets are granted for the organization.
    #[schema(value_type = Object, example = json!({"tickets.view": "team", "tickets.comment_public": "team"}))]
    permissions: BTreeMap<String, String>,
}

/// Make a role. It can hold only what its maker has
#[utoipa::path(post, path = "/user-roles", tag = "people", request_body = NewRole,
    responses((status = 201, body = RoleView), (status = 409, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewRole>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = RoleFields { name: body.name, description: body.description, permissions: body.permissions };
    let made = roles::create(&mut tx, &caller.actor(), fields).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/user-roles/{}", made.id), made.updated_at, RoleView::from(made)))
}

/// What a path names: a shipped role by its name, another by its id.
enum Named {
    Shipped(Role),
    Custom(RoleId),
}

impl Named {
    fn of(key: &str) -> ApiResult<Named> {
        match key.parse::<Role>() {
            Ok(role) => Ok(Named::Shipped(role)),
            Err(_) => Ok(Named::Custom(key.parse().map_err(|_| Problem::not_found())?)),
        }
    }

    /// The locked row of a role that can be changed.
    async fn lock(key: &str, tx: &mut Tx, caller: &Caller) -> ApiResult<CustomRole> {
        match Named::of(key)? {
            Named::Custom(id) => Ok(store::roles::lock(tx, id).await?),
            Named::Shipped(_) => {
                caller.require(Permission::RolesManage)?;
                Err(Problem::conflict(
                    "shipped roles cannot be changed: a user's shipped role is the field `role` of the user",
                ))
            }
        }
    }
}

#[utoipa::path(get, path = "/user-roles/{id}", tag = "people", params(("id" = String, Path, description = "id, or name of a shipped role")),
    responses((status = 200, body = RoleView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleRead)?;
    let mut tx = caller.begin(&state).await?;
    match Named::of(&key)? {
        Named::Shipped(role) => Ok(etag::ok(DateTime::UNIX_EPOCH, RoleView::from(role))),
        Named::Custom(id) => {
            let role = store::roles::get(&mut tx, id).await?;
            Ok(etag::ok(role.updated_at, RoleView::from(role)))
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RolePatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    /// Exactly these from now on.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(value_type = Option<Object>)]
    permissions: Option<BTreeMap<String, String>>,
}

/// Change a role. Nobody changes one that grants, before or after, what they do not have
#[utoipa::path(patch, path = "/user-roles/{id}", tag = "people", params(("id" = String, Path)), request_body = RolePatch,
    responses((status = 200, body = RoleView), (status = 409, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<RolePatch>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = Named::lock(&key, &mut tx, &caller).await?;
    if_match.check(before.updated_at)?;
    let same = || words(&before.permissions).into_iter().map(|(name, scope)| (name.into(), scope.into()));
    let fields = RoleFields {
        name: body.name.unwrap_or_else(|| before.name.clone()),
        description: body.description.unwrap_or_else(|| before.description.clone()),
        permissions: body.permissions.unwrap_or_else(|| same().collect()),
    };
    let after = roles::update(&mut tx, &caller.actor(), before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, RoleView::from(after)))
}

/// Delete a role: whoever had it has it no longer
#[utoipa::path(delete, path = "/user-roles/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 204), (status = 409, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    let role = Named::lock(&key, &mut tx, &caller).await?;
    if_match.check(role.updated_at)?;
    roles::delete(&mut tx, &caller.actor(), role.id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody who has a role: a person, or all who are in a team.
#[derive(Serialize, ToSchema)]
struct GrantView {
    id: Uuid,
    user: Option<Uuid>,
    team: Option<Uuid>,
    /// What the person or the team is called.
    name: String,
    granted_by: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl From<Grant> for GrantView {
    fn from(grant: Grant) -> Self {
        let (user, team) = match grant.holder {
            Holder::User(user) => (Some(user.0), None),
            Holder::Team(team) => (None, Some(team.0)),
        };
        GrantView {
            id: grant.id.0,
            user,
            team,
            name: grant.name,
            granted_by: grant.granted_by.map(|user| user.0),
            created_at: grant.created_at,
        }
    }
}

async fn all_grants(tx: &mut Tx, role: RoleId) -> ApiResult<Vec<GrantView>> {
    Ok(store::roles::grants(tx, role).await?.into_iter().map(GrantView::from).collect())
}

const GRANT_FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("user", Kind::Id, "user").or_null(),
    field("team", Kind::Id, "team").or_null(),
    field("name", Kind::LowerText, "name").by("name", "text"),
    field("granted_by", Kind::Id, "granted_by").or_null(),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
];
const GRANTS: List = List { from: "name", fields: GRANT_FIELDS, usual: "created_at", id: Key::uuid("id") };
const GRANT_EXPANDABLE: [(&str, Noun); 3] =
    [("user", Noun::Person), ("team", Noun::Team), ("granted_by", Noun::Person)];

filters!(GrantFilters, GRANT_FIELDS);

/// List who has a role
///
/// Sorts by created_at or name; the oldest first, if nothing is named. Can expand user, team and granted_by.
#[utoipa::path(get, path = "/user-roles/{id}/grants", tag = "people",
    params(("id" = Uuid, Path), ListQuery, Search, Shaping, GrantFilters),
    responses((status = 200, body = Page<GrantView>)))]
async fn list_grants(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<RoleId>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleRead)?;
    let picked = query.expanding::<GrantView>(&GRANTS, &GRANT_EXPANDABLE, &caller)?;
    let mut tx = caller.begin(&state).await?;
    store::roles::get(&mut tx, id).await?;
    let grants = all_grants(&mut tx, id).await?;
    Ok(Json(picked.expanded(&mut tx, &caller, grants, &GRANT_EXPANDABLE).await?))
}

/// One of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    user: Option<Uuid>,
    team: Option<Uuid>,
}

/// Give a role to a person or to a team. Nobody gives one that grants what they do not have
#[utoipa::path(post, path = "/user-roles/{id}/grants", tag = "people", params(("id" = Uuid, Path)), request_body = NewGrant,
    responses((status = 201, body = Page<GrantView>), (status = 200, body = Page<GrantView>, description = "they had it already")))]
async fn grant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<RoleId>,
    ApiJson(body): ApiJson<NewGrant>,
) -> ApiResult<(StatusCode, Json<Page<GrantView>>)> {
    let mut tx = caller.begin(&state).await?;
    store::roles::get(&mut tx, id).await?;
    let to = match (body.user, body.team) {
        (Some(user), None) => Holder::User(UserId(user)),
        (None, Some(team)) => Holder::Team(TeamId(team)),
        (Some(_), Some(_)) => return Err(Problem::invalid("/team", "name a user or a team, not both")),
        (None, None) => return Err(Problem::invalid("/user", "name a user or a team")),
    };
    let is_new = roles::grant(&mut tx, &caller.actor(), id, to).await?.is_some();
    let items = all_grants(&mut tx, id).await?;
    tx.commit().await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Page { items, next_cursor: None })))
}

/// Take a role from a person or a team
#[utoipa::path(delete, path = "/user-roles/{id}/grants/{grant}", tag = "people", params(("id" = Uuid, Path), ("grant" = Uuid, Path)),
    responses((status = 204)))]
async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, grant)): ApiPath<(RoleId, RoleGrantId)>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::roles::lock(&mut tx, id).await?.updated_at)?;
    roles::revoke(&mut tx, &caller.actor(), id, grant).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
