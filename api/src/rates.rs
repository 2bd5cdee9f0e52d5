//! How many requests somebody may send: a bucket each for a token, for its organization, and for the network of those who are not
//! known. Asked before anything is read or looked up (`docs/adr/0120-rate-limits-by-process.md`).
//!
//! The generic cell rate algorithm: of each bucket one moment is kept, at which it will be full again.

use crate::caller::Credential;
use crate::client::{ClientAddress, network};
use crate::{AppState, Caller, Problem, caller, scim_errors};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::{OrganizationId, UserId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// More buckets than that are not kept: those of addresses go, because whoever has that many is not stopped by counting them.
const MOST_BUCKETS: usize = 100_000;
/// Tokens whose owner is known without the database.
const MOST_HOLDERS: usize = 50_000;

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "relaydesk_http_rate_limited_total",
        "requests that were refused with 429 for their number, by the limit that was reached",
        &["limit"]
    )
    .expect("registered once")
});

/// Requests a minute, each minute's worth at once if need be. What is none has no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub token: Option<u32>,
    /// Of a person or a service account, with all their logins and tokens together: logins cost nothing, so that one person could use up
    /// what is the organization's.
    pub person: Option<u32>,
    pub organization: Option<u32>,
    /// Of those without a token, or with one that nobody has used successfully in this process.
    pub address: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    Token(Credential),
    Person(UserId),
    Organization(OrganizationId),
    Address(Option<IpAddr>),
}

impl Bucket {
    /// The policy's name in the headers.
    fn name(self) -> &'static str {
        match self {
            Bucket::Token(_) => "token",
            Bucket::Person(_) => "person",
            Bucket::Organization(_) => "organization",
            Bucket::Address(_) => "address",
        }
    }

    fn quota(self, rates: &Rates) -> Option<u32> {
        match self {
            Bucket::Token(_) => rates.token,
            Bucket::Person(_) => rates.person,
            Bucket::Organization(_) => rates.organization,
            Bucket::Address(_) => rates.address,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    credential: Credential,
    person: UserId,
    organization: OrganizationId,
}

/// What one bucket says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    name: &'static str,
    quota: u32,
    remaining: u32,
    /// Seconds until it is full again.
    reset: u64,
    /// Seconds until the next request is taken; none: this one is.
    wait: Option<u32>,
}

#[derive(Debug, Default)]
struct Counted {
    full_at: HashMap<Bucket, Instant>,
    holders: HashMap<String, Holder>,
}

/// The buckets of this process.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<Counted>);

impl Limiter {
    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one from each bucket, or none from any.
    fn take(&self, rates: &Rates, buckets: &[Bucket], now: Instant) -> Vec<Verdict> {
        let mut counted = self.counted();
        let mut verdicts = Vec::new();
        let mut taken = Vec::new();
        for bucket in buckets {
            let Some(quota) = bucket.quota(rates).filter(|quota| *quota > 0) else { continue };
            let full_at = counted.full_at.get(bucket).copied().unwrap_or(now).max(now);
            let (verdict, then) = decide(bucket.name(), quota, full_at, now);
            verdicts.push(verdict);
            taken.push((*bucket, then));
        }
        if verdicts.iter().all(|verdict| verdict.wait.is_none()) {
            counted.full_at.extend(taken);
        }
        if counted.full_at.len() > MOST_BUCKETS {
            counted.full_at.retain(|_, full_at| *full_at > now);
            if counted.full_at.len() > MOST_BUCKETS {
                counted.full_at.retain(|bucket, _| !matches!(bucket, Bucket::Address(_)));
            }
        }
        verdicts
    }

    fn holder(&self, key: &str) -> Option<Holder> {
        self.counted().holders.get(key).copied()
    }

    /// Where an API token led when it was last used here; it never leads anywhere else.
    pub(crate) fn organization_of(&self, key: &str) -> Option<OrganizationId> {
        self.holder(key).map(|holder| holder.organization)
    }

    fn forget(&self, key: &str) {
        self.counted().holders.remove(key);
    }

    /// From now on the token counts for itself and its organization, not for the address that it comes from.
    pub(crate) fn learn(&self, token: &str, caller: &Caller) {
        let (person, organization) = (caller.user_id(), caller.organization());
        let holder = Holder { credential: caller.credential(), person, organization };
        let mut counted = self.counted();
        let key = actions::credentials::hash_token(token);
        if counted.holders.len() >= MOST_HOLDERS && !counted.holders.contains_key(&key) {
            counted.holders.clear();
        }
        counted.holders.insert(key, holder);
    }
}

/// The verdict of a bucket, and when it will be full if the request is taken.
fn decide(name: &'static str, quota: u32, full_at: Instant, now: Instant) -> (Verdict, Instant) {
    let each = WINDOW / quota;
    let then = full_at + each;
    let missing = then - now;
    let verdict = if missing > WINDOW {
        let wait = u32::try_from(seconds(missing - WINDOW)).unwrap_or(u32::MAX).max(1);
        Verdict { name, quota, remaining: 0, reset: seconds(full_at - now), wait: Some(wait) }
    } else {
        let remaining = ((WINDOW - missing).as_nanos() / each.as_nanos().max(1)) as u32;
        Verdict { name, quota, remaining, reset: seconds(missing), wait: None }
    };
    (verdict, then)
}

/// Rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Hooks are not counted: they are kept as they come, and a sender that is refused may have nothing to send it again from. They are
/// bounded by their size, by connections, and by the turns that organizations take when they are worked.
fn is_counted(path: &str) -> bool {
    path.starts_with("/api/v1/") || path.starts_with(scim_errors::PREFIX) || path.starts_with("/downloads/")
}

