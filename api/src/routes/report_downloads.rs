//! `GET /downloads/reports/{token}`: where the link in a report's mail leads. Who reads the mail may have no login, and a
//! click sends no bearer token: the token in the path is the key.

use super::report_executions::file;
use crate::{ApiPath, ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use axum::extract::State;
use axum::response::Response;
use store::report_executions;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(download))
}

/// Download a report by the link in its mail
///
/// The link is good for seven days.
#[utoipa::path(get, path = "/downloads/reports/{token}", tag = "reports", params(("token" = String, Path)), security(()),
    responses((status = 200, body = String, content_type = "text/csv"), (status = 404, body = Problem),
              (status = 410, body = Problem, description = "the link has expired")))]
async fn download(State(state): State<AppState>, ApiPath(token): ApiPath<String>) -> ApiResult<Response> {
    let hash = hash_token(&token);
    let mut tx = state.db.begin_presenting(&hash).await?;
    let (organization, id, until) = report_executions::by_download(&mut tx, &hash).await?;
    if tx.now() >= until {
        return Err(Problem::gone("this link has expired: have the report made again"));
    }
    tx.enter(organization).await?;
    file(report_executions::csv(&mut tx, id).await?)
}
