//! API tokens: shown once, stored hashed.

use crate::filters::{Asked, filters};
use crate::idempotency::HoldsSecret;
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Credential, ListQuery, Page, Problem};
use actions::api_tokens::NewToken;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use domain::{ApiTokenId, Permission, UserId, permission};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::api_tokens::{ApiToken, FIELDS, LIST};
use store::listing::{Condition, Is};
use utoipa::ToSchema;
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

filters!(TokenFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 1] = [("user", Noun::Person)];

/// One's own tokens; admins see everybody's
///
/// Sorts by created_at or name; the newest first, if nothing is named. Can expand user.
#[utoipa::path(get, path = "/api-tokens", tag = "auth", params(ListQuery, Shaping, TokenFilters),
    responses((status = 200, body = Page<ApiTokenView>)))]
async fn list_tokens(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::TokensOwn)?;
    shape.check_with::<ApiTokenView>(&EXPANDABLE)?;
    let (mut wanted, me) = (list.wanted(&LIST, &asked, caller.user_id())?, Is::Id(vec![caller.user_id().0]));
    if permission::check(&caller.actor(), Permission::TokensManage).is_err() {
        let asks_for = |condition: &Condition| condition.field.name == "user" && condition.is != me;
        if wanted.conditions.iter().any(asks_for) {
            caller.require(Permission::TokensManage)?;
        }
        wanted.conditions.extend(Condition::new(FIELDS, "user", me));
    }
    let mut tx = caller.begin(&state).await?;
    let rows = store::api_tokens::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, ApiTokenView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
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
