//! Tenants, as those see them who operate the installation: the organizations, whether they go on, and their shares of busy lanes. Nothing of what
//! is in them.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem, Search};
use actions::operations::{self, TenantView};
use actions::organizations::NewTenant;
use actions::tenants;
use actions::users::NewPerson;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{Permission, Role};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_tenants, create_tenant))
        .routes(routes!(change_tenant, delete_tenant))
        .routes(routes!(suspend_tenant))
        .routes(routes!(resume_tenant))
}

/// An organization of the installation.
#[derive(Serialize, ToSchema)]
struct Tenant {
    id: Uuid,
    #[schema(example = "acme")]
    slug: String,
    name: String,
    is_operator: bool,
    /// active, suspended or deleted: both of these are refused at every request.
    #[schema(example = "active")]
    state: &'static str,
    suspended_at: Option<DateTime<Utc>>,
    /// Why; everybody who is locked out is told.
    suspended_for: Option<String>,
    created_at: DateTime<Utc>,
    /// Its share of a lane in which several wait, as a multiple of the usual share.
    #[schema(example = 1)]
    weight: f32,
}

impl From<TenantView> for Tenant {
    fn from(TenantView { organization, weight }: TenantView) -> Self {
        Tenant {
            id: organization.id.0,
            slug: organization.slug,
            name: organization.name,
            is_operator: organization.is_operator,
            state: match (organization.suspended_at, organization.deleted_at) {
                (_, Some(_)) => "deleted",
                (Some(_), None) => "suspended",
                (None, None) => "active",
            },
            suspended_at: organization.suspended_at,
            suspended_for: organization.suspended_for,
            created_at: organization.created_at,
            weight,
        }
    }
}

const FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("slug", Kind::LowerText, "slug").by("slug", "text"),
    field("name", Kind::LowerText, "name").by("name", "text"),
    field("is_operator", Kind::Flag, "is_operator"),
    field("state", Kind::Words(&["active", "suspended", "deleted"]), "state").by("state", "text"),
    field("suspended_at", Kind::Time, "suspended_at").or_null(),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
    field("weight", Kind::Number, "weight"),
];
const LIST: List = List { from: "slug name", fields: FIELDS, usual: "slug", id: Key::uuid("id") };

filters!(TenantFilters, FIELDS);

/// All organizations with their shares of busy lanes (operator's organization only)
///
/// Sorts by slug, name, state or created_at; by slug, if nothing is named.
#[utoipa::path(get, path = "/tenants", tag = "jobs", params(ListQuery, Search, Shaping, TenantFilters),
    responses((status = 200, body = Page<Tenant>), (status = 403, body = Problem)))]
async fn list_tenants(
    State(state): State<AppState>,
    caller: Caller,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<Tenant>(&LIST, &caller)?;
    let mut tx = state.db.begin_system().await?;
    let tenants = operations::tenants(&mut tx, &caller.actor()).await?;
    Ok(Json(picked.page(tenants.into_iter().map(Tenant::from))?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    /// Its share of busy lanes; 1 is the usual one.
    #[schema(minimum = 0.01, maximum = 1000, example = 3)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    weight: Option<f32>,
    /// The slug never changes.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
}

/// Rename an organization, or give it another share of busy lanes, in all processes and at once (operator's organization only)
#[utoipa::path(patch, path = "/tenants/{slug}", tag = "jobs", params(("slug" = String, Path)), request_body = TenantChange,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn change_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(slug): ApiPath<String>,
    ApiJson(body): ApiJson<TenantChange>,
) -> ApiResult<StatusCode> {
    let mut tx = state.db.begin_system().await?;
    let actor = caller.actor();
    match (body.weight, &body.name) {
        (Some(weight), None) => operations::set_weight(&mut tx, &actor, &slug, weight).await?,
        (None, Some(name)) => tenants::rename(&mut tx, &actor, &slug, name).await?,
        // Who asks for nothing must be known too.
        (None, None) => tenants::may(&mut tx, &actor).await?,
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("/name", "change the name or the weight, not both at once"));
        }
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenantBody {
    /// Lower-case letters, digits and dashes; never changes.
    #[schema(example = "initech")]
    slug: String,
    #[schema(example = "Initech")]
    name: String,
    /// IANA name.
    #[serde(default)]
    #[schema(default = "UTC", example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// Without one nobody can get in until the command line makes one.
    #[serde(default)]
    admin: Option<FirstAdmin>,
}

/// The first person of a new organization.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FirstAdmin {
    #[schema(example = "ada@initech.example")]
    email: String,
    name: String,
    /// To be changed by them.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
}

#[derive(Serialize, ToSchema)]
struct Created {
    id: Uuid,
    slug: String,
}

/// Create an organization (operator's organization only)
#[utoipa::path(post, path = "/tenants", tag = "jobs", request_body = NewTenantBody,
    responses((status = 201, body = Created), (status = 403, body = Problem), (status = 409, body = Problem)))]
async fn create_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewTenantBody>,
) -> ApiResult<(StatusCode, Json<Created>)> {
    caller.require(Permission::PlatformManage)?;
    let admin = match body.admin {
        Some(admin) => Some(NewPerson {
            password_hash: match &admin.password {
                Some(password) => {
                    let (organization, policy) = ([body.slug.as_str(), body.name.as_str()], &state.passwords);
                    let (email, name) = (&admin.email, &admin.name);
                    Some(actions::passwords::first_admin(policy, organization, email, name, password).await?)
                }
                None => None,
            },
            email: admin.email,
            name: admin.name,
            role: Role::Admin,
            department: None,
            manager: None,
            time_zone: None,
            locale: None,
            phone: None,
        }),
        None => None,
    };
    let time_zone = body.time_zone.unwrap_or_else(|| "UTC".to_owned());
    let new = NewTenant { slug: body.slug, name: body.name, time_zone };
    let mut tx = state.db.begin_system().await?;
    let id = tenants::create(&mut tx, &caller.actor(), &new, admin).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Created { id: id.0, slug: new.slug })))
}

/// Delete an organization softly (operator's organization only)
///
/// It is suspended for good; everything in it stays, and `resume` brings it back.
#[utoipa::path(delete, path = "/tenants/{slug}", tag = "jobs", params(("slug" = String, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn delete_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(slug): ApiPath<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.db.begin_system().await?;
    tenants::delete(&mut tx, &caller.actor(), &slug).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Suspension {
    /// Everybody who is locked out is told.
    #[schema(min_length = 1, max_length = 500, example = "the contract has ended")]
    reason: String,
}

/// Suspend an organization (operator's organization only)
///
/// From the next request on its logins, sessions and tokens are refused with the reason. Mail and alerts that arrive are kept, and worked on when
/// it goes on.
#[utoipa::path(post, path = "/tenants/{slug}/suspend", tag = "jobs", params(("slug" = String, Path)), request_body = Suspension,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn suspend_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(slug): ApiPath<String>,
    ApiJson(body): ApiJson<Suspension>,
) -> ApiResult<StatusCode> {
    let mut tx = state.db.begin_system().await?;
    tenants::suspend(&mut tx, &caller.actor(), &slug, &body.reason).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a suspended or deleted organization go on (operator's organization only)
#[utoipa::path(post, path = "/tenants/{slug}/resume", tag = "jobs", params(("slug" = String, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn resume_tenant(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(slug): ApiPath<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.db.begin_system().await?;
    tenants::resume(&mut tx, &caller.actor(), &slug).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
