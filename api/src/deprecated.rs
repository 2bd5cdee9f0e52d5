//! Routes on their way out say so in each answer: since when (`Deprecation`, RFC 9745), until when they work (`Sunset`, RFC 8594), and where
//! it is explained (`Link`). The rules stand in `docs/api.md`.
//!
//! A route is marked where it is described: `#[utoipa::path(…, extensions(("x-deprecated-since" = json!("2027-01-01")), ("x-sunset" =
//! json!("2027-07-01"))))]` with `#[deprecated]` on the handler. From there it comes into the document and into the headers.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use chrono::{NaiveDate, NaiveTime};
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Deprecated, OpenApi};

/// A route works at least this long after it was deprecated.
pub const SHORTEST_DAYS: i64 = 180;
const EXPLAINED: &str = "<https://relaydesk.dev/docs/api#changes>; rel=\"deprecation\"; type=\"text/html\"";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Notice {
    since: NaiveDate,
    sunset: NaiveDate,
}

impl Notice {
    /// None: the operation is to stay.
    fn of(operation: &Operation) -> Result<Option<Notice>, String> {
        if !matches!(operation.deprecated, Some(Deprecated::True)) {
            return Ok(None);
        }
        let date = |name: &str| {
            let value = operation.extensions.as_ref().and_then(|extensions| extensions.get(name));
            let date = value.and_then(|value| value.as_str()).and_then(|text| text.parse::<NaiveDate>().ok());
            date.ok_or_else(|| format!("a deprecated operation needs a date in {name}"))
        };
        let notice = Notice { since: date("x-deprecated-since")?, sunset: date("x-sunset")? };
        if (notice.sunset - notice.since).num_days() < SHORTEST_DAYS {
            return Err(format!("it must work for {SHORTEST_DAYS} days after it was deprecated"));
        }
        Ok(Some(notice))
    }

    fn tell(self, headers: &mut HeaderMap) {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
        let since = format!("@{}", midnight(self.since).timestamp());
        let sunset = midnight(self.sunset).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let own = HeaderName::from_static;
        for (name, value) in
            [(own("deprecation"), since), (own("sunset"), sunset), (header::LINK, EXPLAINED.to_owned())]
        {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
    }
}

/// The deprecated operations of the document.
#[derive(Clone, Debug)]
pub struct Deprecations(Arc<HashMap<(Method, String), Notice>>);

impl Deprecations {
    /// # Errors
    /// When an operation is deprecated without dates.
    pub fn of(document: &OpenApi) -> Result<Deprecations, String> {
        let mut all = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ] {
                let Some(operation) = operation else { continue };
                let notice = Notice::of(operation).map_err(|wrong| format!("{method} {path}: {wrong}"))?;
                all.extend(notice.map(|notice| ((method, path.clone()), notice)));
            }
        }
        Ok(Deprecations(Arc::new(all)))
    }
}

pub async fn layer(State(all): State<Deprecations>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let notice = path.and_then(|path| all.0.get(&(request.method().clone(), path)).copied());
    let mut response = next.run(request).await;
    if let Some(notice) = notice {
        notice.tell(response.headers_mut());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::{Router, middleware, routing};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    fn document(get: Value) -> OpenApi {
        let document = json!({"openapi": "3.1.0", "info": {"title": "x", "version": "1"},
            "paths": {"/old": {"get": get, "post": {"responses": {}}}}});
        serde_json::from_value(document).unwrap()
    }

    fn old(since: &str, sunset: &str) -> Value {
        json!({"deprecated": true, "x-deprecated-since": since, "x-sunset": sunset, "responses": {}})
    }

    #[tokio::test]
    async fn a_deprecated_operation_says_so_and_the_others_do_not() {
        let all = Deprecations::of(&document(old("2027-01-01", "2027-07-01"))).unwrap();
        let router = Router::new()
            .route("/old", routing::get(async || "x").post(async || "x"))
            .layer(middleware::from_fn_with_state(all, layer));
        let ask = async |method: Method| {
            let request = Request::builder().method(method).uri("/old").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().headers().clone()
        };
        let headers = ask(Method::GET).await;
        assert_eq!(headers["deprecation"], "@1798761600");
        assert_eq!(headers["sunset"], "Thu, 01 Jul 2027 00:00:00 GMT");
        assert!(headers["link"].to_str().unwrap().contains("rel=\"deprecation\""));
        let headers = ask(Method::POST).await;
        assert!(!headers.contains_key("deprecation") && !headers.contains_key("sunset"));
    }

    #[test]
    fn nobody_deprecates_without_time_to_move() {
        for wrong in [
            json!({"deprecated": true, "responses": {}}),
            old("2027-01-01", "2027-02-01"),
            old("soon", "2027-07-01"),
        ] {
            assert!(Deprecations::of(&document(wrong)).is_err());
        }
        Deprecations::of(&crate::description()).expect("the real document keeps the rule");
    }
}
