//! Logins at identity providers that are under way. States and codes are stored as hashes and used once.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::{IdentityProviderId, OrganizationId, SignInId, UserId};

#[derive(Debug)]
pub struct NewSignIn<'a> {
    pub provider: IdentityProviderId,
    pub state_hash: &'a str,
    /// Of what the browser keeps.
    pub browser_hash: &'a str,
    pub half: &'a [u8],
    pub return_to: &'a str,
    /// The person is to show again who they are.
    pub asks_again: bool,
    pub expires_at: DateTime<Utc>,
}

pub async fn insert(tx: &mut Tx, new: &NewSignIn<'_>) -> Result<()> {
    let (organization, now, id) = (tx.organization(), tx.now(), SignInId::new());
    sqlx::query!(
        "insert into sign_ins (id, organization_id, provider_id, state_hash, browser_hash, half, return_to, created_at, expires_at, asks_again)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id.0,
        organization.0,
        new.provider.0,
        new.state_hash,
        new.browser_hash,
        new.half,
        new.return_to,
        now,
        new.expires_at,
        new.asks_again,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct SignIn {
    pub id: SignInId,
    pub organization: OrganizationId,
    pub provider: IdentityProviderId,
    pub browser_hash: String,
    pub half: Vec<u8>,
    pub return_to: String,
    /// Since then the person is to have shown again who they are.
    pub asked_again_at: Option<DateTime<Utc>>,
}

/// In a transaction that presents the hash of the state. Used and expired ones do not exist.
pub async fn find_by_state(tx: &mut Tx, hash: &str) -> Result<Option<SignIn>> {
    let now = tx.now();
    let row = sqlx::query!(
        "select id, organization_id, provider_id, browser_hash, half, return_to, asks_again, created_at from sign_ins
          where state_hash = $1 and used_at is null and expires_at > $2",
        hash,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| SignIn {
        id: row.id.into(),
        organization: row.organization_id.into(),
        provider: row.provider_id.into(),
        browser_hash: row.browser_hash,
        half: row.half,
        return_to: row.return_to,
        asked_again_at: row.asks_again.then_some(row.created_at),
    }))
}

/// Of two at once exactly one gets `true`.
pub async fn use_state(tx: &mut Tx, id: SignInId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!("update sign_ins set used_at = $2 where id = $1 and used_at is null", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// It is known who it is: whoever shows this code in the same browser is that person. `proven_at`: as the provider says.
pub async fn admit(
    tx: &mut Tx,
    id: SignInId,
    user: UserId,
    proven_at: Option<DateTime<Utc>>,
    code_hash: &str,
    until: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update sign_ins set user_id = $2, code_hash = $3, code_expires_at = $4, auth_time = $5 where id = $1",
        id.0,
        user.0,
        code_hash,
        until,
        proven_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct Admitted {
    pub id: SignInId,
    pub organization: OrganizationId,
    pub provider: IdentityProviderId,
    pub user: UserId,
    pub browser_hash: String,
    pub proven_at: Option<DateTime<Utc>>,
}

/// In a transaction that presents the hash of the code. Used and expired ones do not exist.
pub async fn find_by_code(tx: &mut Tx, hash: &str) -> Result<Option<Admitted>> {
    let now = tx.now();
    let row = sqlx::query!(
        r#"select id, organization_id, provider_id, user_id as "user_id!", browser_hash, auth_time from sign_ins
          where code_hash = $1 and user_id is not null and code_used_at is null and code_expires_at > $2"#,
        hash,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Admitted {
        id: row.id.into(),
        organization: row.organization_id.into(),
        provider: row.provider_id.into(),
        user: row.user_id.into(),
        browser_hash: row.browser_hash,
        proven_at: row.auth_time,
    }))
}

/// Of two at once exactly one gets `true`.
pub async fn use_code(tx: &mut Tx, id: SignInId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sign_ins set code_used_at = $2 where id = $1 and code_used_at is null",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
