//! The same by way of the broker: the database is asked for the token, and that rarely.

use super::{
    AlertAccepted, Incoming, content_type, nobody, not_kept, parse, takes, text, told_size, told_too_large,
    unusable,
};
use crate::{ApiResult, AppState, Problem};
use actions::alerts::count;
use actions::credentials::hash_token;
use actions::hooks::{Door, Letter, Sought, looks_like_a_token};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use domain::alert::AlertSourceKind;
use serde_json::json;

pub(super) async fn receive(
    state: &AppState,
    door: &Door,
    (kind, token): (AlertSourceKind, &str),
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<AlertAccepted>)> {
    let limit = state.settings.upload_limit;
    let hash = hash_token(token);
    let source = match door.source(&hash).await? {
        Sought::Known(source) if source.kind == kind => Some(source),
        // Decided when the database is back.
        Sought::Unknown if looks_like_a_token(token) => None,
        Sought::Unknown | Sought::Known(_) | Sought::Nobody => return Err(nobody()),
    };
    if let Some(source) = &source {
        takes(source)?;
    }
    let mut body = Incoming::of(body);
    body.read(state.settings.body_limit.min(limit)).await?;
    if !body.is_whole {
        if source.is_none() {
            let detail = "the database cannot be reached, and without it so large a payload is taken only from senders that are known";
            return Err(Problem::unavailable(detail, 5));
        }
        body.read(limit).await?;
    }
    let now = state.db.clock().estimate();
    let whose = source.as_ref().map(|source| (source.organization, source.id.0));
    let agent = text(headers, header::USER_AGENT).map(|agent| agent.chars().take(500).collect::<String>());
    let mut letter = Letter::new(kind.as_str(), whose, &hash, now, Vec::new());
    letter.about.content_type = content_type(headers).to_owned();
    letter.about.headers = json!({"user_agent": agent});
    let (id, job) = (letter.id, letter.about.job);
    let mut problem = None;
    if body.is_whole {
        letter.raw = body.kept;
        let bytes = Bytes::from(std::mem::take(&mut letter.raw));
        let read = parse(kind, bytes.clone(), now).await?;
        letter.raw = bytes.into();
        if let Err(invalid) = read {
            letter.about.refused = Some(invalid.to_string());
            problem = Some(unusable(id, invalid));
        }
    } else {
        let size = told_size(headers, body.drain(limit).await?);
        letter.about.refused = Some(not_kept(size, limit));
        letter.about.headers[actions::inbox::NOT_KEPT] = size.into();
        problem = Some(told_too_large(id, limit));
    }
    match door.keep(letter).await {
        Err(actions::Error::NotFound) => return Err(nobody()),
        kept => kept?,
    }
    match problem {
        Some(problem) => {
            count(kind, "invalid");
            Err(problem)
        }
        None => Ok((StatusCode::ACCEPTED, Json(AlertAccepted { inbox: id.0, job: job.0 }))),
    }
}
