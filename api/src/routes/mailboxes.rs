//! `mailboxes`: the addresses under which the organization takes mail, each with a hook for raw messages.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::idempotency::HoldsSecret;
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Search, etag};
use actions::mailboxes::{self, MailboxPatch, NewMailbox};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{EmailAddress, Permission, TeamId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::mailboxes::{FIELDS, LIST, Mailbox};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(rotate))
}

#[derive(Serialize, ToSchema)]
struct MailboxView {
    id: Uuid,
    #[schema(value_type = String, example = "support@example.org")]
    address: EmailAddress,
    /// The name that the mails of this mailbox come from.
    name: String,
    /// The team that takes the tickets.
    team: Option<Uuid>,
    /// The beginning of the hook's token, to tell tokens apart.
    hook_token_prefix: String,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A mailbox with the secret of its hook, which is shown this one time.
#[derive(Serialize, ToSchema)]
struct MailboxSecret {
    #[serde(flatten)]
    mailbox: MailboxView,
    hook_token: String,
    /// Takes raw messages: `curl --data-binary @mail.eml -H 'Content-Type: message/rfc822' …`
    hook_url: String,
}

impl From<Mailbox> for MailboxView {
    fn from(mailbox: Mailbox) -> Self {
        MailboxView {
            id: mailbox.id.0,
            address: mailbox.address,
            name: mailbox.name,
            team: mailbox.team.map(|team| team.0),
            hook_token_prefix: mailbox.hook_token_prefix,
            is_active: mailbox.is_active,
            created_at: mailbox.created_at,
            updated_at: mailbox.updated_at,
        }
    }
}

fn secret(state: &AppState, mailbox: Mailbox, token: String) -> MailboxSecret {
    let hook_url = format!("{}/hooks/email/{token}", state.settings.base_url);
    MailboxSecret { mailbox: mailbox.into(), hook_token: token, hook_url }
}

filters!(MailboxFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 1] = [("team", Noun::Team)];

/// List mailboxes
///
/// Sorts by created_at, updated_at, name or address; the oldest first, if nothing is named. Can expand team.
#[utoipa::path(get, path = "/mailboxes", tag = "mail", params(ListQuery, Search, Shaping, MailboxFilters),
    responses((status = 200, body = Page<MailboxView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::TicketsView)?;
    shape.check_with::<MailboxView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::mailboxes::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, MailboxView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMailboxBody {
    /// Unique in the whole installation.
    #[schema(value_type = String, example = "support@example.org")]
    address: EmailAddress,
    #[schema(min_length = 1, max_length = 200, example = "Example IT")]
    name: String,
    #[schema(value_type = Option<Uuid>)]
    team: Option<TeamId>,
}

/// Make a mailbox
///
/// The answer holds the token and URL of its hook; they cannot be shown again.
#[utoipa::path(post, path = "/mailboxes", tag = "mail", request_body = NewMailboxBody, responses((status = 201, body = MailboxSecret)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewMailboxBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let new = NewMailbox { address: body.address, name: body.name, team: body.team };
    let (mailbox, token) = mailboxes::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    let (location, version) = (format!("/api/v1/mailboxes/{}", mailbox.id), mailbox.updated_at);
    let mut response = etag::created(&location, version, secret(&state, mailbox, token));
    response.extensions_mut().insert(HoldsSecret);
    Ok(response)
}

/// Show a mailbox
#[utoipa::path(get, path = "/mailboxes/{id}", tag = "mail", params(("id" = Uuid, Path)), responses((status = 200, body = MailboxView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::TicketsView)?;
    let mut tx = caller.begin(&state).await?;
    let mailbox = store::mailboxes::get(&mut tx, id.into()).await?;
    Ok(etag::ok(mailbox.updated_at, MailboxView::from(mailbox)))
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailboxChange {
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    address: Option<EmailAddress>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    team: Option<Option<TeamId>>,
    /// An inactive mailbox takes nothing: its senders get 550.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

/// Change a mailbox
#[utoipa::path(patch, path = "/mailboxes/{id}", tag = "mail", params(("id" = Uuid, Path)),
    request_body = MailboxChange, responses((status = 200, body = MailboxView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<MailboxChange>,
) -> ApiResult<Response> {
    caller.require(Permission::MailboxesManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::mailboxes::lock(&mut tx, id.into()).await?.updated_at)?;
    let patch =
        MailboxPatch { address: body.address, name: body.name, team: body.team, is_active: body.is_active };
    let mailbox = mailboxes::update(&mut tx, &caller.actor(), id.into(), patch).await?;
    tx.commit().await?;
    Ok(etag::ok(mailbox.updated_at, MailboxView::from(mailbox)))
}

/// Make a new token for the hook
///
/// The old hook URL stops working at once.
#[utoipa::path(post, path = "/mailboxes/{id}/rotate_token", tag = "mail", params(("id" = Uuid, Path)),
    responses((status = 200, body = MailboxSecret)))]
async fn rotate(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let (mailbox, token) = mailboxes::rotate_hook_token(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    let mut response = etag::ok(mailbox.updated_at, secret(&state, mailbox, token));
    response.extensions_mut().insert(HoldsSecret);
    Ok(response)
}

/// Delete a mailbox
///
/// What came through it stays.
#[utoipa::path(delete, path = "/mailboxes/{id}", tag = "mail", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::MailboxesManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::mailboxes::lock(&mut tx, id.into()).await?.updated_at)?;
    mailboxes::delete(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
