//! Logging in at an identity provider. The browser is sent there and comes back; what happens in between stands in `actions::sign_in`.
//!
//! A page that begins a login gets back either `#sign_in=CODE`, which it exchanges for tokens within a minute, or `#sign_in_error=WORD`. Both stand
//! behind `#`, which is sent to no server, and no token is ever part of an address.

use crate::routes::auth::{From, LoginAnswer, logged_in};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Filters, Problem};
use actions::sign_in::{self, Failed, Peer};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use connectors::http::Client;
use connectors::oidc::{Provider, Registration, Secrets};
use domain::IdentityProviderId;
use domain::sign_in::{Identity, Refusal};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the browser keeps is called this and the first characters of the state: logins in several windows do not meet.
const COOKIE: &str = "relaydesk-sign-in-";
/// So many of them are looked at.
const MOST_COOKIES: usize = 20;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(choices))
        .routes(routes!(start))
        .routes(routes!(callback))
        .routes(routes!(exchange))
}

/// Where a provider sends the browser back to.
pub(crate) fn redirect_uri(state: &AppState, id: IdentityProviderId) -> String {
    format!("{}/api/v1/auth/oidc/{id}/callback", state.settings.base_url)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ChoiceFilters {
    /// The slug. May be left out where there is one organization only.
    organization: Option<String>,
}

/// A button of a sign-in page.
#[derive(Debug, Serialize, ToSchema)]
struct ChoiceView {
    #[schema(value_type = Uuid)]
    id: IdentityProviderId,
    #[schema(example = "Acme account")]
    name: String,
    /// Where the browser goes.
    #[schema(example = "/api/v1/auth/oidc/0190…/start")]
    start: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Choices {
    items: Vec<ChoiceView>,
}

/// The identity providers that people of an organization may log in at
#[utoipa::path(get, path = "/auth/oidc", tag = "auth", security(()), params(ChoiceFilters),
    responses((status = 200, body = Choices)))]
