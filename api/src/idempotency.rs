//! `Idempotency-Key`: a write that is repeated with the same key gets the first answer again (see
//! `store::idempotency` and `docs/adr/0070-idempotency-keys.md`).

use crate::problem::Kind;
use crate::{AppState, Caller, Problem};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::idempotency::{self, Answer, Begun, Key};
use uuid::Uuid;

/// Longer answers are not kept: a repetition is told that it was done, and where.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// What is repeated besides the body.
const HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

/// Put into the extensions of a response that holds a secret: its body is not kept.
#[derive(Clone, Copy, Debug)]
pub struct HoldsSecret;

pub async fn layer(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match guarded(&state, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn guarded(state: &AppState, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let applies = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&parts.method);
    let (Some(key), true) = (parts.headers.get("idempotency-key"), applies) else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let wrong = || Problem::bad_request("an Idempotency-Key is 1 to 255 printable characters");
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len())).ok_or_else(wrong)?.to_owned();
    // Without a caller there is nothing to tie the key to (login, for example); the handler decides about that.
    if crate::caller::bearer(&parts).is_none() {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let caller = Caller::from_request_parts(&mut parts, state).await?;
    let json = crate::body::is_json(&parts.headers);
    let limit = if json { state.settings.body_limit } else { state.settings.upload_limit };
    let bytes = to_bytes(body, limit).await.map_err(|error| match crate::body::paused(&error) {
        true => Problem::request_timeout(),
        false => Problem::payload_too_large("the body is too large, or broke off"),
    })?;

    let key = Key {
        organization: caller.organization(),
        user: caller.user_id(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        key,
        run: Uuid::now_v7(),
    };
    let mut tx = state.db.begin(key.organization).await?;
    let begun = idempotency::begin(&mut tx, &key, &request_hash(parts.uri.query(), &bytes)).await?;
    tx.commit().await?;
    match begun {
        Begun::First => {}
        Begun::Running => return Err(Problem::idempotency_in_progress()),
        Begun::OtherRequest => return Err(Problem::idempotency_key_reused()),
        Begun::Lost => return Err(Problem::idempotency_answer_lost()),
        Begun::Answered(answer) => return repeat(answer),
    }

    let request = Request::from_parts(parts, Body::from(bytes));
    let response = idempotency::scope(key.clone(), next.run(request)).await;
    keep(state, &key, response).await
}

fn request_hash(query: Option<&str>, body: &[u8]) -> String {
    let digest =
        Sha256::new().chain_update(query.unwrap_or_default()).chain_update([0]).chain_update(body).finalize();
    hex::encode(digest)
}

fn repeat(answer: Answer) -> Result<Response, Problem> {
    let kept = |name: &HeaderName| {
        let text = answer.headers.get(name.as_str()).and_then(Value::as_str);
        text.and_then(|text| HeaderValue::from_str(text).ok())
    };
    let Some(body) = answer.body else {
        let problem = Problem::idempotency_answer_lost();
        return Err(match kept(&header::LOCATION) {
            Some(location) => problem.with_header(header::LOCATION, location),
            None => problem,
        });
    };
    let status = StatusCode::from_u16(answer.status).map_err(|error| Problem::internal(&error))?;
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for name in HEADERS {
        if let Some(value) = kept(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Failures on our side give the key back (if nothing took effect); everything else is the answer for good. The work is
/// committed by now, so its answer goes out even if it cannot be kept: then a repetition finds it "lost".
async fn keep(state: &AppState, key: &Key, response: Response) -> Result<Response, Problem> {
    let secret = response.extensions().get::<HoldsSecret>().is_some();
    // Whoever shows again who they are repeats the request, and has it done.
    let later = response.extensions().get() == Some(&Kind::REAUTHENTICATION_REQUIRED);
    let (parts, body) = response.into_parts();
    // Answers to writes are made in memory, so this copies what is there already.
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(&error))?;
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: kept_headers(&parts.headers),
        body: (!secret && bytes.len() <= LARGEST_ANSWER).then(|| bytes.to_vec()),
    };
    if let Err(error) = remember(state, key, &answer, later || parts.status.is_server_error()).await {
        tracing::warn!(%error, "the answer to an Idempotency-Key could not be kept");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

async fn remember(state: &AppState, key: &Key, answer: &Answer, failed: bool) -> store::Result<()> {
    let mut tx = state.db.begin(key.organization).await?;
    if failed {
        idempotency::forget(&mut tx, key).await?;
    } else {
        idempotency::finish(&mut tx, key, answer).await?;
    }
    tx.commit().await
}

fn kept_headers(headers: &HeaderMap) -> Value {
    let pairs = HEADERS.iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.to_string(), Value::from(value)))
    });
    Value::Object(pairs.collect::<Map<_, _>>())
}
