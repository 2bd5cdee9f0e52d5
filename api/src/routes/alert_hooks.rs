//! `POST /hooks/{kind}` (or `/hooks/{kind}/{token}`): monitoring systems knock here. The raw payload is durable before they get their OK; what
//! becomes of it is a job's business.

mod by_broker;

use crate::{ApiPath, ApiResult, AppState, Problem};
use actions::FieldError;
use actions::alerts::count;
use actions::credentials::hash_token;
use actions::jobs::IngestAlert;
use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use chrono::{DateTime, Utc};
use connectors::monitoring::InvalidPayload;
use domain::InboxId;
use domain::alert::{AlertSourceKind, Notification};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;
use store::Tx;
use store::alert_sources::AlertSource;
use store::inbox::{self, NewInbox, Status};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Kinds that have a name already and are yet to come.
const PLANNED: [&str; 6] = ["grafana", "zabbix", "nagios", "icinga", "datadog", "cloudwatch"];

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(receive)).routes(routes!(receive_by_path))
}

/// The token of a hook from the `Authorization` header, which proxies keep out of their logs.
pub(super) fn token_of(headers: &HeaderMap) -> ApiResult<&str> {
    let missing = || Problem::unauthorized("send the token of the hook: Authorization: Bearer …");
    crate::caller::bearer_of(headers).filter(|token| !token.is_empty()).ok_or_else(missing)
}

/// Kept, and what will work on it.
#[derive(Serialize, ToSchema)]
struct AlertAccepted {
    /// The row of the inbox that holds the raw payload.
    inbox: Uuid,
    job: Uuid,
}

/// Receive alerts
///
/// The token goes in the header (`Authorization: Bearer rda_…`). 202 after the payload is durable. A payload that cannot be used gets 400 with what is wrong, and is kept too, to be
/// replayed after a fix. Of one that is too large (413) the inbox keeps that it came. 503 with Retry-After when nothing can be
/// kept.
#[utoipa::path(post, path = "/hooks/{kind}", tag = "hooks", request_body = serde_json::Value, security(("bearer" = [])),
    params(("kind" = String, Path, description = "alertmanager or generic")),
    responses((status = 202, body = AlertAccepted), (status = 401, description = "No token", body = Problem)))]
async fn receive(
    State(state): State<AppState>,
    ApiPath(kind): ApiPath<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<AlertAccepted>)> {
    let token = token_of(&headers)?.to_owned();
    take(&state, &kind, &token, &headers, body).await
}

/// Receive alerts from who can send no header
///
/// As `/hooks/{kind}`, with the token in the path. Proxies write paths into their logs: take the header where the sender can.
#[utoipa::path(post, path = "/hooks/{kind}/{token}", tag = "hooks", request_body = serde_json::Value, security(()),
    params(("kind" = String, Path, description = "alertmanager or generic"), ("token" = String, Path)),
    responses((status = 202, body = AlertAccepted)))]
async fn receive_by_path(
    State(state): State<AppState>,
    ApiPath((kind, token)): ApiPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<AlertAccepted>)> {
    take(&state, &kind, &token, &headers, body).await
}

async fn take(
    state: &AppState,
    kind: &str,
    token: &str,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<AlertAccepted>)> {
    let kind = known(kind)?;
    if let Some(door) = &state.door {
        return by_broker::receive(state, door, (kind, token), headers, body).await;
    }
    let limit = state.settings.upload_limit;
    // A usual payload is here before the database is asked; more is taken only from senders that we know.
    let mut body = Incoming::of(body);
    body.read(state.settings.body_limit.min(limit)).await?;
    let (mut tx, source) = identify(state, kind, token).await?;
    let now = tx.now();
    if body.is_whole {
        tx.enter(source.organization).await?;
    } else {
        // Nothing is held while the rest comes in.
        tx.rollback().await?;
        body.read(limit).await?;
        if !body.is_whole {
            return Err(too_large(state, &source, headers, body.drain(limit).await?).await?);
        }
        tx = state.db.begin(source.organization).await?;
    }
    let body = Bytes::from(body.kept);
    let read = parse(kind, body.clone(), now).await?;
    let payload = Payload { source: &source, headers, body: &body };
    if let Err(invalid) = read {
        return Err(refuse(tx, &payload, invalid).await?);
    }
    let id = keep(&mut tx, &payload).await?;
    let job = queue::NewJob::of(&IngestAlert::new(id)).organization(source.organization);
    let jobs = actions::enqueue(&mut tx, &[job]).await.map_err(actions::Error::from)?;
    tx.commit().await?;
    let job = jobs.first().map_or_else(Uuid::nil, |job| job.0);
    Ok((StatusCode::ACCEPTED, Json(AlertAccepted { inbox: id.0, job })))
}

