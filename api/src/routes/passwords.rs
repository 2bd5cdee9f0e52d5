//! Passwords: changed by their owners, set anew by mail when they are forgotten.

use super::auth::From;
use crate::{ApiJson, ApiResult, AppState, Caller, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(change_password))
        .routes(routes!(ask_for_reset))
        .routes(routes!(confirm_reset))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePasswordBody {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// 12 to 128 characters; none of the last five, nothing with your name or that of the organization in it.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Change one's own password: all other logins end
#[utoipa::path(post, path = "/auth/change-password", tag = "auth", request_body = ChangePasswordBody,
    responses((status = 204), (status = 401, body = Problem),
        (status = 409, description = "It was changed meanwhile", body = Problem),
        (status = 422, description = "The current one is wrong, or the new one is not acceptable", body = Problem),
        (status = 429, description = "Too many wrong current passwords", body = Problem)))]
async fn change_password(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ChangePasswordBody>,
) -> ApiResult<StatusCode> {
    let login = caller.require_whole()?;
    actions::passwords::change(
        &state.db,
        &state.passwords,
        caller.organization(),
        caller.user_id(),
        login,
        &body.current_password,
        &body.new_password,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetBody {
    #[schema(example = "ada@example.org")]
    email: String,
    /// The slug; left out, every organization that knows the address sends a mail.
    #[serde(default)]
    organization: Option<String>,
}

/// Ask for a mail with a link for a new password
///
/// The answer is the same whether the address is known or not. A link works once, for 30 minutes; an address gets at most three mails an hour.
#[utoipa::path(post, path = "/auth/password-reset", tag = "auth", security(()), request_body = ResetBody,
    responses((status = 202, description = "If the address is somebody's, a mail is on its way"),
        (status = 429, description = "This network has asked too often", body = Problem)))]
async fn ask_for_reset(
    State(state): State<AppState>,
    From(origin): From,
    ApiJson(body): ApiJson<ResetBody>,
) -> ApiResult<StatusCode> {
    let (organization, address) = (body.organization.as_deref(), origin.ip.as_deref());
    actions::passwords::ask_for_reset(&state.db, &body.email, organization, address).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    /// From the link of the mail.
    #[schema(value_type = String, example = "rdp_…")]
    token: SecretString,
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Set a forgotten password anew, with the token of the mail
///
/// Ends all logins and logs nobody in: log in with the new password then (and a second factor, if there is one).
#[utoipa::path(post, path = "/auth/password-confirm", tag = "auth", security(()), request_body = ConfirmBody,
    responses((status = 204),
        (status = 422, description = "The token is no longer good, or the password is not acceptable", body = Problem)))]
async fn confirm_reset(
    State(state): State<AppState>,
    From(origin): From,
    ApiJson(body): ApiJson<ConfirmBody>,
) -> ApiResult<StatusCode> {
    let (token, address) = (body.token.expose_secret(), origin.ip.as_deref());
    actions::passwords::reset(&state.db, &state.passwords, token, &body.new_password, address).await?;
    Ok(StatusCode::NO_CONTENT)
}
