//! `POST /hooks/email/{token}`: a raw message for one mailbox, for mail servers and services that deliver by HTTP.

use crate::{ApiPath, ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use actions::inbox::{MailEnvelope, keep_mail};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use store::inbox::Kept;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(receive))
}

#[derive(Serialize, ToSchema)]
struct MailAccepted {
    /// The row of the inbox that holds the raw message.
    inbox: Uuid,
    /// The same message was here before.
    duplicate: bool,
}

/// Receive a raw message
///
/// 202 after it is durable. The body is the message as it came over the wire (`message/rfc822`). The same message twice is
/// kept once.
#[utoipa::path(post, path = "/hooks/email/{token}", tag = "hooks", security(()), params(("token" = String, Path)),
    request_body(content = String, content_type = "message/rfc822"), responses((status = 202, body = MailAccepted)))]
async fn receive(
    State(state): State<AppState>,
    ApiPath(token): ApiPath<String>,
    body: Body,
) -> ApiResult<(StatusCode, Json<MailAccepted>)> {
    let hash = hash_token(&token);
    let mut tx = state.db.begin_presenting(&hash).await?;
    let found = store::mailboxes::by_hook_token_hash(&mut tx, &hash).await?;
    tx.rollback().await?;
    let Some(found) = found else {
        return Err(Problem::not_found_because(
            "there is no active mailbox with this token: its hook URL is shown when it is made",
        ));
    };
    // Nothing is held while the body comes in.
    let limit = state.settings.upload_limit;
    let raw = to_bytes(body, limit).await.map_err(|error| too_large(&error, limit))?;
    if raw.trim_ascii().is_empty() {
        return Err(Problem::bad_request("the body is empty: send the raw message (message/rfc822)"));
    }
    let mut tx = state.db.begin(found.organization).await?;
    let envelope = MailEnvelope { via: "hook".into(), ..MailEnvelope::default() };
    let kept = keep_mail(&mut tx, found.mailbox, &raw, &envelope).await?;
    tx.commit().await?;
    let accepted = MailAccepted { inbox: kept.id().0, duplicate: matches!(kept, Kept::Duplicate(_)) };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn too_large(error: &axum::Error, limit: usize) -> Problem {
    if std::error::Error::source(error).is_some_and(|cause| cause.to_string().contains("length limit")) {
        Problem::payload_too_large(format!("a message may have at most {limit} bytes"))
    } else {
        Problem::bad_request("the body did not arrive completely")
    }
}
