//! The audit log: written by triggers (migration 0090), read here. Security events that are no change of a row are told here.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, either, field};
use crate::{Result, Tx, context};
use chrono::{DateTime, Utc};
use domain::{Actor, OrganizationId, UserId};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// One entry.
#[derive(Clone, Debug, FromRow)]
pub struct Entry {
    pub seq: i64,
    pub at: DateTime<Utc>,
    /// `change` or `security`
    pub category: String,
    pub noun: String,
    pub verb: String,
    pub object_id: Option<Uuid>,
    pub parent_id: Option<Uuid>,
    /// `user`, `system`, or `database`: who works on it without Relaydesk.
    pub actor_kind: String,
    /// Whose rights were used …
    pub actor_id: Option<Uuid>,
    /// … and by whom, if that is somebody else.
    pub real_actor_id: Option<Uuid>,
    pub actor_label: Option<String>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub job_id: Option<Uuid>,
    /// `None`: erased.
    pub changes: Option<Value>,
}

/// What the log can be filtered by. Its only order is that of its positions: the log is long, and an index costs whoever writes.
pub const FIELDS: &[Field] = &[
    field("position", Kind::Number, "e.seq").by_id(),
    field("at", Kind::Time, "e.at"),
    field("category", Kind::Words(&["change", "security"]), "e.category"),
    field("noun", Kind::Text, "e.noun"),
    field("verb", Kind::Text, "e.verb"),
    either("actor", Kind::Id, "e.actor_id", "e.real_actor_id")
        .says("Whose rights were used, or who used them."),
    field("actor_kind", Kind::Words(&["user", "system", "database"]), "e.actor_kind"),
    either("object", Kind::Id, "e.object_id", "e.parent_id")
        .says("The object, or what it is part of: of a ticket also its comments, tags …"),
    field("address", Kind::Address, "e.address").or_null(),
    field("request", Kind::Text, "e.request_id").or_null().says("As the answer's header X-Request-Id said."),
    field("trace", Kind::Text, "e.trace_id").or_null(),
    field("job", Kind::Id, "e.job_id").or_null(),
];

pub const LIST: List = List {
    from: "audit_entries e",
    fields: FIELDS,
    usual: "-position",
    id: Key { sql: "e.seq", cast: "bigint" },
};

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Entry>>> {
    let columns = "select e.seq, e.at, e.category, e.noun, e.verb, e.object_id, e.parent_id, e.actor_kind, e.actor_id, e.real_actor_id, \
                   e.actor_label, e.address, e.request_id, e.trace_id, e.job_id, e.changes";
    LIST.rows::<Entry, _>(tx, wanted, columns, |_| {}).await
}

/// Tells the log of a security event: `auth.login`. Without an actor it is the transaction's own.
pub async fn security(
    tx: &mut Tx,
    kind: &str,
    subject: Option<UserId>,
    details: &Value,
    actor: Option<&Actor>,
) -> Result<()> {
    sqlx::query!(
        "select audit.security($1, $2, $3, $4, $5, $6)",
        kind,
        subject.map(|id| id.0),
        details,
        actor.map(Actor::kind),
        actor.and_then(Actor::user_id).map(|id| id.0),
        actor.and_then(context::label_of),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How long the organization keeps its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `None`: as the installation says.
    pub keep_days: Option<i32>,
    /// Why nothing may be pruned, while that is so.
    pub hold: Option<String>,
    /// 0 before it was ever set.
    pub version: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

pub async fn policy(tx: &mut Tx) -> Result<Policy> {
    let row = sqlx::query!("select keep_days, hold_reason, version, updated_at from audit_policies")
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map_or_else(Policy::default, |row| Policy {
        keep_days: row.keep_days,
        hold: row.hold_reason,
        version: row.version,
        updated_at: Some(row.updated_at),
    }))
}

/// In place of the policy whose version is `policy.version`; false when that is another one by now.
pub async fn set_policy(tx: &mut Tx, policy: &Policy) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into audit_policies as p (organization_id, keep_days, legal_hold, hold_reason, updated_at)
         select $1, $2, $3::text is not null, $3, $4 where $5::bigint = 0 or exists (select from audit_policies)
         on conflict on constraint audit_policies_pkey do update
            set keep_days = excluded.keep_days, legal_hold = excluded.legal_hold, hold_reason = excluded.hold_reason,
                updated_at = excluded.updated_at, version = p.version + 1
          where p.version = $5",
        organization.0,
        policy.keep_days,
        policy.hold,
        now,
        policy.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Organizations that have a log, with their slugs where they are still there: needs a system transaction.
pub async fn logs(tx: &mut Tx) -> Result<Vec<(OrganizationId, Option<String>)>> {
    // One step of an index for each, however long the logs are.
    let rows = sqlx::query!(
        r#"with recursive found as (
             (select organization_id as id from audit_entries order by organization_id limit 1)
             union all
             select (select organization_id from audit_entries where organization_id > found.id order by organization_id limit 1)
               from found where found.id is not null)
           select found.id as "id!", o.slug as "slug?" from found left join organizations o on o.id = found.id where found.id is not null"#
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.slug)).collect())
}
