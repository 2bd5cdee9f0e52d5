//! `configuration-items`: what the organization runs, kept by hand or by discovery.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Search, etag};
use actions::cmdb::{self, CiFields};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::cmdb::CiStatus;
use domain::{CiCategoryId, Permission};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use store::configuration_items::{ConfigurationItem, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

#[derive(Serialize, ToSchema)]
struct CiView {
    id: Uuid,
    name: String,
    class: String,
    category: Option<Uuid>,
    /// planned, active, maintenance, inactive or retired.
    #[schema(value_type = String)]
    status: CiStatus,
    description: String,
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    /// By what discovery recognises it; one value names one item.
    identifiers: BTreeMap<String, String>,
    /// The source that answers for it; null: kept by hand.
    discovery_source: Option<Uuid>,
    last_seen_at: Option<DateTime<Utc>>,
    /// Its source no longer lists it.
    missing_since: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<ConfigurationItem> for CiView {
    fn from(ci: ConfigurationItem) -> Self {
        CiView {
            id: ci.id.0,
            name: ci.name,
            class: ci.class,
            category: ci.category.map(|id| id.0),
            status: ci.status,
            description: ci.description,
            attributes: ci.attributes,
            identifiers: ci.identifiers,
            discovery_source: ci.discovery_source.map(|id| id.0),
            last_seen_at: ci.last_seen_at,
            missing_since: ci.missing_since,
            created_at: ci.created_at,
            updated_at: ci.updated_at,
        }
    }
}

filters!(CiFilters, FIELDS);

/// List configuration items
///
/// Sorts by created_at or name; newest first, if nothing is named. Nothing can be expanded.
#[utoipa::path(get, path = "/configuration-items", tag = "cmdb", params(ListQuery, Search, Shaping, CiFilters),
    responses((status = 200, body = Page<CiView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::CmdbRead)?;
    shape.check::<CiView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::configuration_items::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, CiView::from)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCi {
    #[schema(min_length = 1, max_length = 300, example = "db1")]
    name: String,
    #[schema(min_length = 1, max_length = 100, example = "server")]
    class: String,
    #[schema(value_type = Option<Uuid>)]
    category: Option<CiCategoryId>,
    /// Default: active.
    #[schema(value_type = Option<String>)]
    status: Option<CiStatus>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    #[serde(default)]
    identifiers: BTreeMap<String, String>,
}

/// Add a configuration item
#[utoipa::path(post, path = "/configuration-items", tag = "cmdb", request_body = NewCi, responses((status = 201, body = CiView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewCi>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = CiFields {
        name: body.name,
        class: body.class,
        category: body.category,
        status: body.status.unwrap_or(CiStatus::Active),
        description: body.description,
        attributes: body.attributes,
        identifiers: body.identifiers,
    };
    let ci = cmdb::create(&mut tx, &caller.actor(), fields).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/configuration-items/{}", ci.id), ci.version, CiView::from(ci)))
}

/// Show a configuration item
#[utoipa::path(get, path = "/configuration-items/{id}", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 200, body = CiView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::CmdbRead)?;
    let mut tx = caller.begin(&state).await?;
    let ci = store::configuration_items::get(&mut tx, id.into()).await?;
    Ok(etag::ok(ci.version, CiView::from(ci)))
}

/// What is left out stays as it is; attributes and identifiers are replaced as a whole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CiChange {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    class: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    category: Option<Option<CiCategoryId>>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    status: Option<CiStatus>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    attributes: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    identifiers: Option<BTreeMap<String, String>>,
}

/// Change a configuration item
#[utoipa::path(patch, path = "/configuration-items/{id}", tag = "cmdb", params(("id" = Uuid, Path)), request_body = CiChange,
    responses((status = 200, body = CiView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<CiChange>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = store::configuration_items::lock(&mut tx, id.into()).await?;
    if_match.check(before.version)?;
    let old = before.clone();
    let fields = CiFields {
        name: body.name.unwrap_or(old.name),
        class: body.class.unwrap_or(old.class),
        category: body.category.unwrap_or(old.category),
        status: body.status.unwrap_or(old.status),
        description: body.description.unwrap_or(old.description),
        attributes: body.attributes.unwrap_or(old.attributes),
        identifiers: body.identifiers.unwrap_or(old.identifiers),
    };
    let ci = cmdb::update(&mut tx, &caller.actor(), before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(ci.version, CiView::from(ci)))
}

/// Delete a configuration item
#[utoipa::path(delete, path = "/configuration-items/{id}", tag = "cmdb", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::CmdbManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::configuration_items::lock(&mut tx, id.into()).await?.version)?;
    cmdb::delete(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