async fn choices(
    State(state): State<AppState>,
    Filters(filters): Filters<ChoiceFilters>,
) -> ApiResult<Json<Choices>> {
    let found = sign_in::choices(&state.db, filters.organization.as_deref()).await?;
    let view = |choice: sign_in::Choice| ChoiceView {
        start: format!("/api/v1/auth/oidc/{}/start", choice.id),
        id: choice.id,
        name: choice.name,
    };
    Ok(Json(Choices { items: found.into_iter().map(view).collect() }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StartQuery {
    /// A path of this installation, `/` if left out: where the browser is sent in the end.
    #[param(example = "/?ticket=INC0000001")]
    return_to: Option<String>,
    /// The person is to show at the provider who they are, even if they are logged in there: for what asks for a fresh login.
    #[serde(default)]
    reauthenticate: bool,
}

/// Begin a login at an identity provider
///
/// For a browser to be sent to, by a link. It must come back within ten minutes.
#[utoipa::path(get, path = "/auth/oidc/{provider}/start", tag = "auth", security(()),
    params(("provider" = Uuid, Path), StartQuery),
    responses((status = 303, description = "To the provider; or back with `#sign_in_error=provider_failed`"),
              (status = 403, description = "The organization is suspended", body = Problem), (status = 404, body = Problem),
              (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn start(
    State(state): State<AppState>,
    From(origin): From,
    ApiPath(id): ApiPath<IdentityProviderId>,
    Filters(query): Filters<StartQuery>,
) -> ApiResult<Response> {
    let return_to = query.return_to.as_deref().unwrap_or("/");
    let begun =
        sign_in::begin(&state.db, &state.secrets, id, return_to, query.reauthenticate, &origin).await?;
    let registration = registration(&state, &begun.peer);
    let secrets = Secrets { nonce: &begun.secrets.nonce, verifier: &begun.secrets.verifier };
    let found = Provider::discover(state.outgoing()?, &registration).await;
    let (token, again) = (begun.state.expose_secret(), query.reauthenticate);
    let url = found.and_then(|found| found.authorization_url(token, &secrets, again));
    match url {
        Ok(url) => {
            let mut response = see_other(url.as_str())?;
            let cookie = cookie(&state, begun.state.expose_secret(), begun.browser.expose_secret());
            response.headers_mut().insert(header::SET_COOKIE, value(&cookie)?);
            Ok(response)
        }
        Err(error) => {
            tracing::warn!(identity_provider.id = %id, %error, "a login at a provider cannot begin");
            back(return_to, Err(Refusal::ProviderFailed))
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CallbackQuery {
    state: Option<String>,
    code: Option<String>,
    /// Who answers (RFC 9207).
    iss: Option<String>,
    /// In place of a code.
    error: Option<String>,
}

/// Where an identity provider sends the browser back to
///
/// Parameters besides these are ignored (RFC 6749, 4.1.2).
#[utoipa::path(get, path = "/auth/oidc/{provider}/callback", tag = "auth", security(()),
    params(("provider" = Uuid, Path), CallbackQuery),
    responses((status = 303, description = "Back to where the login began, with `#sign_in=CODE` or `#sign_in_error=WORD`"),
              (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn callback(
    State(state): State<AppState>,
    From(origin): From,
    headers: HeaderMap,
    ApiPath(id): ApiPath<IdentityProviderId>,
    Filters(query): Filters<CallbackQuery>,
) -> ApiResult<Response> {
    let given = query.state.as_deref().unwrap_or_default();
    let returned = sign_in::returned(&state.db, &state.secrets, id, given, &kept(&state, &headers)).await?;
    let Some(returned) = returned else { return back("/", Err(Refusal::Expired)) };
    match proven(&state, &returned, &query).await {
        Ok(code) => back(&returned.return_to, Ok(code)),
        Err(Failed::Refused(refusal)) => {
            sign_in::refused(&state.db, &returned, refusal, &origin).await?;
            back(&returned.return_to, Err(refusal))
        }
        Err(Failed::Error(error)) => Err(error.into()),
    }
}

async fn proven(
    state: &AppState,
    returned: &sign_in::Returned,
    query: &CallbackQuery,
) -> Result<SecretString, Failed> {
    let registration = registration(state, &returned.peer);
    // Known before anybody is asked; each provider has an address of its own here, too.
    if query.iss.as_ref().is_some_and(|iss| *iss != registration.issuer) {
        return Err(unproven(Refusal::InvalidToken, "it names another issuer"));
    }
    if let Some(error) = &query.error {
        let word: String = error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
        return Err(unproven(Refusal::Denied, word));
    }
    let code = query.code.as_deref().filter(|code| !code.is_empty() && code.len() <= 4096);
    let code = code.ok_or_else(|| unproven(Refusal::InvalidToken, "there is no code"))?;
    let outgoing = state.outgoing().map_err(|_| unproven(Refusal::ProviderFailed, "there is no way out"))?;
    let answer = Answer { code, issuer: query.iss.as_deref() };
    let identity =
        identify(outgoing, &registration, answer, returned).await.map_err(|error| match error {
            connectors::oidc::Error::Token(_) => unproven(Refusal::InvalidToken, error),
            _ => unproven(Refusal::ProviderFailed, error),
        })?;
    sign_in::admit(&state.db, returned, &identity).await
}

fn unproven(refusal: Refusal, why: impl std::fmt::Display) -> Failed {
    tracing::info!(%why, "what a provider answered does not do");
    Failed::Refused(refusal)
}

struct Answer<'a> {
    code: &'a str,
    issuer: Option<&'a str>,
}

async fn identify(
    outgoing: &Client,
    registration: &Registration,
    answer: Answer<'_>,
    returned: &sign_in::Returned,
) -> Result<Identity, connectors::oidc::Error> {
    let secrets = Secrets { nonce: &returned.secrets.nonce, verifier: &returned.secrets.verifier };
    let provider = Provider::discover(outgoing, registration).await?;
    provider.check_answer(answer.issuer)?;
    provider.identify(answer.code, &secrets, returned.now).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    /// What came back behind `#sign_in=`.
    #[schema(value_type = String, example = "rdc_…")]
    code: SecretString,
}

/// Exchange the code of a login at an identity provider for tokens
///
/// Once, within a minute, in the browser that began (its cookie is sent along by itself).
#[utoipa::path(post, path = "/auth/oidc/token", tag = "auth", security(()), request_body = CodeBody,
    responses((status = 200, body = LoginAnswer), (status = 401, body = Problem)))]
async fn exchange(
    State(state): State<AppState>,
    From(origin): From,
    headers: HeaderMap,
    ApiJson(body): ApiJson<CodeBody>,
) -> ApiResult<Response> {
    let result =
        sign_in::exchange(&state.db, &state.keys, &body.code, &kept(&state, &headers), &origin).await?;
    Ok(logged_in(result))
}

fn registration(state: &AppState, peer: &Peer) -> Registration {
    Registration {
        issuer: peer.provider.issuer.clone(),
        client_id: peer.provider.client_id.clone(),
        client_secret: peer.client_secret.clone(),
        scopes: peer.provider.scopes.clone(),
        redirect_uri: redirect_uri(state, peer.provider.id),
        groups_claim: peer.provider.groups_claim.clone(),
        timeout: state.settings.provider_timeout,
    }
}

/// `__Host-`: of this very host, over TLS, not to be set by another one. Browsers take that with `Secure` only, which there is not without TLS.
fn cookie(state: &AppState, of: &str, browser: &str) -> String {
    let secure = if is_over_tls(state) { "; Secure" } else { "" };
    let name = format!("{}{}", cookie_name(state), of.get(..8).unwrap_or_default());
    let age = sign_in::LIFETIME.num_seconds() + 60;
    format!("{name}={browser}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
}

fn is_over_tls(state: &AppState) -> bool {
    state.settings.base_url.starts_with("https://")
}

fn cookie_name(state: &AppState) -> String {
    format!("{}{COOKIE}", if is_over_tls(state) { "__Host-" } else { "" })
}

/// What this browser keeps of logins that it began.
///
/// Over TLS under the guarded name only: another one could have been planted by a page of a neighbouring host, and somebody would be logged in as
/// whoever planted it.
fn kept(state: &AppState, headers: &HeaderMap) -> Vec<String> {
    let name = cookie_name(state);
    let all = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let ours = pairs.filter(|(given, _)| given.starts_with(&name));
    ours.map(|(_, value)| value.to_owned()).take(MOST_COOKIES).collect()
}

fn back(return_to: &str, result: Result<SecretString, Refusal>) -> ApiResult<Response> {
    see_other(&match result {
        Ok(code) => format!("{return_to}#sign_in={}", code.expose_secret()),
        Err(refusal) => format!("{return_to}#sign_in_error={refusal}"),
    })
}

fn see_other(location: &str) -> ApiResult<Response> {
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, value(location)?)]).into_response())
}

fn value(text: &str) -> ApiResult<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| Problem::internal(&error))
}
