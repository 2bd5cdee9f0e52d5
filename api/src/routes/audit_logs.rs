//! The audit log, and of it what concerns security.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiResult, AppState, Caller, ListQuery, Page};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::Permission;
use serde::Serialize;
use serde_json::Value;
use store::audit::{Entry, FIELDS, LIST};
use store::listing::{Condition, Is};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_audit_log)).routes(routes!(list_compliance_log))
}

/// What was done, by whom, and by way of what.
#[derive(Serialize, ToSchema)]
struct AuditEntryView {
    /// Its place in the log; entries are in the order of their transactions' writes, with gaps.
    #[schema(example = 48213)]
    position: i64,
    at: DateTime<Utc>,
    /// `change` of a row, or a `security` event: logins, permissions, exports.
    #[schema(example = "change")]
    category: String,
    /// What was changed: a table. Of a security event what it is about.
    #[schema(example = "tickets")]
    noun: String,
    /// `create`, `update` or `delete`; of a security event what happened: `login`.
    #[schema(example = "update")]
    verb: String,
    object: Option<Uuid>,
    /// What the object is part of: the ticket of a comment.
    parent: Option<Uuid>,
    actor: AuditActorView,
    /// Where the request came from.
    #[schema(example = "192.0.2.7")]
    address: Option<String>,
    /// As the answer's header X-Request-Id said.
    request: Option<String>,
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace: Option<String>,
    job: Option<Uuid>,
    /// In the order of their names. Secrets are `"(secret)"`; of long texts there are `length`, `sha256` and how each `begins`.
    changes: Vec<AuditChangeView>,
    /// Details of a security event that is no change of a row.
    details: Value,
    /// The values were erased on behalf of a person.
    is_erased: bool,
}

/// Who did it.
#[derive(Serialize, ToSchema)]
struct AuditActorView {
    /// `user`, `system` (Relaydesk itself), or `database`: somebody who works on it without Relaydesk
    #[schema(example = "user")]
    kind: String,
    /// Whose rights were used.
    user: Option<Uuid>,
    /// Who used them, if that is somebody else.
    on_behalf: Option<Uuid>,
    /// Which part of Relaydesk (a kind of job), or the role in the database.
    label: Option<String>,
}

/// One value before and after. Of what was made there is no `from`, of what was deleted no `to`; what names a row stays the same.
#[derive(Serialize, ToSchema)]
struct AuditChangeView {
    #[schema(example = "status")]
    field: String,
    from: Value,
    to: Value,
}

impl From<Entry> for AuditEntryView {
    fn from(entry: Entry) -> Self {
        let is_change = ["create", "update", "delete"].contains(&entry.verb.as_str());
        let is_erased = entry.changes.is_none();
        let (fields, details) = match entry.changes {
            Some(Value::Object(fields)) if is_change => (fields, Value::Null),
            other => (serde_json::Map::new(), other.unwrap_or_default()),
        };
        let change = |(field, value): (String, Value)| {
            let (from, to) = match (entry.verb.as_str(), value) {
                ("create", value) => (Value::Null, value),
                ("delete", value) => (value, Value::Null),
                (_, Value::Array(pair)) => {
                    let mut pair = pair.into_iter();
                    (pair.next().unwrap_or_default(), pair.next().unwrap_or_default())
                }
                (_, value) => (Value::Null, value),
            };
            AuditChangeView { field, from, to }
        };
        AuditEntryView {
            position: entry.seq,
            at: entry.at,
            changes: fields.into_iter().map(change).collect(),
            category: entry.category,
            noun: entry.noun,
            verb: entry.verb,
            object: entry.object_id,
            parent: entry.parent_id,
            actor: AuditActorView {
                kind: entry.actor_kind,
                user: entry.actor_id,
                on_behalf: entry.real_actor_id,
                label: entry.actor_label,
            },
            address: entry.address,
            request: entry.request_id,
            trace: entry.trace_id,
            job: entry.job_id,
            details,
            is_erased,
        }
    }
}

filters!(AuditFilters, FIELDS);

/// List the audit log
///
/// Sorts by position only; latest first, if nothing is named.
#[utoipa::path(get, path = "/audit-logs", tag = "audit", params(ListQuery, Shaping, AuditFilters),
    responses((status = 200, body = Page<AuditEntryView>)))]
async fn list_audit_log(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    page(&state, &caller, &list, &shape, &asked, false).await
}

/// List security events: logins, refused ones, permissions, tokens, exports
///
/// Sorts by position only; latest first, if nothing is named.
#[utoipa::path(get, path = "/compliance-logs", tag = "audit", params(ListQuery, Shaping, AuditFilters),
    responses((status = 200, body = Page<AuditEntryView>)))]
async fn list_compliance_log(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    page(&state, &caller, &list, &shape, &asked, true).await
}

async fn page(
    state: &AppState,
    caller: &Caller,
    list: &ListQuery,
    shape: &Shape,
    asked: &Asked,
    only_security: bool,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::AuditRead)?;
    shape.check::<AuditEntryView>(&[])?;
    let mut wanted = list.wanted(&LIST, asked, caller.user_id())?;
    if only_security {
        let security = Is::Text(vec!["security".to_owned()]);
        wanted.conditions.extend(Condition::new(FIELDS, "category", security));
    }
    let mut tx = caller.begin(state).await?;
    let rows = store::audit::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, shape, AuditEntryView::from)?))
}
