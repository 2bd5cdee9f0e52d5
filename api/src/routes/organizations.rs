//! The caller's own organization. Others are made by `relaydesk admin create-organization` and are not found here.

use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, etag};
use actions::organizations::TenantChanges;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{OrganizationId, Permission};
use serde::{Deserialize, Serialize};
use store::organizations::Organization;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_organizations))
        .routes(routes!(show_organization, update_organization))
}

/// An organization.
#[derive(Serialize, ToSchema)]
struct OrganizationView {
    id: Uuid,
    #[schema(example = "acme")]
    slug: String,
    name: String,
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    /// Whether it operates this installation: its admins may pause lanes.
    is_operator: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Organization> for OrganizationView {
    fn from(organization: Organization) -> Self {
        OrganizationView {
            id: organization.id.0,
            slug: organization.slug,
            name: organization.name,
            time_zone: organization.time_zone,
            is_operator: organization.is_operator,
            created_at: organization.created_at,
            updated_at: organization.updated_at,
        }
    }
}

/// The organizations one sees: one's own
#[utoipa::path(get, path = "/organizations", tag = "people", params(ListQuery),
    responses((status = 200, body = Page<OrganizationView>)))]
async fn list_organizations(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
) -> ApiResult<Json<Page<OrganizationView>>> {
    list.fixed_order("name")?;
    let mut tx = caller.begin(&state).await?;
    let own = store::organizations::current(&mut tx).await?;
    Ok(Json(list.page_of_all(vec![OrganizationView::from(own)], |item| item.id)?))
}

#[utoipa::path(get, path = "/organizations/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = OrganizationView), (status = 404, body = Problem)))]
async fn show_organization(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<OrganizationId>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let found = store::organizations::find(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    Ok(etag::ok(found.updated_at, OrganizationView::from(found)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrganizationPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    time_zone: Option<String>,
}

#[utoipa::path(patch, path = "/organizations/{id}", tag = "people", params(("id" = Uuid, Path)),
    request_body = OrganizationPatch, responses((status = 200, body = OrganizationView)))]
async fn update_organization(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<OrganizationId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<OrganizationPatch>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    if id != caller.organization() {
        return Err(Problem::not_found());
    }
    caller.require(Permission::OrganizationManage)?;
    if_match.check(store::organizations::lock(&mut tx).await?.updated_at)?;
    let changes = TenantChanges { name: body.name, time_zone: body.time_zone };
    let after = actions::organizations::update(&mut tx, &caller.actor(), &changes).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, OrganizationView::from(after)))
}
