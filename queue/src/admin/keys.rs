//! Keys of encrypted arguments.

use sqlx::PgConnection;

/// How many jobs are sealed with which key, finished ones aside: a key that is not among them any more may go. Looks at all jobs.
pub async fn sealed_jobs(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("select args_key, count(*) from queue.jobs where args_key is not null group by args_key order by args_key")
        .fetch_all(connection)
        .await
}
