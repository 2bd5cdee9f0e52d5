//! The caller's own organization. Others are not found here: those who operate the installation manage them as `tenants`.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, etag};
use actions::organizations::TenantChanges;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::mail::SenderPolicy;
use domain::{OrganizationId, Permission, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::{Field, Key, Kind, List, field};
use store::organizations::Organization;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_organizations))
        .routes(routes!(show_organization, update_organization))
}

/// An organization.
#[derive(Serialize, ToSchema)]
struct OrganizationView {
    id: Uuid,
    #[schema(example = "acme")]
    slug: String,
    name: String,
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    /// Whether it operates this installation: its admins may pause lanes.
    is_operator: bool,
    /// Roles whose people must have a second factor.
    #[schema(example = json!(["admin"]))]
    mfa_required_roles: Vec<String>,
    /// After so many hours a login ends, however often it was refreshed.
    #[schema(example = 720)]
    login_hours: i32,
    /// After so many hours without a refresh it ends, too.
    #[schema(example = 168)]
    login_idle_hours: i32,
    /// Who becomes an end user by writing a mail: everybody (open), people of `sender_domains` (known_domains), nobody (closed).
    #[schema(value_type = String, example = "open")]
    sender_policy: SenderPolicy,
    /// `example.org`, or `*.example.org` for all that is below it.
    #[schema(example = json!(["example.org"]))]
    sender_domains: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Organization> for OrganizationView {
    fn from(organization: Organization) -> Self {
        OrganizationView {
            id: organization.id.0,
            slug: organization.slug,
            name: organization.name,
            time_zone: organization.time_zone,
            is_operator: organization.is_operator,
            mfa_required_roles: organization.mfa_required_roles,
            login_hours: organization.login_hours,
            login_idle_hours: organization.login_idle_hours,
            sender_policy: organization.sender_policy,
            sender_domains: organization.sender_domains,
            created_at: organization.created_at,
            updated_at: organization.updated_at,
        }
    }
}

const FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("slug", Kind::LowerText, "slug").by("slug", "text"),
    field("name", Kind::LowerText, "name").by("name", "text"),
    field("is_operator", Kind::Flag, "is_operator"),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
    field("updated_at", Kind::Time, "updated_at").by("updated_at", "timestamptz"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "name", id: Key::uuid("id") };

filters!(OrganizationFilters, FIELDS);

/// The organizations one sees: one's own
#[utoipa::path(get, path = "/organizations", tag = "people", params(ListQuery, Shaping, OrganizationFilters),
    responses((status = 200, body = Page<OrganizationView>)))]
async fn list_organizations(
    State(state): State<AppState>,
    caller: Caller,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<OrganizationView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let own = store::organizations::current(&mut tx).await?;
    Ok(Json(picked.page([OrganizationView::from(own)])?))
}

#[utoipa::path(get, path = "/organizations/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = OrganizationView), (status = 404, body = Problem)))]
async fn show_organization(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<OrganizationId>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let found = store::organizations::find(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    Ok(etag::ok(found.updated_at, OrganizationView::from(found)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrganizationPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    time_zone: Option<String>,
    /// Roles whose people must have a second factor: who has none makes one at the next login.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["admin", "manager"]))]
    mfa_required_roles: Option<Vec<Role>>,
    /// After so many hours a login ends, however often it was refreshed. Holds for logins that stand, from their next refresh on.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(minimum = 1, maximum = 8760, example = 720)]
    login_hours: Option<i32>,
    /// After so many hours without a refresh it ends, too.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(minimum = 1, maximum = 8760, example = 168)]
    login_idle_hours: Option<i32>,
    /// open, known_domains or closed. Mail of who is not let in stays in the inbox, as `ignored` and with the reason; nothing is answered.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(value_type = Option<String>, example = "known_domains")]
    sender_policy: Option<SenderPolicy>,
    /// `example.org`, or `*.example.org` for all that is below it.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    #[schema(max_items = 200, example = json!(["example.org", "*.example.org"]))]
    sender_domains: Option<Vec<String>>,
}

#[utoipa::path(patch, path = "/organizations/{id}", tag = "people", params(("id" = Uuid, Path)),
    request_body = OrganizationPatch, responses((status = 200, body = OrganizationView)))]
async fn update_organization(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<OrganizationId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<OrganizationPatch>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    if id != caller.organization() {
        return Err(Problem::not_found());
    }
    caller.require(Permission::OrganizationManage)?;
    if_match.check(store::organizations::lock(&mut tx).await?.updated_at)?;
    if body.mfa_required_roles.as_ref().is_some_and(|roles| !roles.is_empty()) {
        actions::mfa::can_be_kept(&state.secrets)?;
    }
    let changes = TenantChanges {
        name: body.name,
        time_zone: body.time_zone,
        mfa_required_roles: body.mfa_required_roles,
        login_hours: body.login_hours,
        login_idle_hours: body.login_idle_hours,
        sender_policy: body.sender_policy,
        sender_domains: body.sender_domains,
    };
    let after = actions::organizations::update(&mut tx, &caller.actor(), &changes).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, OrganizationView::from(after)))
}
