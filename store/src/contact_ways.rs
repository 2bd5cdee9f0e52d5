//! How somebody can be reached besides the address of their account.

use crate::words::word;
use crate::{Result, Tx};
use domain::{ContactKind, ContactWay, UserId};
use uuid::Uuid;

/// In the order in which they were given.
pub async fn of(tx: &mut Tx, user: UserId) -> Result<Vec<ContactWay>> {
    let rows = sqlx::query!(
        "select kind, value, label, is_preferred from contact_ways where user_id = $1 order by place",
        user.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = word(&row.kind)?;
            Ok(ContactWay { kind, value: row.value, label: row.label, is_preferred: row.is_preferred })
        })
        .collect()
}

/// Exactly these from now on.
pub async fn replace(tx: &mut Tx, user: UserId, ways: &[ContactWay]) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!("delete from contact_ways where user_id = $1", user.0).execute(&mut **tx).await?;
    for (place, way) in (0_i32..).zip(ways) {
        sqlx::query!(
            "insert into contact_ways (id, organization_id, user_id, place, kind, value, label, is_preferred, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            Uuid::now_v7(),
            organization.0,
            user.0,
            place,
            way.kind.as_str(),
            way.value,
            way.label,
            way.is_preferred,
            now
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!("update users set updated_at = $2 where id = $1", user.0, now).execute(&mut **tx).await?;
    Ok(())
}

/// Where mail about tickets goes: the preferred e-mail address, else that of the account. What concerns the account (a new password) goes there
/// and nowhere else.
pub async fn mail_address(tx: &mut Tx, user: UserId, account: &str) -> Result<String> {
    let preferred = sqlx::query_scalar!(
        "select value from contact_ways where user_id = $1 and kind = $2 and is_preferred",
        user.0,
        ContactKind::Email.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(preferred.unwrap_or_else(|| account.to_owned()))
}
