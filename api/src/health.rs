//! `/livez` says that the process runs and asks nobody; `/readyz` says whether it is of use.

use crate::{ApiResult, AppState, Problem};
use axum::extract::State;
use std::time::Duration;

pub async fn live() -> &'static str {
    "ok\n"
}

pub async fn ready(State(state): State<AppState>) -> ApiResult<&'static str> {
    if state.is_draining() {
        return Err(Problem::unavailable("stopping: no new requests, please", 5));
    }
    let fit = tokio::time::timeout(Duration::from_secs(2), store::guard::unfit(&state.db)).await;
    // A load balancer that sends nothing any more would lose what could be taken.
    let takes_hooks = state.door.as_ref().is_some_and(|door| door.is_open());
    match fit {
        Ok(Ok(None)) => Ok("ok\n"),
        Ok(Err(_)) | Err(_) if takes_hooks => {
            Ok("the database is away: hooks are taken, all else is answered 503\n")
        }
        Ok(Ok(Some(unfit))) => Err(Problem::unavailable(unfit.to_string(), 5)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            Err(Problem::unavailable("the database does not answer, or has no schema", 2))
        }
        Err(_) => Err(Problem::unavailable("the database does not answer in time", 2)),
    }
}
