//! `discovery-sources`: inventories, their runs and previews.

mod runs;

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Search, etag};
use actions::discovery::{self, DiscoveryFields};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::cmdb::InventoryFormat;
use domain::inventory::InventoryOptions;
use domain::{MASK, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::discovery_sources::{AuthHeader, DiscoverySource, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .merge(runs::router())
}

#[derive(Serialize, ToSchema)]
struct DiscoverySourceView {
    id: Uuid,
    name: String,
    /// json or csv.
    #[schema(value_type = String)]
    format: InventoryFormat,
    location: String,
    identification_keys: Vec<String>,
    /// mapping, items, delimiter, charset, default_class.
    #[schema(value_type = Object)]
    options: InventoryOptions,
    auth_header: Option<AuthHeaderBody>,
    schedule: Option<String>,
    time_zone: String,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// One more header of the request; the value is never shown again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AuthHeaderBody {
    #[schema(example = "Authorization")]
    name: String,
    #[schema(example = "Bearer …")]
    value: String,
}

impl From<AuthHeaderBody> for AuthHeader {
    fn from(body: AuthHeaderBody) -> Self {
        AuthHeader::new(body.name, body.value)
    }
}

impl From<DiscoverySource> for DiscoverySourceView {
    fn from(source: DiscoverySource) -> Self {
        DiscoverySourceView {
            id: source.id.0,
            name: source.name,
            format: source.format,
            location: source.location,
            identification_keys: source.identification_keys,
            options: source.options,
            auth_header: source
                .auth_header
                .map(|header| AuthHeaderBody { name: header.name, value: MASK.into() }),
            schedule: source.schedule,
            time_zone: source.time_zone,
            is_active: source.is_active,
            created_at: source.created_at,
            updated_at: source.updated_at,
        }
    }
}

filters!(DiscoverySourceFilters, FIELDS);

/// List discovery sources
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/discovery-sources", tag = "cmdb", params(ListQuery, Search, Shaping, DiscoverySourceFilters),
    responses((status = 200, body = Page<DiscoverySourceView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::DiscoveryRun)?;
    shape.check::<DiscoverySourceView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::discovery_sources::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, DiscoverySourceView::from)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDiscoverySource {
    #[schema(min_length = 1, max_length = 200, example = "Data centre inventory")]
    name: String,
    /// json or csv.
    #[schema(value_type = String, example = "json")]
    format: InventoryFormat,
    /// An http(s) address, or the path of a file below the folder that the operator allows.
    #[schema(example = "https://inventory.example.org/hosts.json")]
    location: String,
    /// Fields that identify an item, the most trusted first.
    #[schema(example = json!(["serial", "hostname"]))]
    identification_keys: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    options: InventoryOptions,
    auth_header: Option<AuthHeaderBody>,
    /// A cron expression.
    #[schema(example = "0 4 * * *")]
    schedule: Option<String>,
    /// Default: UTC.
    time_zone: Option<String>,
    is_active: Option<bool>,
}

/// Add a discovery source
#[utoipa::path(post, path = "/discovery-sources", tag = "cmdb", request_body = NewDiscoverySource,
    responses((status = 201, body = DiscoverySourceView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewDiscoverySource>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let fields = DiscoveryFields {
        name: body.name,
        format: body.format,
        location: body.location,
        identification_keys: body.identification_keys,
        options: body.options,
        auth_header: body.auth_header.map(Into::into),
        schedule: body.schedule,
        time_zone: body.time_zone.unwrap_or_else(|| "UTC".into()),
        is_active: body.is_active.unwrap_or(true),
    };
    let source = discovery::create(&mut tx, &caller.actor(), &state.secrets, fields).await?;
    tx.commit().await?;
    let location = format!("/api/v1/discovery-sources/{}", source.id);
    Ok(etag::created(&location, source.version, DiscoverySourceView::from(source)))
}

/// Show a discovery source
#[utoipa::path(get, path = "/discovery-sources/{id}", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 200, body = DiscoverySourceView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::DiscoveryRun)?;
    let mut tx = caller.begin(&state).await?;
    let source = store::discovery_sources::get(&mut tx, id.into()).await?;
    Ok(etag::ok(source.version, DiscoverySourceView::from(source)))
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiscoverySourceChange {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    format: Option<InventoryFormat>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    location: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    identification_keys: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    options: Option<InventoryOptions>,
    /// With the mask as value, the stored value stays.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<AuthHeaderBody>)]
    auth_header: Option<Option<AuthHeaderBody>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    schedule: Option<Option<String>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    time_zone: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

/// Change a discovery source
#[utoipa::path(patch, path = "/discovery-sources/{id}", tag = "cmdb", params(("id" = Uuid, Path)),
    request_body = DiscoverySourceChange, responses((status = 200, body = DiscoverySourceView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<DiscoverySourceChange>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let before = store::discovery_sources::lock(&mut tx, id.into()).await?;
    if_match.check(before.version)?;
    let old = before.clone();
    // A header that is not named stays; the mask stands for its value.
    let kept = old.auth_header.map(|header| AuthHeader::new(header.name, MASK.into()));
    let fields = DiscoveryFields {
        name: body.name.unwrap_or(old.name),
        format: body.format.unwrap_or(old.format),
        location: body.location.unwrap_or(old.location),
        identification_keys: body.identification_keys.unwrap_or(old.identification_keys),
        options: body.options.unwrap_or(old.options),
        auth_header: body.auth_header.map_or(kept, |header| header.map(Into::into)),
        schedule: body.schedule.unwrap_or(old.schedule),
        time_zone: body.time_zone.unwrap_or(old.time_zone),
        is_active: body.is_active.unwrap_or(old.is_active),
    };
    let source = discovery::update(&mut tx, &caller.actor(), &state.secrets, before, fields).await?;
    tx.commit().await?;
    Ok(etag::ok(source.version, DiscoverySourceView::from(source)))
}

/// Delete a discovery source
///
/// Its runs go with it; its configuration items stay.
#[utoipa::path(delete, path = "/discovery-sources/{id}", tag = "cmdb", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::DiscoveryManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::discovery_sources::lock(&mut tx, id.into()).await?.version)?;
    discovery::delete(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