/// Stands before everything that reads a body or asks the database.
pub async fn layer(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if !is_counted(request.uri().path()) {
        return next.run(request).await;
    }
    let token = caller::bearer_of_socket(request.headers()).map(actions::credentials::hash_token);
    let holder = token.as_deref().and_then(|token| state.limiter.holder(token));
    let address = request.extensions().get::<ClientAddress>().copied().unwrap_or_default();
    let buckets = match holder {
        Some(holder) => vec![
            Bucket::Token(holder.credential),
            Bucket::Person(holder.person),
            Bucket::Organization(holder.organization),
        ],
        None => vec![Bucket::Address(address.0.map(network))],
    };
    let verdicts = state.limiter.take(&state.settings.rates, &buckets, Instant::now());
    let longest = verdicts.iter().filter(|verdict| verdict.wait.is_some()).max_by_key(|verdict| verdict.wait);
    let mut response = match longest {
        Some(full) => {
            REFUSED.with_label_values(&[full.name]).inc();
            refusal(full).into_response()
        }
        None => next.run(request).await,
    };
    if let (Some(token), Some(_), StatusCode::UNAUTHORIZED) = (&token, holder, response.status()) {
        state.limiter.forget(token);
    }
    tell(response.headers_mut(), &verdicts);
    response
}

fn refusal(full: &Verdict) -> Problem {
    let whose = match full.name {
        "token" => "with this token",
        "person" => "with all tokens and logins of this account",
        "organization" => "in this organization",
        _ => "from this address without a token that is known",
    };
    let detail = format!("more than {} requests a minute {whose}: go on more slowly", full.quota);
    Problem::too_many_requests(detail, full.wait.unwrap_or(1))
}

/// The headers of the IETF draft (draft-ietf-httpapi-ratelimit-headers-10): what is allowed, and what is left of it.
fn tell(headers: &mut HeaderMap, verdicts: &[Verdict]) {
    const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
    const LEFT: HeaderName = HeaderName::from_static("ratelimit");
    if verdicts.is_empty() {
        return;
    }
    let listed = |item: fn(&Verdict) -> String| {
        HeaderValue::from_str(&verdicts.iter().map(item).collect::<Vec<_>>().join(", ")).ok()
    };
    let policy = listed(|verdict| format!("\"{}\";q={};w={}", verdict.name, verdict.quota, WINDOW.as_secs()));
    let left = listed(|verdict| format!("\"{}\";r={};t={}", verdict.name, verdict.remaining, verdict.reset));
    for (name, value) in [(POLICY, policy), (LEFT, left)] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { token: Some(6), person: Some(8), organization: Some(9), address: Some(2) };

    fn organization() -> Bucket {
        Bucket::Organization(OrganizationId(uuid::Uuid::from_u128(1)))
    }

    fn token(n: u128) -> Bucket {
        Bucket::Token(Credential::Login(uuid::Uuid::from_u128(n)))
    }

    #[test]
    fn a_bucket_empties_and_fills_again_evenly() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let take =
            |after: u64| limiter.take(&RATES, &[token(1)], start + Duration::from_secs(after)).pop().unwrap();
        for left in (0..6).rev() {
            let verdict = take(0);
            assert_eq!((verdict.wait, verdict.remaining), (None, left));
        }
        let refused = take(0);
        assert_eq!((refused.wait, refused.remaining, refused.reset), (Some(10), 0, 60));
        assert_eq!(take(9).wait, Some(1), "refusals cost nothing");
        assert_eq!(take(10).wait, None);
        assert_eq!(take(10).wait, Some(10));
        assert_eq!(take(500).remaining, 5, "never more than a minute's worth");
    }

    #[test]
    fn nothing_is_taken_from_one_when_the_other_refuses() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let take = |n| limiter.take(&RATES, &[token(n), organization()], now);
        for _ in 0..6 {
            assert!(take(1).iter().all(|verdict| verdict.wait.is_none()));
        }
        assert!(take(1)[0].wait.is_some());
        for left in (0..3).rev() {
            let verdicts = take(2);
            assert!(verdicts.iter().all(|verdict| verdict.wait.is_none()));
            assert_eq!(verdicts[1].remaining, left, "the organization has not paid for what was refused");
        }
        let full = take(2);
        assert!(full[0].wait.is_none() && full[1].wait.is_some());
    }

    #[test]
    fn what_has_no_quota_has_no_limit_and_no_header() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert!(limiter.take(&Rates::default(), &[token(1), organization()], now).is_empty());
        let mut headers = HeaderMap::new();
        tell(&mut headers, &[]);
        assert!(headers.is_empty());
        tell(&mut headers, &limiter.take(&RATES, &[token(1), organization()], now));
        assert_eq!(headers["ratelimit-policy"], "\"token\";q=6;w=60, \"organization\";q=9;w=60");
        assert_eq!(headers["ratelimit"], "\"token\";r=5;t=10, \"organization\";r=8;t=7");
    }

    #[test]
    fn a_flood_of_addresses_does_not_fill_the_memory() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        limiter.take(&RATES, &[token(1)], now);
        for n in 0..=MOST_BUCKETS as u32 {
            let address = Bucket::Address(Some(IpAddr::V4(n.into())));
            limiter.take(&RATES, &[address], now);
        }
        let counted = limiter.counted();
        assert!(counted.full_at.len() <= MOST_BUCKETS);
        assert!(counted.full_at.contains_key(&token(1)), "who is known is still counted");
    }
}
