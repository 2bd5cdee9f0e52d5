//! `/downloads/reports`: the file of a report for who has the link in its mail, and maybe no login. The link opens a page
//! (`console/assets/report.js`) with its token behind `#`, which browsers keep to themselves: no proxy and no log sees it. The page sends
//! it in a body.

use super::report_executions::file;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use axum::extract::State;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use store::report_executions;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[expect(deprecated, reason = "links that were mailed before lead there")]
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(fetch)).routes(routes!(download))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReportLinkBody {
    /// What stands behind `#` in the link.
    #[schema(value_type = String)]
    token: SecretString,
}

/// Fetch the file of a report by the token of its link
///
/// What the page does that the link in a mail opens. The link is good for seven days.
#[utoipa::path(post, path = "/downloads/reports", tag = "reports", security(()), request_body = ReportLinkBody,
    responses((status = 200, body = String, content_type = "text/csv"), (status = 403, body = Problem, description = "the organization is suspended"),
              (status = 404, body = Problem), (status = 410, body = Problem, description = "the link has expired")))]
async fn fetch(State(state): State<AppState>, ApiJson(body): ApiJson<ReportLinkBody>) -> ApiResult<Response> {
    behind(&state, body.token.expose_secret()).await
}

/// Download a report by a link that has its token in the path
///
/// Of mails that were sent before tokens stood behind `#`. New tokens are not taken here.
#[utoipa::path(get, path = "/downloads/reports/{token}", tag = "reports", params(("token" = String, Path)), security(()),
    extensions(("x-deprecated-since" = json!("2026-11-22")), ("x-sunset" = json!("2027-06-01"))),
    responses((status = 200, body = String, content_type = "text/csv"), (status = 403, body = Problem, description = "the organization is suspended"),
              (status = 404, body = Problem), (status = 410, body = Problem, description = "the link has expired")))]
#[deprecated]
async fn download(State(state): State<AppState>, ApiPath(token): ApiPath<String>) -> ApiResult<Response> {
    if !actions::reports::is_of_a_path(&token) {
        return Err(nothing());
    }
    behind(&state, &token).await
}

/// The file that a token is the key of.
async fn behind(state: &AppState, token: &str) -> ApiResult<Response> {
    let hash = hash_token(token);
    let mut tx = state.db.begin_presenting(&hash).await?;
    let (organization, id, until) = match report_executions::by_download(&mut tx, &hash).await {
        Err(store::Error::NotFound) => return Err(nothing()),
        found => found?,
    };
    if tx.now() >= until {
        return Err(Problem::gone("this link has expired: have the report made again"));
    }
    tx.enter(organization).await?;
    actions::organizations::must_go_on(&mut tx).await?;
    match report_executions::csv(&mut tx, id).await {
        Err(store::Error::NotFound) => Err(nothing()),
        found => file(found?),
    }
}

/// Of a wrong token, of one that a newer mail has replaced, and of a report that is gone.
fn nothing() -> Problem {
    Problem::not_found_because(
        "no report has this link: the report was deleted or made anew, or a part of the link is missing",
    )
}
