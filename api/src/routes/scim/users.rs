//! `/scim/v2/Users`: people. `userName` is their address.

use super::{IfNoneMatch, ListParams, Meta, Resource, ScimList, ScimPatch, Shown, list};
use crate::etag::Version;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Filters, IfMatch, Problem};
use actions::scim as verbs;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::scim::{self, PersonDraft, USER};
use domain::{Permission, TeamId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use store::Tx;
use store::users::User;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_users, create_user)).routes(routes!(
        show_user,
        replace_user,
        patch_user,
        delete_user
    ))
}

/// A person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScimUser {
    #[schema(value_type = Vec<String>)]
    schemas: [&'static str; 1],
    id: Uuid,
    /// What the provider calls them.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// Their address.
    #[schema(required = false, example = "ada@example.org")]
    user_name: String,
    #[schema(required = false)]
    display_name: String,
    #[schema(required = false)]
    name: ScimName,
    #[schema(required = false)]
    active: bool,
    /// Read only: the address.
    #[schema(required = false)]
    emails: Vec<ScimValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phone_numbers: Vec<ScimValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    /// The shipped role.
    #[schema(required = false)]
    roles: Vec<ScimValue>,
    /// Read only: the teams.
    #[schema(required = false)]
    groups: Vec<ScimReference>,
    #[schema(required = false)]
    meta: Meta,
}

#[derive(Serialize, ToSchema)]
struct ScimName {
    formatted: String,
}

#[derive(Serialize, ToSchema)]
struct ScimValue {
    value: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    kind: Option<&'static str>,
    primary: bool,
}

#[derive(Serialize, ToSchema)]
struct ScimReference {
    value: Uuid,
    display: String,
    #[serde(rename = "$ref")]
    reference: String,
}

/// What is wanted of a person. Other attributes are left out.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "a description only")]
struct ScimUserBody {
    #[schema(example = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]))]
    schemas: Option<Vec<String>>,
    /// An address; it never changes.
    #[schema(example = "ada@example.org")]
    user_name: String,
    #[schema(example = "00u1a2b3c4")]
    external_id: Option<String>,
    #[schema(example = "Ada Lovelace")]
    display_name: Option<String>,
    /// False ends all logins and tokens at once.
    active: Option<bool>,
    #[schema(example = "en-GB")]
    locale: Option<String>,
    #[schema(example = "Europe/London")]
    timezone: Option<String>,
}

fn view(state: &AppState, user: User, teams: Vec<(TeamId, String)>) -> ApiResult<Resource> {
    let base = &state.settings.base_url;
    let (location, tag) = (format!("{base}/scim/v2/Users/{}", user.id), user.updated_at.tag());
    let single = |value: String, kind| ScimValue { value, kind, primary: true };
    let of_team = |(id, name): (TeamId, String)| ScimReference {
        value: id.0,
        display: name,
        reference: format!("{base}/scim/v2/Groups/{id}"),
    };
    let body = ScimUser {
        schemas: [USER],
        id: user.id.0,
        external_id: user.external_id,
        user_name: user.email.clone(),
        display_name: user.name.clone(),
        name: ScimName { formatted: user.name },
        active: user.is_active,
        emails: vec![single(user.email, Some("work"))],
        phone_numbers: user.phone.map(|phone| single(phone, Some("work"))).into_iter().collect(),
        locale: user.locale,
        timezone: user.time_zone,
        roles: vec![single(user.role.as_str().to_owned(), None)],
        groups: teams.into_iter().map(of_team).collect(),
        meta: Meta {
            resource_type: "User",
            created: user.created_at,
            last_modified: user.updated_at,
            location: location.clone(),
            version: format!("\"{tag}\""),
        },
    };
    let body = serde_json::to_value(body).map_err(|error| Problem::internal(&error))?;
    Ok(Resource { tag, location, body })
}

async fn views(state: &AppState, tx: &mut Tx, people: Vec<User>, shown: &Shown) -> ApiResult<Vec<Resource>> {
    let ids: Vec<UserId> = people.iter().map(|user| user.id).collect();
    let mut teams =
        if shown.wants("groups") { store::scim::teams_of(tx, &ids).await? } else { BTreeMap::new() };
    people
        .into_iter()
        .map(|user| {
            let teams = teams.remove(&user.id).unwrap_or_default();
            view(state, user, teams)
        })
        .collect()
}

