//! Comments on an incident.

use super::named;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page};
use actions::tickets::{self, NewComment};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::ticket::{Source, Visibility};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::ticket_comments::{Comment, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(add_comment))
}

#[derive(Serialize, ToSchema)]
struct CommentView {
    id: Uuid,
    /// Null: written by Relaydesk itself.
    author: Option<Uuid>,
    author_name: Option<String>,
    #[schema(example = "public")]
    visibility: &'static str,
    body: String,
    /// Sanitized; only from mail.
    body_html: Option<String>,
    source: &'static str,
    created_at: DateTime<Utc>,
}

impl From<Comment> for CommentView {
    fn from(comment: Comment) -> Self {
        CommentView {
            id: comment.id.0,
            author: comment.author.map(|id| id.0),
            author_name: comment.author_name,
            visibility: comment.visibility.as_str(),
            body: comment.body,
            body_html: comment.body_html,
            source: comment.source.as_str(),
            created_at: comment.created_at,
        }
    }
}

filters!(CommentFilters, FIELDS);

/// List the comments of an incident
///
/// End users get the public ones. Sorts by created_at; the oldest first, if nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/comments", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, CommentFilters),
    responses((status = 200, body = Page<CommentView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    shape.check::<CommentView>(&[])?;
    let wanted = query.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let internal = tickets::sees_internal(&mut tx, &caller.actor(), &ticket).await?;
    let comments = store::ticket_comments::list(&mut tx, ticket.id, internal, &wanted).await?;
    Ok(Json(query.shaped(comments, &shape, CommentView::from)?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CommentBody {
    #[schema(min_length = 1)]
    body: String,
    /// public: the requester reads it; internal: staff only.
    #[schema(value_type = Option<String>, default = "public")]
    visibility: Option<Visibility>,
}

async fn add(
    state: &AppState,
    caller: &Caller,
    key: &str,
    body: CommentBody,
) -> ApiResult<(StatusCode, Json<CommentView>)> {
    let mut tx = caller.begin(state).await?;
    let ticket = named(&mut tx, caller, key).await?;
    let visibility = body.visibility.unwrap_or(Visibility::Public);
    let new = NewComment { visibility, ..NewComment::public(body.body, Source::Api) };
    let id = tickets::comment(&mut tx, &caller.actor(), ticket.id, new).await?;
    let comment = store::ticket_comments::get(&mut tx, id).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(comment.into())))
}

/// Comment on an incident
#[utoipa::path(post, path = "/incidents/{id}/comments", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = CommentBody, responses((status = 201, body = CommentView)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    ApiJson(body): ApiJson<CommentBody>,
) -> ApiResult<(StatusCode, Json<CommentView>)> {
    add(&state, &caller, &key, body).await
}

/// Comment on an incident: the same as POST to its comments
#[utoipa::path(post, path = "/incidents/{id}/add_comment", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = CommentBody, responses((status = 201, body = CommentView)))]
async fn add_comment(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    ApiJson(body): ApiJson<CommentBody>,
) -> ApiResult<(StatusCode, Json<CommentView>)> {
    add(&state, &caller, &key, body).await
}
