//! `users/{id}/identities`: who somebody is at identity providers.

use crate::{ApiPath, ApiResult, AppState, Caller, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{ExternalIdentityId, IdentityProviderId, Permission, UserId};
use serde::Serialize;
use store::external_identities::{self, Identity};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_identities)).routes(routes!(unlink))
}

#[derive(Debug, Serialize, ToSchema)]
struct IdentityView {
    #[schema(value_type = Uuid)]
    id: ExternalIdentityId,
    #[schema(value_type = Uuid)]
    provider: IdentityProviderId,
    provider_name: String,
    issuer: String,
    /// Names the person there.
    subject: String,
    created_at: DateTime<Utc>,
    last_login_at: DateTime<Utc>,
    /// Whether one can log in there now.
    is_enabled: bool,
}

impl From<Identity> for IdentityView {
    fn from(identity: Identity) -> Self {
        IdentityView {
            id: identity.id,
            provider: identity.provider,
            provider_name: identity.provider_name,
            issuer: identity.issuer,
            subject: identity.subject,
            created_at: identity.created_at,
            last_login_at: identity.last_login_at,
            is_enabled: identity.is_enabled,
        }
    }
}

/// Who somebody is at identity providers
#[utoipa::path(get, path = "/users/{id}/identities", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = Page<IdentityView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn list_identities(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Json<Page<IdentityView>>> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleManage)?;
    }
    caller.require_whole()?;
    let mut tx = caller.begin(&state).await?;
    store::users::get(&mut tx, id).await?;
    let identities = external_identities::of_user(&mut tx, id).await?;
    Ok(Json(Page { items: identities.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Take an identity away
///
/// The person's logins by way of that provider end. If the provider may, it links or makes an account anew at their next login.
#[utoipa::path(delete, path = "/users/{id}/identities/{identity}", tag = "people",
    params(("id" = Uuid, Path), ("identity" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn unlink(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, identity)): ApiPath<(UserId, ExternalIdentityId)>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::identity_providers::unlink(&mut tx, &caller.actor(), id, identity).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
