//! `users/{id}/contact-ways`: how somebody can be reached besides the address of their account.

use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, Problem, etag};
use axum::extract::State;
use axum::response::Response;
use domain::{ContactKind, ContactWay, Permission, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show_contact_ways, replace_contact_ways))
}

/// A way to reach somebody.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Way {
    /// email, phone or mobile.
    #[schema(value_type = String, example = "mobile")]
    kind: ContactKind,
    #[schema(example = "+49 151 123456")]
    value: String,
    #[serde(default)]
    #[schema(max_length = 50, example = "at night")]
    label: Option<String>,
    /// At most one of each kind. Mail about tickets goes to the preferred address, else to that of the account.
    #[serde(default)]
    is_preferred: bool,
}

/// All ways to reach somebody, in their order.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ContactWays {
    #[schema(max_items = 20)]
    contact_ways: Vec<Way>,
}

impl From<Vec<ContactWay>> for ContactWays {
    fn from(ways: Vec<ContactWay>) -> Self {
        let way = |way: ContactWay| Way {
            kind: way.kind,
            value: way.value,
            label: way.label,
            is_preferred: way.is_preferred,
        };
        ContactWays { contact_ways: ways.into_iter().map(way).collect() }
    }
}

/// Show how somebody can be reached
#[utoipa::path(get, path = "/users/{id}/contact-ways", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = ContactWays), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn show_contact_ways(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Response> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleRead)?;
    }
    let mut tx = caller.begin(&state).await?;
    let person = store::users::get(&mut tx, id).await?;
    let ways = store::contact_ways::of(&mut tx, id).await?;
    Ok(etag::ok(person.updated_at, ContactWays::from(ways)))
}

/// Say how somebody can be reached: exactly so from now on
///
/// Telephone numbers are one's own business; e-mail addresses are changed by who manages people, for mail about tickets goes there.
#[utoipa::path(put, path = "/users/{id}/contact-ways", tag = "people", params(("id" = Uuid, Path)), request_body = ContactWays,
    responses((status = 200, body = ContactWays), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn replace_contact_ways(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<ContactWays>,
) -> ApiResult<Response> {
    if id != caller.user_id() {
        caller.require(Permission::PeopleManage)?;
    }
    let ways = body.contact_ways.into_iter().map(|way| ContactWay {
        kind: way.kind,
        value: way.value,
        label: way.label,
        is_preferred: way.is_preferred,
    });
    let mut tx = caller.begin(&state).await?;
    let person = store::users::lock(&mut tx, id).await?;
    if_match.check(person.updated_at)?;
    let ways = actions::contact_ways::replace(&mut tx, &caller.actor(), &person, ways.collect()).await?;
    let person = store::users::get(&mut tx, id).await?;
    tx.commit().await?;
    Ok(etag::ok(person.updated_at, ContactWays::from(ways)))
}
