//! `user-permissions`: what somebody may, how far it reaches, and why.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::tickets;
use axum::Json;
use axum::extract::State;
use domain::permission::{self, Rights};
use domain::{Actor, Permission, TeamId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use store::Tx;
use store::listing::{Field, Key, Kind, List, field, within};
use store::users::ROLES;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(check))
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Whose; left out: one's own. Those of others need people.read.
    pub user_id: Option<Uuid>,
}

impl Whose {
    /// It says whose list that is, and is no filter of its items.
    pub fn of(query: &mut WholeQuery) -> Result<Whose, Problem> {
        let wrong = |text: &String| Problem::invalid("/user_id", format!("{text:?} is not an id"));
        let id = |text: String| text.parse().map_err(|_| wrong(&text));
        Ok(Whose { user_id: query.take("user_id").map(id).transpose()? })
    }
}

/// One permission, and whether the person has it.
#[derive(Serialize, ToSchema)]
struct PermissionView {
    #[schema(example = "tickets.assign")]
    name: &'static str,
    /// The shipped roles that have it.
    roles: Vec<&'static str>,
    allowed: bool,
    /// How far it reaches with all roles together: own, team, department or organization.
    #[schema(example = "organization")]
    scope: Option<&'static str>,
    /// Every role that grants it, whether or not the token that asks may use it.
    why: Vec<ReasonView>,
}

/// A role that grants a permission.
#[derive(Serialize, ToSchema)]
struct ReasonView {
    #[schema(example = "Night shift")]
    role: String,
    /// Null: a shipped role.
    role_id: Option<Uuid>,
    #[schema(example = "team")]
    scope: &'static str,
    /// The team through which the person has the role; null: they have it directly.
    team: Option<Uuid>,
    team_name: Option<String>,
}

/// Whose rights are asked for, as they are now. One's own are those of the credential.
pub(super) async fn rights_of(tx: &mut Tx, caller: &Caller, user: Option<Uuid>) -> ApiResult<Rights> {
    match user.map(UserId).filter(|user| *user != caller.user_id()) {
        None => Ok(caller.rights().clone()),
        Some(user) => {
            caller.require(Permission::PeopleRead)?;
            let person = store::rights::of(tx, user).await?;
            Ok(person.ok_or_else(|| Problem::invalid("/user_id", "there is no such user"))?.rights)
        }
    }
}

pub(super) async fn team_names(tx: &mut Tx, rights: &Rights) -> ApiResult<HashMap<TeamId, String>> {
    let teams: Vec<TeamId> = rights.custom.iter().filter_map(|role| role.team).collect();
    Ok(if teams.is_empty() { HashMap::new() } else { store::ticket_people::team_names(tx, &teams).await? })
}

const FIELDS: &[Field] = &[
    field("name", Kind::Text, "name").by("name", "text"),
    within("role", Kind::Words(ROLES), "roles").says("A shipped role that has it."),
    field("allowed", Kind::Flag, "allowed"),
    field("scope", Kind::Words(&["own", "team", "department", "organization"]), "scope").or_null(),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "name", id: Key { sql: "name", cast: "text" } };

filters!(PermissionFilters, FIELDS);

/// List what somebody may, and why
///
/// Sorts by name.
#[utoipa::path(get, path = "/user-permissions", tag = "people", params(ListQuery, Shaping, PermissionFilters, Whose),
    responses((status = 200, body = Page<PermissionView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    mut query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let whose = Whose::of(&mut query)?;
    let picked = query.of::<PermissionView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let rights = rights_of(&mut tx, &caller, whose.user_id).await?;
    let teams = team_names(&mut tx, &rights).await?;
    let view = |permission: &Permission| PermissionView {
        name: permission.as_str(),
        roles: permission.roles().iter().map(|role| role.as_str()).collect(),
        allowed: rights.scope(*permission).is_some(),
        scope: rights.scope(*permission).map(|scope| scope.as_str()),
        why: reasons(&rights, *permission, &teams),
    };
    Ok(Json(picked.page(Permission::ALL.iter().map(view))?))
}

fn reasons(rights: &Rights, permission: Permission, teams: &HashMap<TeamId, String>) -> Vec<ReasonView> {
    let shipped = rights.role.permissions().get(&permission).map(|scope| ReasonView {
        role: rights.role.as_str().to_owned(),
        role_id: None,
        scope: scope.as_str(),
        team: None,
        team_name: None,
    });
    let custom = rights.custom.iter().filter_map(|role| {
        let scope = role.permissions.get(&permission)?;
        Some(ReasonView {
            role: role.name.clone(),
            role_id: Some(role.id.0),
            scope: scope.as_str(),
            team: role.team.map(|team| team.0),
            team_name: role.team.and_then(|team| teams.get(&team)).cloned(),
        })
    });
    shipped.into_iter().chain(custom).collect()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Who; left out: oneself. About others it needs people.read.
    user: Option<Uuid>,
    #[schema(example = "tickets.assign")]
    permission: String,
    /// With which ticket, by id or number: one that the asker sees.
    #[schema(example = "INC0000007")]
    ticket: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Answer {
    allowed: bool,
    /// Why, or why not.
    #[schema(example = "has the permission tickets.assign in the scope organization")]
    why: String,
    /// The roles that grant the permission, in whatever scope.
    roles: Vec<ReasonView>,
}

/// Ask whether somebody may do something (with a ticket), and why
#[utoipa::path(post, path = "/user-permissions/check", tag = "people", request_body = Question,
    responses((status = 200, body = Answer)))]
async fn check(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<Question>,
) -> ApiResult<Json<Answer>> {
    let permission: Permission = body
        .permission
        .parse()
        .map_err(|error: domain::UnknownWord| Problem::invalid("/permission", error.to_string()))?;
    let mut tx = caller.begin(&state).await?;
    let actor = match body.user.map(UserId).filter(|user| *user != caller.user_id()) {
        None => caller.actor(),
        Some(user) => {
            caller.require(Permission::PeopleRead)?;
            let person = store::rights::of(&mut tx, user).await?;
            let person = person.ok_or_else(|| Problem::invalid("/user", "there is no such user"))?;
            Actor::user(caller.organization(), person.id, person.name, person.rights)
        }
    };
    let (allowed, why) = match &body.ticket {
        Some(key) => {
            let ticket = tickets::find(&mut tx, &caller.actor(), key)
                .await
                .map_err(|_| Problem::invalid("/ticket", "there is no such ticket"))?;
            let decision = tickets::decision(&mut tx, &actor, permission, &ticket).await?;
            (decision.allowed, decision.why.to_string())
        }
        None => {
            match (permission::check(&actor, permission), actor.rights().and_then(|r| r.scope(permission))) {
                (Ok(()), Some(scope)) => (true, permission::Why::Granted(permission, scope).to_string()),
                (Ok(()), None) => (true, permission::Why::System.to_string()),
                (Err(denied), _) => (false, denied.to_string()),
            }
        }
    };
    let rights = actor.rights().ok_or_else(Problem::not_found)?;
    let teams = team_names(&mut tx, rights).await?;
    Ok(Json(Answer { allowed, why, roles: reasons(rights, permission, &teams) }))
}
