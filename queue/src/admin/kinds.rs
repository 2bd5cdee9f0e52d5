//! Kinds of jobs, and how long the history of each is kept.

use crate::Retention;
use serde::Serialize;
use sqlx::PgConnection;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindView {
    pub name: String,
    /// As the program says.
    pub retention: Retention,
    /// What is in force instead of it.
    pub set_retention: Option<Retention>,
}

impl KindView {
    pub fn in_force(&self) -> Retention {
        self.set_retention.unwrap_or(self.retention)
    }
}

/// All kinds that a worker has made known.
pub async fn kinds(connection: &mut PgConnection) -> Result<Vec<KindView>, sqlx::Error> {
    let rows: Vec<(String, i16, Option<i16>)> =
        sqlx::query_as("select name, retention, set_retention from queue.kinds order by name")
            .fetch_all(connection)
            .await?;
    let view = |(name, retention, set): (String, i16, Option<i16>)| KindView {
        name,
        retention: Retention::of(retention),
        set_retention: set.map(Retention::of),
    };
    Ok(rows.into_iter().map(view).collect())
}

/// How long the history of a kind is kept from now on; `None`: as the program says. Workers know it with their next heartbeat. What is over
/// already stays as long as it was to be kept when it ended. Answers whether there is such a kind.
pub async fn set_retention(
    connection: &mut PgConnection,
    kind: &str,
    retention: Option<Retention>,
) -> Result<bool, sqlx::Error> {
    let set = sqlx::query(
        "update queue.kinds set set_retention = $2, changed_at = clock_timestamp() where name = $1",
    )
    .bind(kind)
    .bind(retention.map(Retention::number))
    .execute(connection)
    .await?;
    Ok(set.rows_affected() == 1)
}
