//! Logging in, staying in, logging out.

use crate::idempotency::HoldsSecret;
use crate::{ApiJson, ApiResult, AppState, Caller, Credential, Problem};
use actions::auth::{Login, Origin, Tokens};
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::SocketAddr;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(verify_token))
        .routes(routes!(change_password))
}

/// Where a request comes from. Forwarding headers are not believed: nobody said which proxies to trust.
struct From(Origin);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let user_agent =
            parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(From(Origin { user_agent, ip: peer.map(|peer| peer.0.ip().to_string()) }))
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// The slug; needed only with the same address and password in more than one organization.
    #[serde(default)]
    organization: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    #[schema(value_type = String)]
    refresh: SecretString,
}

/// A pair of tokens.
#[derive(Serialize, ToSchema)]
struct TokenPair {
    /// For `Authorization: Bearer …`.
    access: String,
    /// Good for one call of `auth/refresh`.
    refresh: String,
    /// Seconds until `access` expires.
    #[schema(example = 900)]
    expires_in: i64,
}

fn answer(tokens: Tokens) -> Response {
    let refresh = tokens.refresh.expose_secret().to_owned();
    let pair = TokenPair { access: tokens.access, refresh, expires_in: tokens.expires_in };
    (Extension(HoldsSecret), Json(pair)).into_response()
}

/// Log in
#[utoipa::path(post, path = "/auth/login", tag = "auth", security(()), request_body = LoginBody,
    responses((status = 200, body = TokenPair), (status = 401, body = Problem)))]
async fn login(
    State(state): State<AppState>,
    From(origin): From,
    ApiJson(body): ApiJson<LoginBody>,
) -> ApiResult<Response> {
    let login = Login { email: body.email, password: body.password, organization: body.organization };
    Ok(answer(actions::auth::login(&state.db, &state.keys, &login, &origin).await?))
}

/// New tokens for a refresh token
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", security(()), request_body = RefreshBody,
    responses((status = 200, body = TokenPair), (status = 401, body = Problem)))]
async fn refresh(
    State(state): State<AppState>,
    From(origin): From,
    ApiJson(body): ApiJson<RefreshBody>,
) -> ApiResult<Response> {
    let token = body.refresh.expose_secret();
    Ok(answer(actions::auth::refresh(&state.db, &state.keys, token, &origin).await?))
}

/// End a login: that of the refresh token in the body, or of the access token in the header
#[utoipa::path(post, path = "/auth/logout", tag = "auth", security((), ("bearer" = [])),
    request_body = Option<RefreshBody>, responses((status = 204)))]
async fn logout(
    State(state): State<AppState>,
    mut parts: Parts,
    body: Option<ApiJson<RefreshBody>>,
) -> ApiResult<StatusCode> {
    if let Some(ApiJson(body)) = body {
        actions::auth::logout(&state.db, body.refresh.expose_secret()).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let caller = Caller::from_request_parts(&mut parts, &state).await?;
    let Credential::Login(family) = caller.credential() else {
        return Err(Problem::conflict("an API token is no login: revoke it at api-tokens"));
    };
    actions::auth::end_login(&state.db, caller.organization(), family).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    /// An access token or an API token.
    #[schema(value_type = String)]
    token: SecretString,
}

/// What a token is worth.
#[derive(Serialize, ToSchema)]
struct TokenState {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
}

/// Whether a token is good, and whose it is
#[utoipa::path(post, path = "/auth/verify-token", tag = "auth", security(()), request_body = VerifyBody,
    responses((status = 200, body = TokenState)))]
async fn verify_token(
    State(state): State<AppState>,
    ApiJson(body): ApiJson<VerifyBody>,
) -> ApiResult<Json<TokenState>> {
    let token = body.token.expose_secret();
    match Caller::of_token(&state, token).await {
        Ok(caller) => Ok(Json(TokenState {
            valid: true,
            user: Some(caller.user_id().0),
            organization: Some(caller.organization().0),
            role: Some(caller.role().as_str()),
            expires_at: state
                .keys
                .check(token)
                .ok()
                .and_then(|claims| DateTime::from_timestamp(claims.exp, 0)),
        })),
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => Ok(Json(TokenState {
            valid: false,
            user: None,
            organization: None,
            role: None,
            expires_at: None,
        })),
        Err(problem) => Err(problem),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePasswordBody {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// At least 10 characters.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Change one's own password: all other logins end
#[utoipa::path(post, path = "/auth/change-password", tag = "auth", request_body = ChangePasswordBody, responses((status = 204)))]
async fn change_password(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ChangePasswordBody>,
) -> ApiResult<StatusCode> {
    let login = match caller.credential() {
        Credential::Login(family) => Some(family),
        Credential::ApiToken(_) => None,
    };
    let (organization, user) = (caller.organization(), caller.user_id());
    actions::auth::change_password(
        &state.db,
        organization,
        user,
        login,
        &body.current_password,
        &body.new_password,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