async fn resource(state: &AppState, tx: &mut Tx, user: User, shown: &Shown) -> ApiResult<Resource> {
    views(state, tx, vec![user], shown).await?.pop().ok_or_else(Problem::not_found)
}

/// Find people
#[utoipa::path(get, path = "/Users", tag = "scim", params(ListParams, Shown),
    responses((status = 200, body = ScimList<ScimUser>, content_type = "application/scim+json")))]
async fn list_users(
    State(state): State<AppState>,
    caller: Caller,
    Filters(params): Filters<ListParams>,
    Filters(shown): Filters<Shown>,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let window = params.window();
    let Some(filter) = verbs::people_filter(&params.terms()?)? else {
        return Ok(list(Vec::new(), 0, window));
    };
    let mut tx = caller.begin(&state).await?;
    let (people, total) = store::scim::people(&mut tx, &filter, window).await?;
    let views = views(&state, &mut tx, people, &shown).await?;
    Ok(list(views.into_iter().map(|one| shown.of(one.body)).collect(), total, window))
}

/// Make a person
#[utoipa::path(post, path = "/Users", tag = "scim",
    request_body(content((ScimUserBody = "application/json"), (ScimUserBody = "application/scim+json"))),
    responses((status = 201, body = ScimUser, content_type = "application/scim+json"),
        (status = 409, description = "The userName or externalId is somebody else's")))]
async fn create_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let draft = PersonDraft::of_resource(&body)?;
    let mut tx = caller.begin(&state).await?;
    let made = verbs::create_person(&mut tx, &caller.actor(), draft).await?;
    let made = resource(&state, &mut tx, made, &Shown::default()).await?;
    tx.commit().await?;
    made.created()
}

#[utoipa::path(get, path = "/Users/{id}", tag = "scim", params(("id" = Uuid, Path), Shown),
    responses((status = 200, body = ScimUser, content_type = "application/scim+json"), (status = 304, description = "If-None-Match matches")))]
async fn show_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    Filters(shown): Filters<Shown>,
    known: IfNoneMatch,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let mut tx = caller.begin(&state).await?;
    let user = store::users::find(&mut tx, id).await?.filter(verbs::is_person);
    let user = user.ok_or_else(Problem::not_found)?;
    Ok(resource(&state, &mut tx, user, &shown).await?.shown(&shown, &known))
}

/// Write a person anew; what is left out stays
#[utoipa::path(put, path = "/Users/{id}", tag = "scim", params(("id" = Uuid, Path)),
    request_body(content((ScimUserBody = "application/json"), (ScimUserBody = "application/scim+json"))),
    responses((status = 200, body = ScimUser, content_type = "application/scim+json")))]
async fn replace_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    change(&state, &caller, id, &if_match, || PersonDraft::of_resource(&body)).await
}

/// Change a person
#[utoipa::path(patch, path = "/Users/{id}", tag = "scim", params(("id" = Uuid, Path)),
    request_body(content((ScimPatch = "application/json"), (ScimPatch = "application/scim+json"))),
    responses((status = 200, body = ScimUser, content_type = "application/scim+json")))]
async fn patch_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    change(&state, &caller, id, &if_match, || PersonDraft::of_patch(&scim::patch(&body)?)).await
}

async fn change(
    state: &AppState,
    caller: &Caller,
    id: UserId,
    if_match: &IfMatch,
    draft: impl FnOnce() -> scim::Result<PersonDraft>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(state).await?;
    let before = verbs::lock_person(&mut tx, &caller.actor(), id).await?;
    if_match.check(before.updated_at)?;
    let after = verbs::update_person(&mut tx, &caller.actor(), before, draft()?).await?;
    let after = resource(state, &mut tx, after, &Shown::default()).await?;
    tx.commit().await?;
    Ok(after.changed())
}

/// Delete a person softly, as `DELETE users/{id}` does
#[utoipa::path(delete, path = "/Users/{id}", tag = "scim", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 409, description = "The last admin, the account of the token, or somebody who answers for service accounts")))]
async fn delete_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    let before = verbs::lock_person(&mut tx, &caller.actor(), id).await?;
    if_match.check(before.updated_at)?;
    verbs::delete_person(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
