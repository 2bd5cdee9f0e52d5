//! The Retry-After header (RFC 9110, 10.2.3): seconds, or a date.

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// Nobody is waited for longer than this, whatever they ask.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait. A date is compared with the Date of the same answer, so that only the peer's clock counts.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    let wait = match asked.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Duration::from_secs_f64(seconds.min(1e6)),
        Ok(_) => return None,
        Err(_) => {
            let (until, now) = (date(asked)?, date(text(DATE)?)?);
            (until - now).to_std().unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST))
}

/// IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`; the obsolete forms of RFC 9110 are read too.
fn date(text: &str) -> Option<DateTime<Utc>> {
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text.trim(), form).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn reads_both_forms() {
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(asked("30", None), Some(30));
        assert_eq!(asked(" 0 ", None), Some(0));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(30));
        assert_eq!(asked("Sunday, 06-Nov-94 08:50:07 GMT", now), Some(30));
        assert_eq!(asked("Sun Nov  6 08:50:07 1994", now), Some(30));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0), "a date gone by");
        assert_eq!(asked("999999", None), Some(3600), "never longer than an hour");
    }

    #[test]
    fn leaves_nonsense_to_the_usual_backoff() {
        for nonsense in ["", "soon", "-1", "NaN", "inf"] {
            assert_eq!(asked(nonsense, Some("Sun, 06 Nov 1994 08:49:37 GMT")), None, "{nonsense}");
        }
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:07 GMT", None), None, "a date without a clock");
    }
}
