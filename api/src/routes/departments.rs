//! Departments.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::departments::DepartmentFields;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{DepartmentId, Permission, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::departments::{Department, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_departments, create_department))
        .routes(routes!(show_department, update_department, delete_department))
        .routes(routes!(restore_department))
}

/// A department.
#[derive(Serialize, ToSchema)]
struct DepartmentView {
    id: Uuid,
    name: String,
    /// The department it belongs to.
    parent: Option<Uuid>,
    manager: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Deleted since then: in no list but that of deleted ones, and named by what named it before.
    deleted_at: Option<DateTime<Utc>>,
}

impl From<Department> for DepartmentView {
    fn from(department: Department) -> Self {
        DepartmentView {
            id: department.id.0,
            name: department.name,
            parent: department.parent.map(Into::into),
            manager: department.manager.map(Into::into),
            created_at: department.created_at,
            updated_at: department.updated_at,
            deleted_at: department.deleted_at,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDepartment {
    name: String,
    #[serde(default)]
    parent: Option<Uuid>,
    #[serde(default)]
    manager: Option<Uuid>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DepartmentPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    parent: Option<Option<Uuid>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    manager: Option<Option<Uuid>>,
}

filters!(DepartmentFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 2] = [("parent", Noun::Department), ("manager", Noun::Person)];

/// List departments
///
/// Without the deleted ones. Sorts by name or created_at; by name, if nothing is named. Can expand parent and manager.
#[utoipa::path(get, path = "/departments", tag = "people", params(ListQuery, Search, Shaping, DepartmentFilters),
    responses((status = 200, body = Page<DepartmentView>)))]
async fn list_departments(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleRead)?;
    shape.check_with::<DepartmentView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::departments::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, DepartmentView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[utoipa::path(post, path = "/departments", tag = "people", request_body = NewDepartment, responses((status = 201, body = DepartmentView)))]
async fn create_department(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewDepartment>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = DepartmentFields {
        name: body.name,
        parent: body.parent.map(DepartmentId),
        manager: body.manager.map(UserId),
    };
    let made = actions::departments::create(&mut tx, &caller.actor(), fields).await?;
    tx.commit().await?;
    Ok(etag::created(
        &format!("/api/v1/departments/{}", made.id),
        made.updated_at,
        DepartmentView::from(made),
    ))
}

#[utoipa::path(get, path = "/departments/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = DepartmentView), (status = 404, body = Problem)))]
async fn show_department(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DepartmentId>,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = store::departments::get(&mut tx, id).await?;
    Ok(etag::ok(found.updated_at, DepartmentView::from(found)))
}

#[utoipa::path(patch, path = "/departments/{id}", tag = "people", params(("id" = Uuid, Path)),
    request_body = DepartmentPatch, responses((status = 200, body = DepartmentView)))]
async fn update_department(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DepartmentId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<DepartmentPatch>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = actions::departments::lock(&mut tx, id, body.parent.is_some()).await?;
    if_match.check(before.updated_at)?;
    let fields = DepartmentFields {
        name: body.name.unwrap_or_else(|| before.name.clone()),
        parent: body.parent.map_or(before.parent, |id| id.map(DepartmentId)),
        manager: body.manager.map_or(before.manager, |id| id.map(UserId)),
    };
    let after = actions::departments::update(&mut tx, &caller.actor(), before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, DepartmentView::from(after)))
}

/// Delete a department softly: its name is free, and what is over keeps it
#[utoipa::path(delete, path = "/departments/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem),
        (status = 409, description = "Deleted already, or people, teams or departments belong to it", body = Problem)))]
async fn delete_department(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DepartmentId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = actions::departments::lock_whole(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    actions::departments::delete(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bring a department back that was deleted
#[utoipa::path(post, path = "/departments/{id}/restore", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = DepartmentView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "Not deleted, its name is taken by now, or the department above is deleted", body = Problem)))]
async fn restore_department(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DepartmentId>,
    if_match: IfMatch,
) -> ApiResult<Response> {
    caller.require(Permission::TeamsManage)?;
    let mut tx = caller.begin(&state).await?;
    let before = actions::departments::lock_whole(&mut tx, id).await?;
    if_match.check(before.updated_at)?;
    let after = actions::departments::restore(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, DepartmentView::from(after)))
}
