//! How long an organization keeps its audit log, and legal holds.

use crate::{Error, FieldError, Result};
use chrono::TimeDelta;
use domain::{Actor, Permission, permission};
use store::audit::Policy;
use store::{Tx, audit_chain};

/// The database keeps what is younger, whatever it is asked for.
pub const LEAST_DAYS: i32 = 90;
const MOST_DAYS: i32 = 36_500;
/// Entries of one transaction, about.
pub const PIECE: i32 = 5_000;

/// Sets both anew, in place of the policy of this version (0: none was set).
pub async fn set(
    tx: &mut Tx,
    actor: &Actor,
    keep_days: Option<i32>,
    hold: Option<&str>,
    version: i64,
) -> Result<Policy> {
    permission::check(actor, Permission::AuditManage)?;
    let hold = hold.map(str::trim).filter(|reason| !reason.is_empty());
    let mut wrong = Vec::new();
    if keep_days.is_some_and(|days| !(LEAST_DAYS..=MOST_DAYS).contains(&days)) {
        let detail = format!("must be from {LEAST_DAYS} to {MOST_DAYS} days");
        wrong.push(FieldError { pointer: "/keep_days".into(), detail });
    }
    if hold.is_some_and(|reason| reason.chars().count() > 500) {
        wrong.push(FieldError {
            pointer: "/legal_hold".into(),
            detail: "must be 500 characters at most".into(),
        });
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let policy = Policy { keep_days, hold: hold.map(str::to_owned), version, updated_at: None };
    if !store::audit::set_policy(tx, &policy).await? {
        return Err(Error::Stale);
    }
    Ok(store::audit::policy(tx).await?)
}

/// Takes away some of the oldest entries that are over their time; answers how many. `keep`: what the installation says for those who say nothing.
pub async fn prune(tx: &mut Tx, keep: Option<TimeDelta>) -> Result<u64> {
    let policy = store::audit::policy(tx).await?;
    let own = policy.keep_days.map(|days| TimeDelta::days(days.into()));
    let Some(keep) = own.or(keep).filter(|_| policy.hold.is_none()) else { return Ok(0) };
    let before = tx.now() - keep;
    Ok(audit_chain::prune(tx, before, PIECE).await?)
}
