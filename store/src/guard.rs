//! What must be true of the connection before anything is served: the role cannot get around row level security, and
//! the schema is the one this program was built for.

use crate::{Db, MIGRATOR, Result};

/// Why this database connection cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    #[error(
        "the database role {0:?} could get around row level security (it is a superuser, has bypassrls, or owns tables): \
         connect as a member of relaydesk_app that owns nothing; only `relaydesk migrate` connects as the owner"
    )]
    PowerfulRole(String),
    #[error("the database has schema version {found}, this program needs {needed}: run `relaydesk migrate`")]
    OldSchema { found: i64, needed: i64 },
    #[error(
        "the database serves programs from schema version {floor} on, this one knows {known}: its schema has been changed \
         in a way that older programs cannot live with; run a newer version of this program"
    )]
    OldProgram { floor: i64, known: i64 },
}

/// Asserted at start and by `/readyz`. `Ok(Some(_))` says what is wrong; `Err` that the database cannot be asked.
pub async fn unfit(db: &Db) -> Result<Option<Unfit>> {
    let role = sqlx::query!(
        r#"select current_user::text as "name!",
                  r.rolsuper or r.rolbypassrls as "privileged!",
                  exists (select from pg_class c
                          where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'queue'))
                            and pg_has_role(current_user, c.relowner, 'member')) as "owns!"
           from pg_roles r where r.rolname = current_user"#
    )
    .fetch_one(db.pool())
    .await?;
    if role.privileged || role.owns {
        return Ok(Some(Unfit::PowerfulRole(role.name)));
    }
    let needed = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    let found = applied(db).await?;
    if found < needed {
        return Ok(Some(Unfit::OldSchema { found, needed }));
    }
    // A newer schema is none of our business as long as it says that it serves us too.
    let floor: i64 = sqlx::query_scalar("select version from schema_floor").fetch_one(db.pool()).await?;
    Ok((floor > needed).then_some(Unfit::OldProgram { floor, known: needed }))
}

async fn applied(db: &Db) -> Result<i64> {
    let known: bool = sqlx::query_scalar("select to_regclass('public._sqlx_migrations') is not null")
        .fetch_one(db.pool())
        .await?;
    if !known {
        return Ok(0);
    }
    // Not `query!`: the table belongs to the migrator and is not there when queries are checked.
    let version: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(db.pool())
        .await?;
    Ok(version.unwrap_or_default())
}
