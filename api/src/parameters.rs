//! Query parameters are those of the description: what a route does not document is refused, not ignored, so that a
//! filter with a typing error does not answer everything. One layer for all routes, made from the OpenAPI document.

use crate::body::NUL;
use crate::{Problem, query};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{OpenApi, RefOr};

/// Where identity providers send people back: what they add must be ignored (RFC 6749, 4.1.2).
const OPEN: &str = "/api/v1/auth/oidc/{provider}/callback";

/// The names of the query parameters of each operation below `/api/v1`. Hooks are left out: other systems add what they like.
#[derive(Clone, Debug)]
pub struct Known(Arc<HashMap<(Method, String), Vec<String>>>);

impl Known {
    pub fn of(document: &OpenApi) -> Known {
        let mut known = HashMap::new();
        for (path, item) in document.paths.paths.iter().filter(|(path, _)| path.starts_with("/api/v1/")) {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                let names = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
                    RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
                    _ => None,
                });
                known.insert((method, path.clone()), names.collect());
            }
        }
        Known(Arc::new(known))
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some(known) = self.0.get(&(method.clone(), path.as_str().to_owned())) else { return Ok(()) };
        for (name, value) in query::pairs(request.uri())? {
            if !known.contains(&name) && path.as_str() != OPEN {
                return Err(Problem::unknown_parameter(&name, known));
            }
            if value.contains('\0') {
                return Err(Problem::invalid(format!("/{name}"), NUL));
            }
        }
        Ok(())
    }
}

pub async fn layer(State(known): State<Known>, request: Request, next: Next) -> Response {
    match known.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
