//! `POST /hooks/email` (or `/hooks/email/{token}`): a raw message for one mailbox, for mail servers and services that deliver by HTTP.

use super::alert_hooks::token_of;
use crate::{ApiPath, ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use actions::hooks::{Door, Letter, Sought, looks_like_a_token};
use actions::inbox::{MAIL, MailEnvelope, identity, keep_mail};
use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use store::inbox::Kept;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(receive)).routes(routes!(receive_by_path))
}

#[derive(Serialize, ToSchema)]
struct MailAccepted {
    /// The row of the inbox that holds the raw message.
    inbox: Uuid,
    /// The same message was here before. Not there when it was taken by way of the broker: it is found out later.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

/// Receive a raw message
///
/// The token goes in the header (`Authorization: Bearer …`). 202 after it is durable. The body is the message as it came over the wire (`message/rfc822`). The same message twice is
/// kept once.
#[utoipa::path(post, path = "/hooks/email", tag = "hooks", security(("bearer" = [])),
    request_body(content = String, content_type = "message/rfc822"),
    responses((status = 202, body = MailAccepted), (status = 401, description = "No token", body = Problem),
        (status = 404, description = "There is no mailbox with this token", body = Problem)))]
async fn receive(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<MailAccepted>)> {
    let token = token_of(&headers)?.to_owned();
    take(&state, &token, body).await
}

/// Receive a raw message from who can send no header
///
/// As `/hooks/email`, with the token in the path. Proxies write paths into their logs: take the header where the sender can.
#[utoipa::path(post, path = "/hooks/email/{token}", tag = "hooks", security(()), params(("token" = String, Path)),
    request_body(content = String, content_type = "message/rfc822"), responses((status = 202, body = MailAccepted)))]
async fn receive_by_path(
    State(state): State<AppState>,
    ApiPath(token): ApiPath<String>,
    body: Body,
) -> ApiResult<(StatusCode, Json<MailAccepted>)> {
    take(&state, &token, body).await
}

async fn take(state: &AppState, token: &str, body: Body) -> ApiResult<(StatusCode, Json<MailAccepted>)> {
    let hash = hash_token(token);
    if let Some(door) = &state.door {
        return by_broker(state, door, token, &hash, body).await;
    }
    let mut tx = state.db.begin_presenting(&hash).await?;
    let found = store::mailboxes::by_hook_token_hash(&mut tx, &hash).await?;
    tx.rollback().await?;
    let Some(found) = found else {
        return Err(nobody());
    };
    // Nothing is held while the body comes in.
    let raw = message(body, state.settings.upload_limit).await?;
    let mut tx = state.db.begin(found.organization).await?;
    let kept = keep_mail(&mut tx, found.mailbox, &raw, &envelope()).await?;
    tx.commit().await?;
    let accepted = MailAccepted { inbox: kept.id().0, duplicate: Some(matches!(kept, Kept::Duplicate(_))) };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// The same by way of the broker: the database is asked for the token, and that rarely.
async fn by_broker(
    state: &AppState,
    door: &Door,
    token: &str,
    hash: &str,
    body: Body,
) -> ApiResult<(StatusCode, Json<MailAccepted>)> {
    let (whose, limit) = match door.mailbox(hash).await? {
        Sought::Known(found) => (Some((found.organization, found.mailbox.0)), state.settings.upload_limit),
        // Decided when the database is back.
        Sought::Unknown if looks_like_a_token(token) => (None, state.settings.body_limit),
        Sought::Unknown | Sought::Nobody => return Err(nobody()),
    };
    let raw = match message(body, limit).await {
        // A sender that gives up on 413 is told to come again.
        Err(problem) if whose.is_none() && problem.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = "the database cannot be reached, and without it so large a message is taken only by its known mailboxes";
            return Err(Problem::unavailable(detail, 5));
        }
        raw => raw?,
    };
    let mut letter = Letter::new(MAIL, whose, hash, state.db.clock().estimate(), Vec::new());
    letter.about.unique_key = identity(&raw);
    letter.about.content_type = "message/rfc822".into();
    letter.about.headers = serde_json::to_value(envelope()).unwrap_or_default();
    letter.raw = raw.into();
    let id = letter.id;
    match door.keep(letter).await {
        Err(actions::Error::NotFound) => return Err(nobody()),
        kept => kept?,
    }
    Ok((StatusCode::ACCEPTED, Json(MailAccepted { inbox: id.0, duplicate: None })))
}

fn envelope() -> MailEnvelope {
    MailEnvelope { via: "hook".into(), ..MailEnvelope::default() }
}

async fn message(body: Body, limit: usize) -> ApiResult<Bytes> {
    let raw = to_bytes(body, limit).await.map_err(|error| too_large(&error, limit))?;
    if raw.trim_ascii().is_empty() {
        return Err(Problem::bad_request("the body is empty: send the raw message (message/rfc822)"));
    }
    Ok(raw)
}

fn nobody() -> Problem {
    Problem::not_found_because(
        "there is no active mailbox with this token: its hook URL is shown when it is made",
    )
}

fn too_large(error: &axum::Error, limit: usize) -> Problem {
    if std::error::Error::source(error).is_some_and(|cause| cause.to_string().contains("length limit")) {
        Problem::payload_too_large(format!("a message may have at most {limit} bytes"))
    } else {
        crate::body::incomplete(error)
    }
}
