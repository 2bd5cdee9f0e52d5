//! Logging in, staying in, logging out.

use crate::client::ClientAddress;
use crate::idempotency::HoldsSecret;
use crate::{ApiJson, ApiResult, AppState, Caller, Credential, Problem};
use actions::auth::{Again, LoggedIn, Login, Origin, Tokens};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(reauthenticate))
        .routes(routes!(verify_token))
}

/// Where a request comes from.
pub(crate) struct From(pub Origin);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let user_agent =
            parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let client = parts.extensions.get::<ClientAddress>().and_then(|client| client.0);
        Ok(From(Origin { user_agent, ip: client.map(|address| address.to_string()) }))
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
pub(crate) struct TokenPair {
    /// For `Authorization: Bearer …`.
    access: String,
    /// Good for one call of `auth/refresh`.
    refresh: String,
    /// Seconds until `access` expires.
    #[schema(example = 900)]
    expires_in: i64,
}

impl std::convert::From<Tokens> for TokenPair {
    fn from(tokens: Tokens) -> Self {
        let refresh = tokens.refresh.expose_secret().to_owned();
        TokenPair { access: tokens.access, refresh, expires_in: tokens.expires_in }
    }
}

/// The password was right, and is not enough.
#[derive(Serialize, ToSchema)]
pub(crate) struct MfaRequired {
    /// Always true.
    mfa_required: bool,
    /// For `auth/mfa/verify`, within ten minutes.
    #[schema(example = "rdm_…")]
    mfa_token: String,
    /// There is no second factor yet, and the organization asks for one: begin with `auth/mfa/enable`. The token is good for nothing else.
    must_enrol: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LoginAnswer {
    In(TokenPair),
    Halfway(MfaRequired),
}

/// What holds a secret is not kept for repetitions.
pub(crate) fn secret<T: Serialize>(body: T) -> Response {
    (Extension(HoldsSecret), Json(body)).into_response()
}

/// Log in
#[utoipa::path(post, path = "/auth/login", tag = "auth", security(()), request_body = LoginBody,
    responses((status = 200, body = LoginAnswer), (status = 401, body = Problem),
        (status = 422, description = "The same address and password in several organizations: name one", body = Problem),
        (status = 429, description = "Too many failed logins from this network", body = Problem)))]
async fn login(
    State(state): State<AppState>,
    From(origin): From,
    ApiJson(body): ApiJson<LoginBody>,
) -> ApiResult<Response> {
    let login = Login { email: body.email, password: body.password, organization: body.organization };
    Ok(logged_in(actions::auth::login(&state.db, &state.keys, &login, &origin).await?))
}

/// The tokens, or what is asked for besides.
pub(crate) fn logged_in(result: LoggedIn) -> Response {
    secret(match result {
        LoggedIn::In(tokens) => LoginAnswer::In(tokens.into()),
        LoggedIn::Halfway(challenge) => LoginAnswer::Halfway(MfaRequired {
            mfa_required: true,
            mfa_token: challenge.token.expose_secret().to_owned(),
            must_enrol: challenge.must_enrol,
        }),
    })
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
    Ok(secret(TokenPair::from(actions::auth::refresh(&state.db, &state.keys, token, &origin).await?)))
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
    actions::auth::end_login(&state.db, caller.organization(), caller.user_id(), family).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReauthenticateBody {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Of who has a second factor: six digits, or a recovery code.
    #[serde(default)]
    #[schema(example = "123456")]
    code: Option<String>,
}

/// Show again who one is: a new login in place of the one that asks
///
/// Asked for (`reauthentication-required`) before API tokens, recovery codes and the end of other logins. The tokens before are good for
/// nothing afterwards. Who logs in at an identity provider and has no password begins a new login there.
#[utoipa::path(post, path = "/auth/reauthenticate", tag = "auth", request_body = ReauthenticateBody,
    responses((status = 200, body = TokenPair), (status = 401, body = Problem), (status = 403, description = "Not for API tokens", body = Problem),
        (status = 422, description = "The password or the code is wrong, or the code is missing", body = Problem), (status = 429, body = Problem)))]
async fn reauthenticate(
    State(state): State<AppState>,
    From(origin): From,
    caller: Caller,
    ApiJson(body): ApiJson<ReauthenticateBody>,
) -> ApiResult<Response> {
    let again = Again {
        organization: caller.organization(),
        user: caller.user_id(),
        login: caller.require_login()?,
        password: body.password,
        code: body.code,
    };
    let (keys, ring) = (&state.keys, &state.secrets);
    Ok(secret(TokenPair::from(actions::auth::again(&state.db, keys, ring, &again, &origin).await?)))
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
