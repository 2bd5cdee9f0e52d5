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
    match tokio::time::timeout(Duration::from_secs(2), store::guard::unfit(&state.db)).await {
        Ok(Ok(None)) => Ok("ok\n"),
        Ok(Ok(Some(unfit))) => Err(Problem::unavailable(unfit.to_string(), 5)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            Err(Problem::unavailable("the database does not answer, or has no schema", 2))
        }
        Err(_) => Err(Problem::unavailable("the database does not answer in time", 2)),
    }
}