/// The source, in a transaction that has not entered its organization yet.
async fn identify(state: &AppState, kind: AlertSourceKind, token: &str) -> ApiResult<(Tx, AlertSource)> {
    let hash = hash_token(token);
    let mut tx = state.db.begin_presenting(&hash).await?;
    let source = match store::alert_sources::by_token_hash(&mut tx, &hash).await {
        Ok(source) if source.kind == kind => source,
        Ok(_) | Err(store::Error::NotFound) => return Err(nobody()),
        Err(error) => return Err(error.into()),
    };
    takes(&source)?;
    Ok((tx, source))
}

/// Whether the source takes anything now.
fn takes(source: &AlertSource) -> ApiResult<()> {
    if !source.is_active {
        return Err(Problem::forbidden("this alert source is switched off"));
    }
    within_rate(source)
}

/// A body as far as it has been read.
struct Incoming {
    stream: BodyDataStream,
    kept: Vec<u8>,
    is_whole: bool,
}

impl Incoming {
    fn of(body: Body) -> Incoming {
        Incoming { stream: body.into_data_stream(), kept: Vec::new(), is_whole: false }
    }

    async fn next(&mut self) -> ApiResult<Option<Bytes>> {
        self.stream.try_next().await.map_err(|error| crate::body::incomplete(&error))
    }

    /// Until the end, or until there is more than `limit`.
    async fn read(&mut self, limit: usize) -> ApiResult<()> {
        while !self.is_whole && self.kept.len() <= limit {
            match self.next().await? {
                Some(piece) => self.kept.extend_from_slice(&piece),
                None => self.is_whole = true,
            }
        }
        Ok(())
    }

    /// Throws the rest away, for a while: a sender that is cut off sees a broken connection and not our answer. Answers the
    /// size.
    async fn drain(mut self, limit: usize) -> ApiResult<usize> {
        let mut size = self.kept.len();
        self.kept = Vec::new();
        while size <= limit.saturating_mul(4) {
            match self.next().await? {
                Some(piece) => size += piece.len(),
                None => break,
            }
        }
        Ok(size)
    }
}

/// Large payloads take a while to parse; the runtime has other things to do.
async fn parse(
    kind: AlertSourceKind,
    body: Bytes,
    now: DateTime<Utc>,
) -> ApiResult<Result<Notification, InvalidPayload>> {
    if body.len() < 64 * 1024 {
        return Ok(connectors::monitoring::parse(kind, &body, now));
    }
    tokio::task::spawn_blocking(move || connectors::monitoring::parse(kind, &body, now))
        .await
        .map_err(|error| Problem::internal(&error))
}

struct Payload<'a> {
    source: &'a AlertSource,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

fn known(kind: &str) -> ApiResult<AlertSourceKind> {
    kind.parse().map_err(|_| {
        if PLANNED.contains(&kind) {
            let detail =
                format!("the hook {kind} does not exist yet: send its alerts to a source of kind generic");
            Problem::not_found_because(detail)
        } else {
            nobody()
        }
    })
}

fn nobody() -> Problem {
    Problem::not_found_because(
        "there is no alert source of this kind with this token: its hook URL is shown when it is made",
    )
}

