//! Tenants, as those see them who operate the installation: the organizations and their shares of busy lanes.

use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::operations::{self, TenantView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_tenants)).routes(routes!(change_tenant))
}

/// An organization of the installation.
#[derive(Serialize, ToSchema)]
struct Tenant {
    id: Uuid,
    #[schema(example = "acme")]
    slug: String,
    name: String,
    is_operator: bool,
    /// Its share of a lane in which several wait, as a multiple of the usual share.
    #[schema(example = 1)]
    weight: f32,
}

impl From<TenantView> for Tenant {
    fn from(TenantView { organization, weight }: TenantView) -> Self {
        Tenant {
            id: organization.id.0,
            slug: organization.slug,
            name: organization.name,
            is_operator: organization.is_operator,
            weight,
        }
    }
}

/// All organizations with their shares of busy lanes (operator's organization only)
#[utoipa::path(get, path = "/tenants", tag = "jobs", params(ListQuery),
    responses((status = 200, body = Page<Tenant>), (status = 403, body = Problem)))]
async fn list_tenants(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
) -> ApiResult<Json<Page<Tenant>>> {
    list.fixed_order("slug")?;
    let mut tx = state.db.begin_system().await?;
    let tenants = operations::tenants(&mut tx, &caller.actor()).await?;
    let tenants = tenants.into_iter().map(Tenant::from).collect();
    Ok(Json(list.page_of_all(tenants, |tenant| tenant.slug.clone())?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    /// 1 is the usual share.
    #[schema(minimum = 0.01, maximum = 1000, example = 3)]
    weight: f32,
}

/// Give an organization another share of busy lanes, in all processes and at once (operator's organization only)
#[utoipa::path(patch, path = "/tenants/{slug}", tag = "jobs", params(("slug" = String, Path)), request_body = TenantChange,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn change_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(slug): ApiPath<String>,
    ApiJson(body): ApiJson<TenantChange>,
) -> ApiResult<StatusCode> {
    let mut tx = state.db.begin_system().await?;
    operations::set_weight(&mut tx, &caller.actor(), &slug, body.weight).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
