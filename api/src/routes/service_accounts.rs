//! Accounts of programs. They are users with an owner: their role, lock and deactivation are at `users/{id}`, their tokens are revoked at
//! `api-tokens/{id}`.

use super::api_tokens::{CreatedApiToken, NewApiTokenBody, make};
use super::users::{UserFilters, UserView, page_of_users};
use crate::filters::Asked;
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem, Search, etag};
use actions::service_accounts::NewServiceAccount;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::{Role, UserId};
use serde::Deserialize;
use serde_json::Value;
use store::listing::{Condition, Is};
use store::users::LIST;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_accounts, create_account))
        .routes(routes!(hand_over))
        .routes(routes!(create_token_of))
}

/// List service accounts
///
/// Filters, orders and expansions are those of `users`.
#[utoipa::path(get, path = "/service-accounts", tag = "people", params(ListQuery, Search, Shaping, UserFilters),
    responses((status = 200, body = Page<UserView>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn list_accounts(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    let mut wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    wanted.conditions.extend(Condition::new(LIST.fields, "kind", Is::Text(vec!["service".to_owned()])));
    page_of_users(&state, &caller, &list, &shape, wanted).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewServiceAccountBody {
    #[schema(example = "nightly export")]
    name: String,
    #[schema(value_type = String, example = "agent")]
    role: Role,
    /// The person who answers for it.
    owner: Uuid,
}

/// Make an account for a program
#[utoipa::path(post, path = "/service-accounts", tag = "people", request_body = NewServiceAccountBody,
    responses((status = 201, body = UserView), (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn create_account(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewServiceAccountBody>,
) -> ApiResult<Response> {
    let new = NewServiceAccount { name: body.name, role: body.role, owner: body.owner.into() };
    let mut tx = caller.begin(&state).await?;
    let made = actions::service_accounts::create(&mut tx, &caller.actor(), &new).await?;
    tx.commit().await?;
    Ok(etag::created(&format!("/api/v1/users/{}", made.id), made.updated_at, UserView::from(made)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HandOverBody {
    owner: Uuid,
}

/// Hand a service account to another owner
#[utoipa::path(patch, path = "/service-accounts/{id}", tag = "people", params(("id" = Uuid, Path)), request_body = HandOverBody,
    responses((status = 200, body = UserView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn hand_over(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    ApiJson(body): ApiJson<HandOverBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let (actor, owner) = (caller.actor(), body.owner.into());
    let after = actions::service_accounts::hand_over(&mut tx, &actor, id, owner).await?;
    tx.commit().await?;
    Ok(etag::ok(after.updated_at, UserView::from(after)))
}

/// Make a token for a service account
#[utoipa::path(post, path = "/service-accounts/{id}/tokens", tag = "people", params(("id" = Uuid, Path)), request_body = NewApiTokenBody,
    responses((status = 201, body = CreatedApiToken), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn create_token_of(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
    ApiJson(body): ApiJson<NewApiTokenBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    if store::users::get(&mut tx, id).await?.owner.is_none() {
        return Err(Problem::not_found());
    }
    tx.rollback().await?;
    make(&state, &caller, id, body).await
}
