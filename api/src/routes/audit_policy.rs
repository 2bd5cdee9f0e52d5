//! `audit-policy`: how long the caller's organization keeps its audit log, and whether something holds it.

use crate::{ApiJson, ApiResult, AppState, Caller, IfMatch, etag};
use axum::extract::State;
use axum::response::Response;
use domain::Permission;
use serde::{Deserialize, Serialize};
use store::audit::Policy;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show_policy, replace_policy))
}

/// How long the audit log is kept.
#[derive(Serialize, ToSchema)]
struct AuditPolicyView {
    /// Null: as long as the installation says (RELAYDESK_RETENTION).
    #[schema(example = 730)]
    keep_days: Option<i32>,
    /// Why nothing may be pruned; null: nothing holds it.
    #[schema(example = "case 4711, until further notice")]
    legal_hold: Option<String>,
}

impl From<Policy> for AuditPolicyView {
    fn from(policy: Policy) -> Self {
        AuditPolicyView { keep_days: policy.keep_days, legal_hold: policy.hold }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AuditPolicyBody {
    /// 90 to 36500; null: as long as the installation says.
    #[schema(example = 730)]
    keep_days: Option<i32>,
    /// Why nothing may be pruned, whatever its age; null ends a hold.
    #[schema(example = "case 4711, until further notice")]
    legal_hold: Option<String>,
}

/// Show how long the audit log is kept
#[utoipa::path(get, path = "/audit-policy", tag = "audit", responses((status = 200, body = AuditPolicyView)))]
async fn show_policy(State(state): State<AppState>, caller: Caller) -> ApiResult<Response> {
    caller.require(Permission::AuditRead)?;
    let mut tx = caller.begin(&state).await?;
    let policy = store::audit::policy(&mut tx).await?;
    Ok(etag::ok(policy.version, AuditPolicyView::from(policy)))
}

/// Set how long the audit log is kept, begin or end a legal hold
#[utoipa::path(put, path = "/audit-policy", tag = "audit", request_body = AuditPolicyBody,
    responses((status = 200, body = AuditPolicyView)))]
async fn replace_policy(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiJson(body): ApiJson<AuditPolicyBody>,
) -> ApiResult<Response> {
    caller.require(Permission::AuditManage)?;
    let mut tx = caller.begin(&state).await?;
    let version = store::audit::policy(&mut tx).await?.version;
    if_match.check(version)?;
    let hold = body.legal_hold.as_deref();
    let policy = actions::audit_policy::set(&mut tx, &caller.actor(), body.keep_days, hold, version).await?;
    tx.commit().await?;
    Ok(etag::ok(policy.version, AuditPolicyView::from(policy)))
}
