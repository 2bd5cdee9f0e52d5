//! Logins that wait for a second factor: what an `mfa_token` leads to. Only its hash is stored.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{IdentityProviderId, OrganizationId, UserId};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A code is asked for.
    Verify,
    /// The person has no second factor, and must have one: the token is good for nothing but making one.
    Enrol,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Verify => "verify",
            Purpose::Enrol => "enrol",
        }
    }
}

pub async fn insert(
    tx: &mut Tx,
    user: UserId,
    token_hash: &str,
    purpose: Purpose,
    expires_at: DateTime<Utc>,
    first: Option<FirstStep>,
) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into login_challenges (id, organization_id, user_id, token_hash, purpose, created_at, expires_at, provider_id, proven_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        Uuid::now_v7(),
        organization.0,
        user.0,
        token_hash,
        purpose.as_str(),
        now,
        expires_at,
        first.map(|first| first.provider.0),
        first.and_then(|first| first.proven_at),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
pub struct Challenge {
    pub organization: OrganizationId,
    pub user: UserId,
    pub purpose: Purpose,
    /// `None`: it was a password.
    pub first: Option<FirstStep>,
}

/// A login at a provider.
#[derive(Clone, Copy, Debug)]
pub struct FirstStep {
    pub provider: IdentityProviderId,
    /// When they showed there who they are, if it says so.
    pub proven_at: Option<DateTime<Utc>>,
}

/// In a transaction that presents the hash. Used and expired ones do not exist.
pub async fn find_presented(tx: &mut Tx, token_hash: &str) -> Result<Option<Challenge>> {
    let now = tx.now();
    let row = sqlx::query!(
        "select organization_id, user_id, purpose, provider_id, proven_at from login_challenges
          where token_hash = $1 and used_at is null and expires_at > $2",
        token_hash,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        let purpose = match row.purpose.as_str() {
            "verify" => Purpose::Verify,
            "enrol" => Purpose::Enrol,
            other => return Err(Error::Corrupt(format!("unknown purpose {other:?} of a login challenge"))),
        };
        Ok(Challenge {
            organization: row.organization_id.into(),
            user: row.user_id.into(),
            purpose,
            first: row
                .provider_id
                .map(|provider| FirstStep { provider: provider.into(), proven_at: row.proven_at }),
        })
    })
    .transpose()
}

/// Of two at once exactly one gets `true`.
pub async fn use_up(tx: &mut Tx, token_hash: &str) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update login_challenges set used_at = $2 where token_hash = $1 and used_at is null and expires_at > $2",
        token_hash,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes all of a person back: their password, or what they need beside it, has changed.
pub async fn withdraw(tx: &mut Tx, user: UserId) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update login_challenges set used_at = $3 where organization_id = $1 and user_id = $2 and used_at is null",
        organization.0,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
