//! What a scanner said of bytes, by their SHA-256. The same bytes are judged once an organization, and anew as time goes by.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileScan {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// What it is called; nothing: nothing was found.
    pub found: Option<String>,
    /// When it was asked.
    pub scanned_at: DateTime<Utc>,
}

/// Those of these hashes that were judged, at whatever time.
pub async fn of(tx: &mut Tx, hashes: &[String]) -> Result<Vec<FileScan>> {
    let organization = tx.organization();
    Ok(sqlx::query_as!(
        FileScan,
        "select sha256, found, scanned_at from file_scans where organization_id = $1 and sha256 = any($2)",
        organization.0,
        hashes,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Keeps a verdict in place of one that was asked for earlier. Answers whether it says what the one before did not: of two at the same time the first.
pub async fn put(tx: &mut Tx, scan: &FileScan) -> Result<bool> {
    let organization = tx.organization();
    let new = sqlx::query!(
        "insert into file_scans (organization_id, sha256, found, scanned_at) values ($1, $2, $3, $4)
         on conflict on constraint file_scans_pkey do nothing",
        organization.0,
        scan.sha256,
        scan.found,
        scan.scanned_at,
    )
    .execute(&mut **tx)
    .await?;
    if new.rows_affected() == 1 {
        return Ok(true);
    }
    let differs = sqlx::query_scalar!(
        r#"update file_scans s set found = $3, scanned_at = $4
             from (select found from file_scans where organization_id = $1 and sha256 = $2 for update) before
            where s.organization_id = $1 and s.sha256 = $2 and s.scanned_at <= $4
        returning before.found is distinct from s.found as "differs!""#,
        organization.0,
        scan.sha256,
        scan.found,
        scan.scanned_at,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(differs.unwrap_or(false))
}
