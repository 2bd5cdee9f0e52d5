//! Second factors: one-time codes of an authenticator (TOTP), and recovery codes for when it is lost.

use super::auth::{From, TokenPair, secret};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Problem};
use actions::mfa::Enrolling;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use domain::UserId;
use qrcode::QrCode;
use qrcode::render::svg;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(enable))
        .routes(routes!(verify))
        .routes(routes!(disable))
        .routes(routes!(renew_recovery_codes))
        .routes(routes!(take_away))
}

/// How one stands with a second factor.
#[derive(Serialize, ToSchema)]
struct MfaState {
    enabled: bool,
    /// The organization asks people of one's role for it.
    required: bool,
    #[schema(example = 10)]
    recovery_codes_left: i64,
}

/// One's own second factor
#[utoipa::path(get, path = "/auth/mfa", tag = "auth", responses((status = 200, body = MfaState), (status = 401, body = Problem)))]
async fn show(State(state): State<AppState>, caller: Caller) -> ApiResult<Json<MfaState>> {
    let mut tx = caller.begin(&state).await?;
    let found = actions::mfa::state(&mut tx, caller.user_id()).await?;
    Ok(Json(MfaState {
        enabled: found.is_enabled,
        required: found.is_required,
        recovery_codes_left: found.recovery_codes_left,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MfaEnableBody {
    /// One's password, by who is logged in.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    /// In its place what `auth/login` has answered with `must_enrol`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    mfa_token: Option<SecretString>,
}

/// What goes into the authenticator. Shown once.
#[derive(Serialize, ToSchema)]
struct Enrolment {
    /// Base32, for typing.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    secret: String,
    #[schema(example = "otpauth://totp/Relaydesk%20Acme:ada@example.org?secret=…")]
    otpauth_uri: String,
    /// The address as a QR code, an SVG document.
    #[schema(example = "<svg …")]
    qr_svg: String,
}

/// Begin with a second factor: it is asked for once `auth/mfa/verify` was shown a code
#[utoipa::path(post, path = "/auth/mfa/enable", tag = "auth", security((), ("bearer" = [])), request_body = MfaEnableBody,
    responses((status = 200, body = Enrolment), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "There is one already, or the installation has no keys", body = Problem),
        (status = 422, description = "The password is wrong", body = Problem), (status = 429, body = Problem)))]
async fn enable(
    State(state): State<AppState>,
    mut parts: Parts,
    ApiJson(body): ApiJson<MfaEnableBody>,
) -> ApiResult<Response> {
    let who = match body.mfa_token {
        Some(token) => Enrolling::Halfway { token },
        None => {
            let caller = Caller::from_request_parts(&mut parts, &state).await?;
            caller.require_login()?;
            let missing = || Problem::invalid("/password", "is required: or send the mfa_token of a login");
            let password = body.password.ok_or_else(missing)?;
            Enrolling::LoggedIn { organization: caller.organization(), user: caller.user_id(), password }
        }
    };
    let made = actions::mfa::enrol(&state.db, &state.secrets, who).await?;
    let uri = made.uri.expose_secret();
    let code = QrCode::new(uri).map_err(|error| Problem::internal(&error))?;
    let qr_svg = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    Ok(secret(Enrolment {
        secret: made.secret.expose_secret().to_owned(),
        otpauth_uri: uri.to_owned(),
        qr_svg,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MfaVerifyBody {
    /// What `auth/login` has answered. Without it who is logged in finishes `auth/mfa/enable`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    mfa_token: Option<SecretString>,
    /// Six digits; at a login also a recovery code.
    #[schema(example = "123456")]
    code: String,
}

/// With `mfa_token` the tokens of the login, and after an enrolment the recovery codes, which are shown once.
#[derive(Serialize, ToSchema)]
struct Verified {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    tokens: Option<TokenPair>,
    /// Each is good for one login without the authenticator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["abcd-efgh-ijkl-mnop-qrst-uvwx"]))]
    recovery_codes: Option<Vec<String>>,
}

fn clear(codes: Vec<SecretString>) -> Vec<String> {
    codes.iter().map(|code| code.expose_secret().to_owned()).collect()
}

/// Show a code: to finish a login, or to finish enabling a second factor
#[utoipa::path(post, path = "/auth/mfa/verify", tag = "auth", security((), ("bearer" = [])), request_body = MfaVerifyBody,
    responses((status = 200, body = Verified), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Nothing is being enabled", body = Problem),
        (status = 422, description = "The code is wrong, or was used before", body = Problem),
        (status = 429, description = "More than five tries in a quarter of an hour", body = Problem)))]
async fn verify(
    State(state): State<AppState>,
    From(origin): From,
    mut parts: Parts,
    ApiJson(body): ApiJson<MfaVerifyBody>,
) -> ApiResult<Response> {
    if let Some(token) = body.mfa_token {
        let (keys, secrets) = (&state.keys, &state.secrets);
        let done = actions::mfa::finish(&state.db, keys, secrets, &token, &body.code, &origin).await?;
        let recovery_codes = done.recovery_codes.map(clear);
        return Ok(secret(Verified { tokens: Some(done.tokens.into()), recovery_codes }));
    }
    let caller = Caller::from_request_parts(&mut parts, &state).await?;
    caller.require_login()?;
    let (organization, user) = (caller.organization(), caller.user_id());
    let secrets = &state.secrets;
    let codes = actions::mfa::confirm(&state.db, secrets, organization, user, &body.code, &origin).await?;
    Ok(secret(Verified { tokens: None, recovery_codes: Some(clear(codes)) }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MfaDisableBody {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Six digits, or a recovery code.
    #[schema(example = "123456")]
    code: String,
}

/// Do without a second factor from now on
#[utoipa::path(post, path = "/auth/mfa/disable", tag = "auth", request_body = MfaDisableBody,
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "There is none, or the organization asks for it", body = Problem),
        (status = 422, description = "The password or the code is wrong", body = Problem), (status = 429, body = Problem)))]
async fn disable(
    State(state): State<AppState>,
    From(origin): From,
    caller: Caller,
    ApiJson(body): ApiJson<MfaDisableBody>,
) -> ApiResult<StatusCode> {
    caller.require_login()?;
    let (db, secrets, actor, user) = (&state.db, &state.secrets, caller.actor(), caller.user_id());
    actions::mfa::disable(db, secrets, &actor, user, &body.password, &body.code, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MfaCodeBody {
    /// Six digits.
    #[schema(example = "123456")]
    code: String,
}

/// New recovery codes. Shown once; those before are good for nothing.
#[derive(Serialize, ToSchema)]
struct RecoveryCodes {
    #[schema(example = json!(["abcd-efgh-ijkl-mnop-qrst-uvwx"]))]
    recovery_codes: Vec<String>,
}

/// Make new recovery codes
#[utoipa::path(post, path = "/auth/mfa/recovery-codes", tag = "auth", request_body = MfaCodeBody,
    responses((status = 200, body = RecoveryCodes), (status = 401, body = Problem),
        (status = 403, description = "Not for API tokens; or `reauthentication-required`: the login is older than ten minutes", body = Problem),
        (status = 409, description = "There is no second factor", body = Problem),
        (status = 422, description = "The code is wrong, or was used before", body = Problem), (status = 429, body = Problem)))]
async fn renew_recovery_codes(
    State(state): State<AppState>,
    From(origin): From,
    caller: Caller,
    ApiJson(body): ApiJson<MfaCodeBody>,
) -> ApiResult<Response> {
    caller.require_recent_login()?;
    let (db, secrets, actor, user) = (&state.db, &state.secrets, caller.actor(), caller.user_id());
    let codes = actions::mfa::renew_recovery_codes(db, secrets, &actor, user, &body.code, &origin).await?;
    Ok(secret(RecoveryCodes { recovery_codes: clear(codes) }))
}

/// Take the second factor of somebody away who lost it: their logins end
#[utoipa::path(delete, path = "/users/{id}/mfa", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn take_away(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::mfa::take_away(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
