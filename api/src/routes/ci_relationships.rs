//! `ci-relationships`: how configuration items hang together, read from `from` to `to`: "shop runs_on web1".

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page};
use actions::cmdb;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use chrono::{DateTime, Utc};
use domain::cmdb::CiRelationKind;
use domain::{CiId, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::ci_relationships::{CiRelationship, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, remove))
}

#[derive(Serialize, ToSchema)]
struct CiRelationshipView {
    id: Uuid,
    from: Uuid,
    to: Uuid,
    /// depends_on, runs_on, hosted_on, part_of, connected_to, uses, backed_up_by or managed_by.
    #[schema(value_type = String)]
    kind: CiRelationKind,
    created_at: DateTime<Utc>,
}

impl From<CiRelationship> for CiRelationshipView {
    fn from(relationship: CiRelationship) -> Self {
        CiRelationshipView {
            id: relationship.id.0,
            from: relationship.from.0,
            to: relationship.to.0,
            kind: relationship.kind,
            created_at: relationship.created_at,
        }
    }
}

filters!(CiRelationshipFilters, FIELDS);

/// List relationships
///
/// Sorts by created_at; the newest first, if nothing is named.
#[utoipa::path(get, path = "/ci-relationships", tag = "cmdb", params(ListQuery, Shaping, CiRelationshipFilters),
    responses((status = 200, body = Page<CiRelationshipView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::CmdbRead)?;
    shape.check::<CiRelationshipView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::ci_relationships::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, CiRelationshipView::from)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCiRelationship {
    #[schema(value_type = Uuid)]
    from: CiId,
    #[schema(value_type = Uuid)]
    to: CiId,
    #[schema(value_type = String, example = "runs_on")]
    kind: CiRelationKind,
}

/// Relate two configuration items
#[utoipa::path(post, path = "/ci-relationships", tag = "cmdb", request_body = NewCiRelationship,
    responses((status = 201, body = CiRelationshipView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewCiRelationship>,
) -> ApiResult<(StatusCode, [(HeaderName, String); 1], Json<CiRelationshipView>)> {
    let mut tx = caller.begin(&state).await?;
    let relationship = cmdb::relate(&mut tx, &caller.actor(), body.from, body.to, body.kind).await?;
    tx.commit().await?;
    let location = format!("/api/v1/ci-relationships/{}", relationship.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(relationship.into())))
}

/// Show a relationship
#[utoipa::path(get, path = "/ci-relationships/{id}", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 200, body = CiRelationshipView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Json<CiRelationshipView>> {
    caller.require(Permission::CmdbRead)?;
    let mut tx = caller.begin(&state).await?;
    Ok(Json(store::ci_relationships::get(&mut tx, id.into()).await?.into()))
}

/// Delete a relationship
#[utoipa::path(delete, path = "/ci-relationships/{id}", tag = "cmdb", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    cmdb::unrelate(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
