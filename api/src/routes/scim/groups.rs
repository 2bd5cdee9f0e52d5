//! `/scim/v2/Groups`: teams and who is in them.

use super::{IfNoneMatch, ListParams, Meta, Resource, ScimList, ScimPatch, Shown, list};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Filters, IfMatch, Problem};
use actions::scim as verbs;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::scim::{self, GROUP, GroupDraft};
use domain::{Permission, TeamId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::scim::{Group, Members};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_groups, create_group)).routes(routes!(
        show_group,
        replace_group,
        patch_group,
        delete_group
    ))
}

/// A team.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScimGroup {
    #[schema(value_type = Vec<String>)]
    schemas: [&'static str; 1],
    id: Uuid,
    /// What the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[schema(required = false)]
    display_name: String,
    #[schema(required = false)]
    members: Vec<ScimMember>,
    #[schema(required = false)]
    meta: Meta,
}

#[derive(Serialize, ToSchema)]
struct ScimMember {
    value: Uuid,
    display: String,
    #[serde(rename = "$ref")]
    reference: String,
}

/// What is wanted of a team. Other attributes are left out.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "a description only")]
struct ScimGroupBody {
    #[schema(example = json!(["urn:ietf:params:scim:schemas:core:2.0:Group"]))]
    schemas: Option<Vec<String>>,
    #[schema(example = "Network")]
    display_name: String,
    external_id: Option<String>,
    members: Option<Vec<ScimMemberBody>>,
}

#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "a description only")]
struct ScimMemberBody {
    /// The id of a User.
    value: String,
}

/// Changes with each change, and when somebody comes or goes.
fn tag(group: &Group) -> String {
    let digest = Sha256::new()
        .chain_update(group.updated_at.timestamp_micros().to_be_bytes())
        .chain_update(&group.membership)
        .finalize();
    hex::encode(&digest[..8])
}

/// Who is in a team is read where it is shown only: there may be thousands.
fn members(shown: &Shown) -> Members {
    if shown.wants("members") { Members::Read } else { Members::LeftOut }
}

fn view(state: &AppState, group: Group) -> ApiResult<Resource> {
    let base = &state.settings.base_url;
    let (location, tag) = (format!("{base}/scim/v2/Groups/{}", group.id), tag(&group));
    let member = |(id, name): (UserId, String)| ScimMember {
        value: id.0,
        display: name,
        reference: format!("{base}/scim/v2/Users/{id}"),
    };
    let body = ScimGroup {
        schemas: [GROUP],
        id: group.id.0,
        external_id: group.external_id,
        display_name: group.name,
        members: group.members.into_iter().map(member).collect(),
        meta: Meta {
            resource_type: "Group",
            created: group.created_at,
            last_modified: group.updated_at,
            location: location.clone(),
            version: format!("\"{tag}\""),
        },
    };
    let body = serde_json::to_value(body).map_err(|error| Problem::internal(&error))?;
    Ok(Resource { tag, location, body })
}

/// Find teams
#[utoipa::path(get, path = "/Groups", tag = "scim", params(ListParams, Shown),
    responses((status = 200, body = ScimList<ScimGroup>, content_type = "application/scim+json")))]
async fn list_groups(
    State(state): State<AppState>,
    caller: Caller,
    Filters(params): Filters<ListParams>,
    Filters(shown): Filters<Shown>,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let window = params.window();
    let Some(filter) = verbs::group_filter(&params.terms()?)? else { return Ok(list(Vec::new(), 0, window)) };
    let mut tx = caller.begin(&state).await?;
    let (groups, total) = store::scim::groups(&mut tx, &filter, window, members(&shown)).await?;
    let bodies = groups.into_iter().map(|group| Ok(shown.of(view(&state, group)?.body)));
    Ok(list(bodies.collect::<ApiResult<_>>()?, total, window))
}

/// Make a team
#[utoipa::path(post, path = "/Groups", tag = "scim",
    request_body(content((ScimGroupBody = "application/json"), (ScimGroupBody = "application/scim+json"))),
    responses((status = 201, body = ScimGroup, content_type = "application/scim+json"),
        (status = 409, description = "The displayName or externalId is another team's")))]
async fn create_group(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let draft = GroupDraft::of_resource(&body)?;
    let mut tx = caller.begin(&state).await?;
    let made = verbs::create_group(&mut tx, &caller.actor(), draft).await?;
    tx.commit().await?;
    view(&state, made)?.created()
}

#[utoipa::path(get, path = "/Groups/{id}", tag = "scim", params(("id" = Uuid, Path), Shown),
    responses((status = 200, body = ScimGroup, content_type = "application/scim+json"), (status = 304, description = "If-None-Match matches")))]
async fn show_group(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    Filters(shown): Filters<Shown>,
    known: IfNoneMatch,
) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let mut tx = caller.begin(&state).await?;
    let group = store::scim::group(&mut tx, id, members(&shown)).await?.ok_or_else(Problem::not_found)?;
    Ok(view(&state, group)?.shown(&shown, &known))
}

/// Write a team anew; what is left out stays, but for members: those that are named are all
#[utoipa::path(put, path = "/Groups/{id}", tag = "scim", params(("id" = Uuid, Path)),
    request_body(content((ScimGroupBody = "application/json"), (ScimGroupBody = "application/scim+json"))),
    responses((status = 200, body = ScimGroup, content_type = "application/scim+json")))]
async fn replace_group(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    change(&state, &caller, id, &if_match, || GroupDraft::of_resource(&body)).await
}

/// Change a team, and who is in it
#[utoipa::path(patch, path = "/Groups/{id}", tag = "scim", params(("id" = Uuid, Path)),
    request_body(content((ScimPatch = "application/json"), (ScimPatch = "application/scim+json"))),
    responses((status = 200, body = ScimGroup, content_type = "application/scim+json")))]
async fn patch_group(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<Value>,
) -> ApiResult<Response> {
    change(&state, &caller, id, &if_match, || GroupDraft::of_patch(&scim::patch(&body)?)).await
}

async fn change(
    state: &AppState,
    caller: &Caller,
    id: TeamId,
    if_match: &IfMatch,
    draft: impl FnOnce() -> scim::Result<GroupDraft>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(state).await?;
    let before = verbs::lock_group(&mut tx, &caller.actor(), id).await?;
    if_match.check(tag(&before))?;
    let after = verbs::update_group(&mut tx, &caller.actor(), before, draft()?).await?;
    tx.commit().await?;
    Ok(view(state, after)?.changed())
}

/// Dissolve a team, as `DELETE teams/{id}` does
#[utoipa::path(delete, path = "/Groups/{id}", tag = "scim", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 409, description = "It has tickets that are not closed")))]
async fn delete_group(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<TeamId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    let before = verbs::lock_group(&mut tx, &caller.actor(), id).await?;
    if_match.check(tag(&before))?;
    verbs::delete_group(&mut tx, &caller.actor(), before).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
