//! What is over and was kept long enough goes, some rows at a time. What failed or still waits is never among it.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prunable {
    /// Raw mails that became something, or were ignored.
    Mail,
    /// Payloads of monitoring, likewise.
    Payloads,
    /// Messages that were sent.
    Deliveries,
    /// Runs of reports that are done, with their files.
    Reports,
    /// What webhooks have told, or will not tell any more.
    Webhooks,
}

impl Prunable {
    pub const ALL: [Prunable; 5] =
        [Prunable::Mail, Prunable::Payloads, Prunable::Deliveries, Prunable::Reports, Prunable::Webhooks];

    pub fn as_str(self) -> &'static str {
        match self {
            Prunable::Mail => "mail",
            Prunable::Payloads => "payloads",
            Prunable::Deliveries => "deliveries",
            Prunable::Reports => "reports",
            Prunable::Webhooks => "webhooks",
        }
    }
}

impl fmt::Display for Prunable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes away what was over before `before`, oldest first, `most` rows at most; answers how many. What somebody has locked is for another
/// time.
pub async fn prune(tx: &mut Tx, what: Prunable, before: DateTime<Utc>, most: i64) -> Result<u64> {
    match what {
        Prunable::Mail => mail(tx, before, most).await,
        Prunable::Payloads => payloads(tx, before, most).await,
        Prunable::Deliveries => deliveries(tx, before, most).await,
        Prunable::Reports => reports(tx, before, most).await,
        Prunable::Webhooks => webhooks(tx, before, most).await,
    }
}

/// Runs a statement whose first parameter is the organization; answers how many rows it took away.
macro_rules! taken_away {
    ($tx:ident, $statement:literal, $($value:expr),+) => {{
        let organization = $tx.organization();
        let gone = sqlx::query!($statement, organization.0, $($value),+).execute(&mut **$tx).await?;
        Ok(gone.rows_affected())
    }};
}

// Mail and payloads apart, each in the words of its partial index: with a parameter for the source no plan would reach either.
async fn mail(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    taken_away!(
        tx,
        "delete from inbox where id = any(array(
           select id from inbox
            where organization_id = $1 and source = 'mail' and processed_at < $2 and status in ('processed', 'ignored')
            order by processed_at limit $3 for update skip locked))",
        before, most
    )
}

async fn payloads(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    taken_away!(
        tx,
        "delete from inbox where id = any(array(
           select id from inbox
            where organization_id = $1 and source <> 'mail' and processed_at < $2 and status in ('processed', 'ignored')
            order by processed_at limit $3 for update skip locked))",
        before, most
    )
}

async fn deliveries(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    taken_away!(
        tx,
        "delete from deliveries where id = any(array(
           select id from deliveries
            where organization_id = $1 and created_at < $2 and status = 'sent' and sent_at < $2
            order by created_at limit $3 for update skip locked))",
        before,
        most
    )
}

/// Not while a link that was mailed still leads to the file.
async fn reports(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    let now = tx.now();
    taken_away!(
        tx,
        "delete from report_executions where id = any(array(
           select id from report_executions
            where organization_id = $1 and created_at < $2 and status = 'done' and finished_at < $2
              and (download_until is null or download_until < $3)
            order by created_at limit $4 for update skip locked))",
        before,
        now,
        most
    )
}

/// With their attempts. The event stays: it can be replayed.
async fn webhooks(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    taken_away!(
        tx,
        "delete from webhook_deliveries where id = any(array(
           select id from webhook_deliveries
            where organization_id = $1 and created_at < $2 and status <> 'pending' and updated_at < $2
            order by created_at limit $3 for update skip locked))",
        before,
        most
    )
}

/// What was left of logins that are over: refresh tokens, links for new passwords, half logins. By when it expired; what was revoked before
/// stays until then, because a copy of it may still be shown.
pub async fn logins(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    let gone: Result<u64> = taken_away!(
        tx,
        "delete from sessions where id = any(array(
           select id from sessions where organization_id = $1 and expires_at < $2
            order by expires_at limit $3 for update skip locked))",
        before,
        most
    );
    let mut rows = gone?;
    let gone: Result<u64> = taken_away!(
        tx,
        "delete from password_resets where id = any(array(
           select id from password_resets where organization_id = $1 and expires_at < $2 limit $3 for update skip locked))",
        before, most
    );
    rows += gone?;
    let gone: Result<u64> = taken_away!(
        tx,
        "delete from login_challenges where id = any(array(
           select id from login_challenges where organization_id = $1 and expires_at < $2
            order by expires_at limit $3 for update skip locked))",
        before,
        most
    );
    rows += gone?;
    let gone: Result<u64> = taken_away!(
        tx,
        "delete from sign_ins where id = any(array(
           select id from sign_ins where organization_id = $1 and expires_at < $2
            order by expires_at limit $3 for update skip locked))",
        before,
        most
    );
    rows += gone?;
    Ok(rows)
}

/// Which of these files no attachment names.
pub async fn unnamed(tx: &mut Tx, sha256: &[String]) -> Result<Vec<String>> {
    let organization = tx.organization();
    let unnamed = sqlx::query_scalar!(
        r#"select h as "sha256!" from unnest($2::text[]) h
            where not exists (select from attachments a where a.organization_id = $1 and a.sha256 = h)"#,
        organization.0,
        sha256,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(unnamed)
}
