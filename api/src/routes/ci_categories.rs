//! `ci-categories`: a tree to sort configuration items by.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Search, etag};
use actions::cmdb::{self, CategoryFields};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{CiCategoryId, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::ci_categories::{CiCategory, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

#[derive(Serialize, ToSchema)]
struct CiCategoryView {
    id: Uuid,
    name: String,
    description: String,
    parent: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<CiCategory> for CiCategoryView {
    fn from(category: CiCategory) -> Self {
        CiCategoryView {
            id: category.id.0,
            name: category.name,
            description: category.description,
            parent: category.parent.map(|id| id.0),
            created_at: category.created_at,
            updated_at: category.updated_at,
        }
    }
}

filters!(CiCategoryFilters, FIELDS);

/// List categories of configuration items
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/ci-categories", tag = "cmdb", params(ListQuery, Search, Shaping, CiCategoryFilters),
    responses((status = 200, body = Page<CiCategoryView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::CmdbRead)?;
    shape.check::<CiCategoryView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::ci_categories::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, CiCategoryView::from)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCiCategory {
    #[schema(min_length = 1, max_length = 200, example = "Databases")]
    name: String,
    #[serde(default)]
    description: String,
    #[schema(value_type = Option<Uuid>)]
    parent: Option<CiCategoryId>,
}

/// Add a category
#[utoipa::path(post, path = "/ci-categories", tag = "cmdb", request_body = NewCiCategory,
    responses((status = 201, body = CiCategoryView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewCiCategory>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = CategoryFields { name: body.name, description: body.description, parent: body.parent };
    let category = cmdb::create_category(&mut tx, &caller.actor(), fields).await?;
    tx.commit().await?;
    let location = format!("/api/v1/ci-categories/{}", category.id);
    Ok(etag::created(&location, category.updated_at, CiCategoryView::from(category)))
}

/// Show a category
#[utoipa::path(get, path = "/ci-categories/{id}", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 200, body = CiCategoryView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::CmdbRead)?;
    let mut tx = caller.begin(&state).await?;
    let category = store::ci_categories::get(&mut tx, id.into()).await?;
    Ok(etag::ok(category.updated_at, CiCategoryView::from(category)))
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CiCategoryChange {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    parent: Option<Option<CiCategoryId>>,
}

/// Change a category
#[utoipa::path(patch, path = "/ci-categories/{id}", tag = "cmdb", params(("id" = Uuid, Path)), request_body = CiCategoryChange,
    responses((status = 200, body = CiCategoryView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<CiCategoryChange>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = store::ci_categories::lock(&mut tx, id.into()).await?;
    if_match.check(before.updated_at)?;
    let fields = CategoryFields {
        name: body.name.unwrap_or_else(|| before.name.clone()),
        description: body.description.unwrap_or_else(|| before.description.clone()),
        parent: body.parent.unwrap_or(before.parent),
    };
    let category = cmdb::update_category(&mut tx, &caller.actor(), before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(category.updated_at, CiCategoryView::from(category)))
}

/// Delete a category
#[utoipa::path(delete, path = "/ci-categories/{id}", tag = "cmdb", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::CmdbManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::ci_categories::lock(&mut tx, id.into()).await?.updated_at)?;
    cmdb::delete_category(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
