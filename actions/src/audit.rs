//! Security events, for the audit log. Changes of rows need no word here: triggers record them, with who acts and from where
//! (`store::context`).

use crate::Result;
use domain::{Actor, UserId};
use serde_json::Value;
use std::time::Duration;
use store::{Db, Tx, audit_chain};

/// Entries of one seal, and of one transaction.
const PIECE: i32 = 1000;
/// Between two looks at whether the writers are done.
const LOOK: Duration = Duration::from_millis(50);

/// Records that something happened that concerns security and is no change of a row: `auth.login`, `auth.login_failed`, `export.report`. It is in
/// the log (`GET audit-logs`, `GET compliance-logs`) if the transaction commits; a refusal is recorded in a transaction of its own.
///
/// * `tx`: of the organization whom it concerns ([`store::Db::begin`], or after [`Tx::enter`]).
/// * `actor`: who did it: the person at a login (who is not yet the request's caller), `Actor::system(organization, "login")` for somebody who was
///   refused. Address, request and trace are those of the running request.
/// * `kind`: a noun and what happened, in lower case: `auth.logout`. Not `audit.…`, which is the log's own.
/// * `subject`: the person whom it is about.
/// * `details`: what a reader of the log needs; never a secret, and no name or address of a person, who is known by `subject`.
///
/// ```ignore
/// audit::security(&mut tx, &actor, "auth.login", Some(user), json!({"by": "password"})).await?;
/// ```
pub async fn security(
    tx: &mut Tx,
    actor: &Actor,
    kind: &str,
    subject: Option<UserId>,
    details: Value,
) -> Result<()> {
    Ok(store::audit::security(tx, kind, subject, &details, Some(actor)).await?)
}

/// Seals everything that was written before this began, of all organizations; answers how many entries, `None` when it was stopped before its end.
/// Nobody who writes waits for it; it waits for those who write at its beginning.
pub async fn seal(db: &Db, is_stopped: impl Fn() -> bool) -> Result<Option<u64>> {
    let mut tx = db.begin_system().await?;
    let Some(up_to) = audit_chain::newest(&mut tx).await? else { return Ok(Some(0)) };
    let writers = audit_chain::writers(&mut tx).await?;
    tx.rollback().await?;
    loop {
        let mut tx = db.begin_system().await?;
        let still = audit_chain::writers(&mut tx).await?;
        tx.rollback().await?;
        if writers.is_disjoint(&still) {
            break;
        }
        if is_stopped() {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut tx = db.begin_system().await?;
    let organizations = audit_chain::unsealed(&mut tx, up_to).await?;
    tx.rollback().await?;
    let mut all = 0;
    for organization in organizations {
        loop {
            if is_stopped() {
                return Ok(None);
            }
            let mut tx = db.begin(organization).await?;
            let sealed = audit_chain::seal(&mut tx, up_to, PIECE).await?;
            tx.commit().await?;
            all += sealed.unsigned_abs();
            if sealed < i64::from(PIECE) {
                break;
            }
        }
    }
    Ok(Some(all))
}
