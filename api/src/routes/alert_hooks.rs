//! `POST /hooks/{kind}/{token}`: monitoring systems knock here. The raw payload is durable before they get their OK; what
//! becomes of it is a job's business.

use crate::{ApiPath, ApiResult, AppState, Problem};
use actions::FieldError;
use actions::alerts::count;
use actions::credentials::hash_token;
use actions::jobs::IngestAlert;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use connectors::monitoring::InvalidPayload;
use domain::InboxId;
use domain::alert::AlertSourceKind;
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
    OpenApiRouter::new().routes(routes!(receive))
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
/// 202 after the payload is durable. A payload that cannot be used gets 400 with what is wrong, and is kept too, to be
/// replayed after a fix. 503 with Retry-After when nothing can be kept.
#[utoipa::path(post, path = "/hooks/{kind}/{token}", tag = "hooks", request_body = serde_json::Value, security(()),
    params(("kind" = String, Path, description = "alertmanager or generic"), ("token" = String, Path)),
    responses((status = 202, body = AlertAccepted)))]
async fn receive(
    State(state): State<AppState>,
    ApiPath((kind, token)): ApiPath<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> ApiResult<(StatusCode, Json<AlertAccepted>)> {
    let kind = known(&kind)?;
    let body = body.map_err(|error| Problem::of_status(error.status(), &error.body_text()))?;
    let mut tx = state.db.begin_presenting(&hash_token(&token)).await?;
    let source = match store::alert_sources::by_token_hash(&mut tx, &hash_token(&token)).await {
        Ok(source) if source.kind == kind => source,
        Ok(_) | Err(store::Error::NotFound) => return Err(nobody()),
        Err(error) => return Err(error.into()),
    };
    if !source.is_active {
        return Err(Problem::forbidden("this alert source is switched off"));
    }
    within_rate(&source)?;
    tx.enter(source.organization).await?;
    let payload = Payload { source: &source, headers: &headers, body: &body };
    if let Err(invalid) = connectors::monitoring::parse(kind, &body, tx.now()) {
        return Err(refuse(tx, &payload, invalid).await?);
    }
    let id = keep(&mut tx, &payload).await?;
    let job = queue::NewJob::of(&IngestAlert::new(id)).organization(source.organization);
    let jobs = queue::enqueue(&mut tx, &[job]).await.map_err(actions::Error::from)?;
    tx.commit().await?;
    let job = jobs.first().map_or_else(Uuid::nil, |job| job.0);
    Ok((StatusCode::ACCEPTED, Json(AlertAccepted { inbox: id.0, job })))
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
    let text = |name: header::HeaderName| payload.headers.get(name).and_then(|value| value.to_str().ok());
    let new = NewInbox {
        id,
        source: payload.source.kind.as_str(),
        channel_id: payload.source.id.0,
        unique_key: &id.to_string(),
        content_type: text(header::CONTENT_TYPE).unwrap_or("application/json"),
        raw: payload.body,
        headers: json!({"user_agent": text(header::USER_AGENT)}),
    };
    inbox::keep(tx, &new).await?;
    Ok(id)
}

async fn refuse(mut tx: Tx, payload: &Payload<'_>, invalid: InvalidPayload) -> ApiResult<Problem> {
    let id = keep(&mut tx, payload).await?;
    let reason = invalid.to_string();
    inbox::finish(&mut tx, id, Status::Failed, Some(&reason), None).await?;
    tx.commit().await?;
    count(payload.source.kind, "invalid");
    let errors =
        invalid.faults.into_iter().map(|fault| FieldError { pointer: fault.pointer, detail: fault.detail });
    Ok(Problem::unusable_payload(errors.collect(), format!("{reason} (kept in the inbox as {id})")))
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
