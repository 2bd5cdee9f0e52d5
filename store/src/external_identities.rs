//! Who people are at identity providers.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ExternalIdentityId, IdentityProviderId, UserId};

/// Whose account a subject leads to.
pub async fn user_of(tx: &mut Tx, provider: IdentityProviderId, subject: &str) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        "select user_id from external_identities where provider_id = $1 and subject = $2",
        provider.0,
        subject
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(user.map(Into::into))
}

/// `false`: the person is somebody else at this provider.
pub async fn insert(tx: &mut Tx, provider: IdentityProviderId, subject: &str, user: UserId) -> Result<bool> {
    let (organization, now, id) = (tx.organization(), tx.now(), ExternalIdentityId::new());
    let done = sqlx::query!(
        "insert into external_identities (id, organization_id, provider_id, subject, user_id, created_at, last_login_at)
         values ($1, $2, $3, $4, $5, $6, $6) on conflict do nothing",
        id.0,
        organization.0,
        provider.0,
        subject,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn note_login(tx: &mut Tx, provider: IdentityProviderId, user: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update external_identities set last_login_at = $3 where provider_id = $1 and user_id = $2",
        provider.0,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct Identity {
    pub id: ExternalIdentityId,
    pub provider: IdentityProviderId,
    pub provider_name: String,
    pub issuer: String,
    pub subject: String,
    pub created_at: DateTime<Utc>,
    pub last_login_at: DateTime<Utc>,
    /// One can log in there.
    pub is_enabled: bool,
}

/// One for each provider at most.
pub async fn of_user(tx: &mut Tx, user: UserId) -> Result<Vec<Identity>> {
    let organization = tx.organization();
    let rows = sqlx::query!(
        "select i.id, i.provider_id, p.name as provider_name, p.issuer, i.subject, i.created_at, i.last_login_at, p.is_enabled
           from external_identities i join identity_providers p on p.id = i.provider_id
          where i.organization_id = $1 and i.user_id = $2 order by p.name, i.id",
        organization.0,
        user.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Identity {
            id: row.id.into(),
            provider: row.provider_id.into(),
            provider_name: row.provider_name,
            issuer: row.issuer,
            subject: row.subject,
            created_at: row.created_at,
            last_login_at: row.last_login_at,
            is_enabled: row.is_enabled,
        })
        .collect())
}

/// Answers the provider.
pub async fn delete(tx: &mut Tx, user: UserId, id: ExternalIdentityId) -> Result<IdentityProviderId> {
    let provider = sqlx::query_scalar!(
        "delete from external_identities where id = $1 and user_id = $2 returning provider_id",
        id.0,
        user.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    provider.map(Into::into).ok_or(Error::NotFound)
}
