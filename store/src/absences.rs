//! Who stands in for somebody who is out of office.

use crate::{Result, Tx};
use domain::UserId;

/// Follows the substitutes of somebody who is away now, to the first who is there. `None`: they are not away, or nobody is found, for the
/// chain ends with somebody who names nobody or is not active any more, or comes back to where it was.
pub async fn stand_in(tx: &mut Tx, user: UserId) -> Result<Option<UserId>> {
    let now = tx.now();
    let found = sqlx::query_scalar!(
        r#"with recursive chain (id, next, is_away, is_active, path) as (
               select id, substitute_id, coalesce(away_from <= $2 and $2 < away_until, false), is_active, array[id]
                 from users where id = $1
               union all
               select s.id, s.substitute_id, coalesce(s.away_from <= $2 and $2 < s.away_until, false), s.is_active, c.path || s.id
                 from chain c join users s on s.id = c.next
                where c.is_away and c.is_active and s.id <> all (c.path) and cardinality(c.path) < 20)
           select id as "id!" from chain where not is_away and is_active and id <> $1"#,
        user.0,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.map(Into::into))
}
