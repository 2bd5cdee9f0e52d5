//! `user-roles` and `user-permissions`: the permission matrix, to read.

use crate::{ApiResult, AppState, Caller, ListQuery, Page};
use axum::Json;
use domain::{Permission, Role};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_roles)).routes(routes!(list_permissions))
}

/// One of the four roles and what it may do.
#[derive(Serialize, ToSchema)]
struct RoleView {
    #[schema(example = "agent")]
    name: &'static str,
    permissions: Vec<&'static str>,
}

/// One permission and the roles that have it.
#[derive(Serialize, ToSchema)]
struct PermissionView {
    #[schema(example = "tickets.assign")]
    name: &'static str,
    roles: Vec<&'static str>,
    /// Whether the caller has it.
    allowed: bool,
}

#[utoipa::path(get, path = "/user-roles", tag = "people", params(ListQuery), responses((status = 200, body = Page<RoleView>)))]
async fn list_roles(_caller: Caller, list: ListQuery) -> ApiResult<Json<Page<RoleView>>> {
    list.fixed_order("name")?;
    let view = |role: Role| {
        let has = |permission: &&Permission| domain::permission::allows(role, **permission);
        let permissions = Permission::ALL.iter().filter(has).map(|permission| permission.as_str()).collect();
        RoleView { name: role.as_str(), permissions }
    };
    Ok(Json(list.page_of_all(Role::ALL.into_iter().map(view).collect(), |role| role.name.to_owned())?))
}

#[utoipa::path(get, path = "/user-permissions", tag = "people", params(ListQuery), responses((status = 200, body = Page<PermissionView>)))]
async fn list_permissions(caller: Caller, list: ListQuery) -> ApiResult<Json<Page<PermissionView>>> {
    list.fixed_order("name")?;
    let view = |permission: &Permission| PermissionView {
        name: permission.as_str(),
        roles: permission.roles().iter().map(|role| role.as_str()).collect(),
        allowed: domain::permission::allows(caller.role(), *permission),
    };
    let all = Permission::ALL.iter().map(view).collect();
    Ok(Json(list.page_of_all(all, |permission| permission.name.to_owned())?))
}
