//! `identity-providers`: where people log in besides here. Client secrets go in and never come out.

use crate::filters::{Asked, filters};
use crate::routes::oidc::redirect_uri;
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, etag};
use actions::identity_providers::{self, GroupMeaning, NewProvider, Settings};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{IdentityProviderId, Permission, Role, TeamId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::identity_providers::{FIELDS, LIST, Meaning, Provider};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// What being in a group of the provider means: a role, or membership in a team.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderGroup {
    /// As the provider writes it in the claim: a name, a path, or an id.
    #[schema(example = "service-desk")]
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "agent")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    team: Option<TeamId>,
}

impl From<ProviderGroup> for GroupMeaning {
    fn from(group: ProviderGroup) -> Self {
        GroupMeaning { group: group.group, role: group.role, team: group.team }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct ProviderView {
    #[schema(value_type = Uuid)]
    id: IdentityProviderId,
    name: String,
    issuer: String,
    client_id: String,
    has_client_secret: bool,
    scopes: Vec<String>,
    email_domains: Vec<String>,
    assumes_verified_email: bool,
    links_accounts: bool,
    creates_users: bool,
    #[schema(value_type = String, example = "end_user")]
    default_role: Role,
    groups_claim: Option<String>,
    groups: Vec<ProviderGroup>,
    trusts_mfa: bool,
    trusts_reauthentication: bool,
    login_hours: i32,
    is_enabled: bool,
    /// To be registered at the provider.
    redirect_uri: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl ProviderView {
    fn of(provider: Provider, state: &AppState) -> Self {
        let groups = provider.groups.into_iter().map(|group| match group.meaning {
            Meaning::Role(role) => ProviderGroup { group: group.name, role: Some(role), team: None },
            Meaning::Team(team) => ProviderGroup { group: group.name, role: None, team: Some(team) },
        });
        ProviderView {
            id: provider.id,
            name: provider.name,
            issuer: provider.issuer,
            client_id: provider.client_id,
            has_client_secret: provider.secret.is_some(),
            scopes: provider.scopes,
            email_domains: provider.email_domains,
            assumes_verified_email: provider.assumes_verified_email,
            links_accounts: provider.links_accounts,
            creates_users: provider.creates_users,
            default_role: provider.default_role,
            groups_claim: provider.groups_claim,
            groups: groups.collect(),
            trusts_mfa: provider.trusts_mfa,
            trusts_reauthentication: provider.trusts_reauthentication,
            login_hours: provider.login_hours,
            is_enabled: provider.is_enabled,
            redirect_uri: redirect_uri(state, provider.id),
            created_at: provider.created_at,
            updated_at: provider.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderInput {
    /// On the button of the sign-in page.
    #[schema(example = "Acme account")]
    name: String,
    /// As the provider's discovery document has it. It never changes.
    #[schema(example = "https://id.acme.example/realms/acme")]
    issuer: String,
    /// It never changes.
    #[schema(example = "relaydesk")]
    client_id: String,
    /// Without one: a public client.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    client_secret: Option<SecretString>,
    /// `openid`, `email` and `profile` if left out.
    scopes: Option<Vec<String>>,
    /// Whose addresses get in; all, if left out.
    #[serde(default)]
    email_domains: Vec<String>,
    /// Take an address for verified where the provider does not say (`email_verified` is missing). Only for a provider that gives nobody an
    /// address that is not theirs.
    #[serde(default)]
    assumes_verified_email: bool,
    /// At the first login, find people who are there by their verified address.
    #[serde(default)]
    links_accounts: bool,
    /// At the first login, make people who are not there.
    #[serde(default)]
    creates_users: bool,
    /// Of people who are made, and of those whose groups stand for no role. `end_user` if left out.
    #[schema(value_type = Option<String>, example = "end_user")]
    default_role: Option<Role>,
    /// The claim that holds groups. Given, the role and the teams named in `groups` are the provider's business, at each login.
    groups_claim: Option<String>,
    #[serde(default)]
    groups: Vec<ProviderGroup>,
    /// The provider asks for a second factor, so nobody is asked for one here.
    #[serde(default)]
    trusts_mfa: bool,
    /// The provider asks people again when it is told to (`prompt=login`, `max_age=0`), though its tokens do not say when it did (`auth_time`).
    /// Without it, who logs in there is not fresh for what asks for a fresh login. Only for a provider of which that was tried, and it
    /// gives up protection from who sits at a browser that is logged in there: they can take the request to ask out of the address.
    #[serde(default)]
    trusts_reauthentication: bool,
    /// After so many hours people log in at the provider again: 1 to 720, 12 if left out.
    #[schema(minimum = 1, maximum = 720)]
    login_hours: Option<i32>,
    #[serde(default = "yes")]
    is_enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    /// Null takes it away: a public client.
    #[serde(default, deserialize_with = "crate::body::nullable")]
    #[schema(value_type = Option<String>, format = Password)]
    client_secret: Option<Option<SecretString>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    email_domains: Option<Vec<String>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    assumes_verified_email: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    links_accounts: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    creates_users: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(value_type = Option<String>, example = "end_user")]
    default_role: Option<Role>,
    /// Null: roles and teams are no longer the provider's business.
    #[serde(default, deserialize_with = "crate::body::nullable")]
    #[schema(value_type = Option<String>)]
    groups_claim: Option<Option<String>>,
    /// All of them.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    groups: Option<Vec<ProviderGroup>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    trusts_mfa: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    trusts_reauthentication: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(minimum = 1, maximum = 720)]
    login_hours: Option<i32>,
    /// Switched off, its logins end.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_enabled: Option<bool>,
}

impl ProviderPatch {
    fn onto(self, old: Settings) -> Settings {
        let groups = self.groups.map(|groups| groups.into_iter().map(Into::into).collect());
        Settings {
            name: self.name.unwrap_or(old.name),
            scopes: self.scopes.unwrap_or(old.scopes),
            email_domains: self.email_domains.unwrap_or(old.email_domains),
            assumes_verified_email: self.assumes_verified_email.unwrap_or(old.assumes_verified_email),
            links_accounts: self.links_accounts.unwrap_or(old.links_accounts),
            creates_users: self.creates_users.unwrap_or(old.creates_users),
            default_role: self.default_role.unwrap_or(old.default_role),
            groups_claim: self.groups_claim.unwrap_or(old.groups_claim),
            groups: groups.unwrap_or(old.groups),
            trusts_mfa: self.trusts_mfa.unwrap_or(old.trusts_mfa),
            trusts_reauthentication: self.trusts_reauthentication.unwrap_or(old.trusts_reauthentication),
            login_hours: self.login_hours.unwrap_or(old.login_hours),
            is_enabled: self.is_enabled.unwrap_or(old.is_enabled),
        }
    }
}

filters!(ProviderFilters, FIELDS);

/// List identity providers
///
/// Sorts by name, created_at or updated_at; by name, if nothing is named.
#[utoipa::path(get, path = "/identity-providers", tag = "auth", params(ListQuery, Shaping, ProviderFilters),
    responses((status = 200, body = Page<ProviderView>), (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::IdentityProvidersManage)?;
    shape.check::<ProviderView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::identity_providers::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, |provider| ProviderView::of(provider, &state))?))
}

/// Add an identity provider
///
/// Takes all rights of an admin: who decides about logins can log in as anybody.
#[utoipa::path(post, path = "/identity-providers", tag = "auth", request_body = ProviderInput,
    responses((status = 201, body = ProviderView), (status = 403, body = Problem), (status = 409, body = Problem),
              (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ProviderInput>,
) -> ApiResult<Response> {
    caller.require(Permission::IdentityProvidersManage)?;
    connectors::oidc::check_issuer(&body.issuer).map_err(|detail| Problem::invalid("/issuer", detail))?;
    let usual = || ["openid", "email", "profile"].map(str::to_owned).to_vec();
    let new = NewProvider {
        issuer: body.issuer,
        client_id: body.client_id,
        client_secret: body.client_secret,
        settings: Settings {
            name: body.name,
            scopes: body.scopes.unwrap_or_else(usual),
            email_domains: body.email_domains,
            assumes_verified_email: body.assumes_verified_email,
            links_accounts: body.links_accounts,
            creates_users: body.creates_users,
            default_role: body.default_role.unwrap_or(Role::EndUser),
            groups_claim: body.groups_claim,
            groups: body.groups.into_iter().map(Into::into).collect(),
            trusts_mfa: body.trusts_mfa,
            trusts_reauthentication: body.trusts_reauthentication,
            login_hours: body.login_hours.unwrap_or(12),
            is_enabled: body.is_enabled,
        },
    };
    let mut tx = caller.begin(&state).await?;
    let provider = identity_providers::create(&mut tx, &caller.actor(), &state.secrets, new).await?;
    tx.commit().await?;
    let location = format!("/api/v1/identity-providers/{}", provider.id);
    Ok(etag::created(&location, provider.version, ProviderView::of(provider, &state)))
}

/// Show an identity provider
#[utoipa::path(get, path = "/identity-providers/{id}", tag = "auth", params(("id" = Uuid, Path)),
    responses((status = 200, body = ProviderView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<IdentityProviderId>,
) -> ApiResult<Response> {
    caller.require(Permission::IdentityProvidersManage)?;
    let mut tx = caller.begin(&state).await?;
    let provider = store::identity_providers::get(&mut tx, id).await?;
    Ok(etag::ok(provider.version, ProviderView::of(provider, &state)))
}

/// Change an identity provider
///
/// Issuer and client stay what they are: for others, add another provider.
#[utoipa::path(patch, path = "/identity-providers/{id}", tag = "auth", params(("id" = Uuid, Path)),
    request_body = ProviderPatch,
    responses((status = 200, body = ProviderView), (status = 403, body = Problem), (status = 404, body = Problem),
              (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiPath(id): ApiPath<IdentityProviderId>,
    ApiJson(body): ApiJson<ProviderPatch>,
) -> ApiResult<Response> {
    caller.require(Permission::IdentityProvidersManage)?;
    let mut body = body;
    let mut tx = caller.begin(&state).await?;
    let before = store::identity_providers::lock(&mut tx, id).await?;
    if_match.check(before.version)?;
    let (secret, old) = (body.client_secret.take(), identity_providers::settings(&before));
    let settings = body.onto(old);
    let actor = caller.actor();
    let provider =
        identity_providers::update(&mut tx, &actor, &state.secrets, before, secret, settings).await?;
    tx.commit().await?;
    Ok(etag::ok(provider.version, ProviderView::of(provider, &state)))
}

/// Delete an identity provider
///
/// Logins by way of it end, and nobody is known by it any more. The people stay.
#[utoipa::path(delete, path = "/identity-providers/{id}", tag = "auth", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 412, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<IdentityProviderId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::IdentityProvidersManage)?;
    let mut tx = caller.begin(&state).await?;
    let provider = store::identity_providers::lock(&mut tx, id).await?;
    if_match.check(provider.version)?;
    identity_providers::delete(&mut tx, &caller.actor(), &provider).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
