//! What must be true of the connection before anything is served: the role cannot get around row level security, and
//! the schema is the one this program was built for.

use crate::{Db, MIGRATOR, Result, Route, Tx};
use sqlx::{Executor, PgConnection, Row};

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
    #[error(
        "the connection goes through a pooler (PgBouncer) that passes on no settings of a session: set RELAYDESK_DATABASE_DIRECT_URL \
         to the server itself, see docs/pgbouncer.md"
    )]
    Pooler,
}

/// Asserted at start and by `/readyz`. `Ok(Some(_))` says what is wrong; `Err` that the database cannot be asked.
pub async fn unfit(db: &Db) -> Result<Option<Unfit>> {
    let mut tx = match db.begin_system().await {
        Err(error) if says_pooler(&error.to_string()) => return Ok(Some(Unfit::Pooler)),
        begun => begun?,
    };
    if db.route() == Route::Direct && !keeps_settings(&mut tx).await? {
        return Ok(Some(Unfit::Pooler));
    }
    let role = sqlx::query!(
        r#"select current_user::text as "name!",
                  r.rolsuper or r.rolbypassrls as "privileged!",
                  exists (select from pg_class c
                          where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'queue'))
                            and pg_has_role(current_user, c.relowner, 'member')) as "owns!"
           from pg_roles r where r.rolname = current_user"#
    )
    .fetch_one(&mut *tx)
    .await?;
    if role.privileged || role.owns {
        return Ok(Some(Unfit::PowerfulRole(role.name)));
    }
    let needed = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    let found = applied(&mut tx).await?;
    if found < needed {
        return Ok(Some(Unfit::OldSchema { found, needed }));
    }
    // A newer schema is none of our business as long as it says that it serves us too.
    let floor: i64 = sqlx::query_scalar("select version from schema_floor").fetch_one(&mut *tx).await?;
    Ok((floor > needed).then_some(Unfit::OldProgram { floor, known: needed }))
}

/// PgBouncer refuses what it does not know when somebody connects, unless it was told to ignore it. Whether an error says that.
pub fn says_pooler(error: &str) -> bool {
    error.contains("unsupported startup parameter")
}

/// A setting for a session to begin with. A pooler refuses it, or drops it.
pub const MARK: (&str, &str) = ("relaydesk.direct", "yes");

/// Whether the session began with [`MARK`].
pub async fn is_marked(connection: &mut PgConnection) -> Result<bool> {
    let row = connection.fetch_one(sqlx::raw_sql("select current_setting('relaydesk.direct', true)")).await?;
    Ok(row.try_get::<Option<String>, _>(0)?.as_deref() == Some(MARK.1))
}

/// Whether the session has the bounds that it was asked for when it began. Not prepared: behind a pooler that would fail.
async fn keeps_settings(tx: &mut Tx) -> Result<bool> {
    let row = (**tx).fetch_one(sqlx::raw_sql("select current_setting('lock_timeout') as bound")).await?;
    Ok(row.try_get::<String, _>("bound")? == "10s")
}

/// Two connections with the same answer lead to the same database of the same server.
pub async fn place(db: &Db) -> Result<String> {
    let mut tx = db.begin_system().await?;
    let place = sqlx::query_scalar("select current_database() || ', started ' || pg_postmaster_start_time()");
    Ok(place.fetch_one(&mut *tx).await?)
}

async fn applied(tx: &mut Tx) -> Result<i64> {
    let known: bool = sqlx::query_scalar("select to_regclass('public._sqlx_migrations') is not null")
        .fetch_one(&mut **tx)
        .await?;
    if !known {
        return Ok(0);
    }
    // Not `query!`: the table belongs to the migrator and is not there when queries are checked.
    let version: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(&mut **tx)
        .await?;
    Ok(version.unwrap_or_default())
}
