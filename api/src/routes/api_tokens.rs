//! API tokens: shown once, stored hashed.

use crate::idempotency::HoldsSecret;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Credential, Filters, ListQuery, Page, Problem};
use actions::api_tokens::NewToken;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use domain::{ApiTokenId, Permission, UserId, permission};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use store::api_tokens::ApiToken;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_tokens, create_token)).routes(routes!(revoke_token))
}

/// An API token, without the token.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiTokenView {
    id: Uuid,
    user: Uuid,
    name: String,
    /// How the token begins.
    #[schema(example = "rd_a1B2c3")]
    prefix: String,
    /// The permissions that it is for; null: all of its user.
    #[schema(example = json!(["tickets.view", "tickets.create"]))]
    scopes: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    /// To the minute.
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<ApiToken> for ApiTokenView {
    fn from(token: ApiToken) -> Self {
        ApiTokenView {
            id: token.id.0,
            user: token.user.0,
            name: token.name,
            prefix: token.prefix,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TokenFilter {
    /// Whose; admins may ask for others.
    user: Option<Uuid>,
}

/// One's own tokens; admins see everybody's
#[utoipa::path(get, path = "/api-tokens", tag = "auth", params(ListQuery, TokenFilter),
    responses((status = 200, body = Page<ApiTokenView>)))]
async fn list_tokens(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filter): Filters<TokenFilter>,
) -> ApiResult<Json<Page<ApiTokenView>>> {
    caller.require(Permission::TokensOwn)?;
    list.fixed_order("-created_at")?;
    let all = permission::check(&caller.actor(), Permission::TokensManage).is_ok();
    let user = match filter.user.map(UserId) {
        Some(user) if user != caller.user_id() && !all => {
            return Err(caller.require(Permission::TokensManage).unwrap_err());
        }
        Some(user) => Some(user),
        None if all => None,
        None => Some(caller.user_id()),
    };
    let mut tx = caller.begin(&state).await?;
    let rows = store::api_tokens::list(&mut tx, user, list.after()?, list.limit()).await?;
    Ok(Json(list.page(rows, |row| (row.created_at, row.id.0), ApiTokenView::from)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApiTokenBody {
    /// What it is for.
    #[schema(example = "nightly export")]
    name: String,
    /// With an API token that expires: at the latest when that one does, which is the default then.
    #[serde(default, deserialize_with = "crate::moment::optional")]
    expires_at: Option<DateTime<Utc>>,
    /// The permissions that it is for, as `user-permissions` lists them; left out: all of its user. It never allows more than its user may at the
    /// moment, nor more than the token that asks for it.
    #[serde(default)]
    #[schema(example = json!(["tickets.view", "tickets.create"]))]
    scopes: Option<Vec<String>>,
}

/// A new token, with the token itself: it is not shown again.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiToken {
    #[serde(flatten)]
    #[schema(inline)]
    view: ApiTokenView,
    #[schema(example = "rd_…")]
    token: String,
}

/// Make a token for oneself: it can do what its user can, or less
///
/// A person has to be logged in for it, and to have shown who they are within the last ten minutes. A service account makes its own with one
/// that it has.
#[utoipa::path(post, path = "/api-tokens", tag = "auth", request_body = NewApiTokenBody,
    responses((status = 201, body = CreatedApiToken), (status = 401, body = Problem),
        (status = 403, description = "Not allowed; or `reauthentication-required`: the login is older than ten minutes", body = Problem),
        (status = 422, body = Problem)))]
async fn create_token(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewApiTokenBody>,
) -> ApiResult<Response> {
    make(&state, &caller, caller.user_id(), body).await
}

pub(crate) async fn make(
    state: &AppState,
    caller: &Caller,
    user: UserId,
    body: NewApiTokenBody,
) -> ApiResult<Response> {
    let made_with = match caller.credential() {
        Credential::ApiToken(id) => Some(id),
        Credential::Login(_) => {
            caller.require_recent_login()?;
            None
        }
    };
    let new = NewToken { name: body.name, expires_at: body.expires_at, scopes: body.scopes, made_with };
    let mut tx = caller.begin(state).await?;
    let (made, token) = actions::api_tokens::create(&mut tx, &caller.actor(), user, &new).await?;
    tx.commit().await?;
    let created = CreatedApiToken { view: made.into(), token: token.expose_secret().to_owned() };
    Ok((StatusCode::CREATED, Extension(HoldsSecret), Json(created)).into_response())
}

/// Revoke a token, from now on
#[utoipa::path(delete, path = "/api-tokens/{id}", tag = "auth", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn revoke_token(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ApiTokenId>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::api_tokens::revoke(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