/// Every payload is a row of its own: the same bytes may come again later and mean something then. What has no effect twice
/// is the state of the alert.
async fn keep(tx: &mut Tx, payload: &Payload<'_>) -> ApiResult<InboxId> {
    let id = InboxId::new();
    let new = NewInbox {
        id,
        source: payload.source.kind.as_str(),
        channel_id: payload.source.id.0,
        unique_key: &id.to_string(),
        content_type: content_type(payload.headers),
        raw: payload.body,
        headers: json!({"user_agent": text(payload.headers, header::USER_AGENT)}),
    };
    inbox::keep(tx, &new).await?;
    Ok(id)
}

/// The sender will not try again: that something came, and was not taken, is kept where people look.
async fn too_large(
    state: &AppState,
    source: &AlertSource,
    headers: &HeaderMap,
    size: usize,
) -> ApiResult<Problem> {
    let limit = state.settings.upload_limit;
    let mut tx = state.db.begin(source.organization).await?;
    let size = told_size(headers, size);
    let id = InboxId::new();
    let new = NewInbox {
        id,
        source: source.kind.as_str(),
        channel_id: source.id.0,
        unique_key: &id.to_string(),
        content_type: content_type(headers),
        raw: b"",
        headers: json!({"user_agent": text(headers, header::USER_AGENT), actions::inbox::NOT_KEPT: size}),
    };
    inbox::keep(&mut tx, &new).await?;
    let reason = not_kept(size, limit);
    inbox::finish(&mut tx, id, Status::Failed, Some(&reason), None).await?;
    tx.commit().await?;
    count(source.kind, "invalid");
    Ok(told_too_large(id, limit))
}

fn not_kept(size: u64, limit: usize) -> String {
    format!("the payload had {size} bytes, and at most {limit} are taken: it was not kept")
}

fn told_too_large(id: InboxId, limit: usize) -> Problem {
    let detail = format!("a payload may have at most {limit} bytes (that it came is in the inbox as {id})");
    Problem::payload_too_large(detail)
}

/// As its sender says, else what was read of it.
fn told_size(headers: &HeaderMap, read: usize) -> u64 {
    let told = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    told.unwrap_or(read as u64)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn content_type(headers: &HeaderMap) -> &str {
    text(headers, header::CONTENT_TYPE).unwrap_or("application/json")
}

async fn refuse(mut tx: Tx, payload: &Payload<'_>, invalid: InvalidPayload) -> ApiResult<Problem> {
    let id = keep(&mut tx, payload).await?;
    let reason = invalid.to_string();
    inbox::finish(&mut tx, id, Status::Failed, Some(&reason), None).await?;
    tx.commit().await?;
    count(payload.source.kind, "invalid");
    Ok(unusable(id, invalid))
}

fn unusable(id: InboxId, invalid: InvalidPayload) -> Problem {
    let detail = format!("{invalid} (kept in the inbox as {id})");
    let errors =
        invalid.faults.into_iter().map(|fault| FieldError { pointer: fault.pointer, detail: fault.detail });
    Problem::unusable_payload(errors.collect(), detail)
}

/// A bucket that fills evenly, for each source and process.
fn within_rate(source: &AlertSource) -> ApiResult<()> {
    static BUCKETS: LazyLock<Mutex<HashMap<Uuid, (f64, Instant)>>> = LazyLock::new(Mutex::default);
    let Some(max) = source.max_per_minute.map(f64::from) else {
        return Ok(());
    };
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let (level, at) = buckets.entry(source.id.0).or_insert((max, Instant::now()));
    *level = (*level + at.elapsed().as_secs_f64() * max / 60.0).min(max);
    *at = Instant::now();
    if *level >= 1.0 {
        *level -= 1.0;
        return Ok(());
    }
    count(source.kind, "throttled");
    let seconds = (60.0 / max).ceil().clamp(1.0, 60.0) as u32;
    let detail = format!("this alert source takes {max} payloads a minute");
    Err(match source.kind {
        // Alertmanager gives up on 4xx, and tries again after 5xx.
        AlertSourceKind::Alertmanager => Problem::unavailable(detail, seconds),
        AlertSourceKind::Generic => Problem::too_many_requests(detail, seconds),
    })
}
