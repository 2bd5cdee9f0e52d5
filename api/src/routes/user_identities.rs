//! `users/{id}/identities`: who somebody is at identity providers.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{ExternalIdentityId, IdentityProviderId, Permission, UserId};
use serde::Serialize;
use serde_json::Value;
use store::external_identities::{self, Identity};
use store::listing::{Field, Key, Kind, List, field};
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

const FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("provider", Kind::Id, "provider"),
    field("provider_name", Kind::LowerText, "provider_name").by("provider_name", "text"),
    field("issuer", Kind::Text, "issuer"),
    field("subject", Kind::Text, "subject"),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
    field("last_login_at", Kind::Time, "last_login_at").by("last_login_at", "timestamptz"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "provider_name", id: Key::uuid("id") };

filters!(IdentityFilters, FIELDS);

/// Who somebody is at identity providers
///
/// Sorts by provider_name, created_at or last_login_at; by provider_name, if nothing is named.
#[utoipa::path(get, path = "/users/{id}/identities", tag = "people", params(("id" = Uuid, Path), ListQuery, Shaping, IdentityFilters),
    responses((status = 200, body = Page<IdentityView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn list_identities(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleManage)?;
    }
    caller.require_whole()?;
    let picked = query.of::<IdentityView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    store::users::get(&mut tx, id).await?;
    let identities = external_identities::of_user(&mut tx, id).await?;
    Ok(Json(picked.page(identities.into_iter().map(IdentityView::from))?))
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
