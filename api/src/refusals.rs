//! Who asks for what they may not is on record: a security event of the audit log for each refusal (403), with the person, route, address and
//! trace (ASVS 5.0, 16.3.2).
//!
//! A person has ten of them, and one more every ten minutes; what is left out is counted and told with the next. So nobody fills the log, nor hides
//! somebody else's refusals behind their own. Each process counts for itself. The line of the request (`envelope`) is written in any case.

use crate::problem::Kind;
use crate::{AppState, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::{Actor, OrganizationId, UserId};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

const AT_ONCE: f64 = 10.0;
/// Seconds until one more may be told.
const EACH: f64 = 600.0;
/// Beyond so many people those who have not asked for a while are forgotten.
const MOST: usize = 10_000;

/// Filled with whoever turns out to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<OnceLock<Actor>>);

impl Asked {
    pub fn by(&self, actor: &Actor) {
        let _ = self.0.set(actor.clone());
    }
}

/// What has been told of each person.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<(OrganizationId, UserId), Bucket>>);

#[derive(Debug)]
struct Bucket {
    level: f64,
    at: Instant,
    left_out: u64,
}

impl Told {
    /// How many were left out before this one; `None`: this one is, too.
    fn take(&self, who: (OrganizationId, UserId), now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(&who) {
            all.retain(|_, bucket| bucket.level_at(now) < AT_ONCE);
            // More people were refused within the hour: all begin anew, which tells more, not less.
            if all.len() >= MOST {
                all.clear();
            }
        }
        let bucket = all.entry(who).or_insert(Bucket { level: AT_ONCE, at: now, left_out: 0 });
        bucket.level = bucket.level_at(now);
        bucket.at = now;
        if bucket.level < 1.0 {
            bucket.left_out += 1;
            return None;
        }
        bucket.level -= 1.0;
        Some(std::mem::take(&mut bucket.left_out))
    }
}

impl Bucket {
    fn level_at(&self, now: Instant) -> f64 {
        (self.level + now.saturating_duration_since(self.at).as_secs_f64() / EACH).min(AT_ONCE)
    }
}

pub(crate) async fn layer(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let asked = Asked::default();
    request.extensions_mut().insert(asked.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    if response.status() != StatusCode::FORBIDDEN {
        return response;
    }
    let Some(actor) = asked.0.get() else { return response };
    let reason = response.extensions().get::<Kind>().map_or("forbidden", |kind| kind.0);
    match tell(&state, actor, &method, &route, reason).await {
        Ok(()) => response,
        // What cannot be recorded is refused all the same, and the caller hears that something is out of order.
        Err(error) => Problem::from(error).into_response(),
    }
}

async fn tell(
    state: &AppState,
    actor: &Actor,
    method: &Method,
    route: &str,
    reason: &str,
) -> actions::Result<()> {
    let Some(user) = actor.user_id() else { return Ok(()) };
    let Some(left_out) = state.refusals.take((actor.organization, user), Instant::now()) else {
        return Ok(());
    };
    let details = json!({"method": method.as_str(), "route": route, "reason": reason, "left_out": left_out});
    let mut tx = state.db.begin(actor.organization).await?;
    actions::audit::security(&mut tx, actor, "access.refused", None, details).await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ten_and_one_more_every_ten_minutes() {
        let (told, now) = (Told::default(), Instant::now());
        let (organization, ada, bob) = (OrganizationId::new(), UserId::new(), UserId::new());
        let take = |who, seconds| told.take((organization, who), now + Duration::from_secs(seconds));
        assert!((0..10).all(|_| take(ada, 0) == Some(0)));
        assert!((0..7).all(|_| take(ada, 1).is_none()));
        assert_eq!(take(bob, 1), Some(0), "nobody hides behind somebody else");
        assert_eq!((take(ada, 602), take(ada, 603)), (Some(7), None));
        assert_eq!(take(ada, 24 * 3600), Some(1));
    }
}
