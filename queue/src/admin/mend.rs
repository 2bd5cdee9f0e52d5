//! One job: again, with other arguments, cancelled, put away.

use super::view::show;
use super::{AdminError, JobState, Note, hold_again, key_holder, notify};
use crate::enqueue::rank;
use crate::listener::CANCELLATIONS;
use crate::{ArgsError, Catalogue, JobId, NewJob};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// What it is now, when it could not be done.
async fn refuse(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    hint: &'static str,
) -> Result<AdminError, AdminError> {
    let job = show(connection, id, organization).await?;
    Ok(AdminError::WrongState { state: job.job.state, hint })
}

/// A dead letter runs again, with all its attempts before it; a scheduled job runs now. A dead letter whose unique key another job has
/// by now stays one.
pub async fn retry(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    note: &Note,
) -> Result<(), AdminError> {
    again(connection, id, organization, None, note).await
}

/// As [`retry`], with other arguments: as many as its kind can read. The old ones stay in the job's trail.
pub async fn edit(
    connection: &mut PgConnection,
    catalogue: &Catalogue,
    id: JobId,
    organization: Option<Uuid>,
    args: &Value,
    note: &Note,
) -> Result<(), AdminError> {
    let job = show(connection, id, organization).await?;
    let edited = catalogue.read(&job.job.kind, args)?;
    again(connection, id, organization, Some(edited), note).await
}

async fn again(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    edited: Option<NewJob>,
    note: &Note,
) -> Result<(), AdminError> {
    let written = edited.as_ref().map(|edited| edited.written(id.0)).transpose();
    let written = written.map_err(|error| ArgsError::Unsealed(error.to_string()))?;
    let inside = savepoint(connection).await?;
    let retried: Result<Option<(String, bool)>, sqlx::Error> = sqlx::query_as(concat!(
        "with old as materialized ( \
           select id, organization_id, kind, attempt, run, args, args_key from queue.jobs j \
           where id = $1 and state in ('dead', 'scheduled') and ($2::uuid is null or organization_id = $2) \
             and (state <> 'dead' or ",
        key_holder!(),
        " is null) for update), \
         up as (update queue.jobs j set state = 'ready', due_at = clock_timestamp(), rank = ",
        rank!("clock_timestamp()", "j"),
        ", run = j.run + 1, \
                attempt = case when state = 'dead' then 0 else j.attempt end, \
                crashes = case when state = 'dead' then 0 else crashes end, cancel_requested = false, died_of = null, \
                unique_held = case when state = 'dead' and j.unique_while & 1 <> 0 then true else j.unique_held end, \
                args = coalesce($3::text::json, j.args), limit_key = coalesce($4, limit_key), \
                args_version = case when $3 is null then args_version else nullif($7, 1) end, \
                args_key = case when $3 is null then j.args_key else $8 end \
                from old where j.id = old.id returning j.lane, j.unique_held is false as let_go), \
         noted as (insert into queue.attempts (job_id, organization_id, attempt, retention, run, finished_at, outcome, error, actor, args, args_key) \
                   select id, organization_id, attempt, greatest(queue.retention_of(kind), 2), run, clock_timestamp(), case when $3 is null then 'retried' else 'edited' end, \
                          coalesce($5, ''), $6, case when $3 is not null then args end, case when $3 is not null then args_key end from old) \
         select lane, let_go from up"
    ))
    .bind(id.0)
    .bind(organization)
    .bind(written.as_ref().map(|written| written.0.as_str()))
    // A key that was given at enqueue, and not by the arguments, stays.
    .bind(edited.as_ref().and_then(|edited| edited.limit_key.as_deref()).filter(|key| !key.is_empty()))
    .bind(&note.why)
    .bind(&note.actor)
    .bind(edited.as_ref().map(|edited| edited.version))
    .bind(written.as_ref().and_then(|written| written.1.as_deref()))
    .fetch_optional(&mut *connection)
    .await;
    let retried = match retried {
        Ok(retried) => {
            if inside {
                sqlx::query("release retrying").execute(&mut *connection).await?;
            }
            retried
        }
        // Somebody was about to take the key and has by now.
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("jobs_unique_key") => {
            if inside {
                sqlx::query("rollback to retrying").execute(&mut *connection).await?;
            }
            None
        }
        Err(error) => return Err(error.into()),
    };
    let Some((lane, let_go)) = retried else {
        let holder: Option<Option<Uuid>> = sqlx::query_scalar(concat!(
            "select ",
            key_holder!(),
            " from queue.jobs j where id = $1 and state = 'dead' and ($2::uuid is null or organization_id = $2)"
        ))
        .bind(id.0)
        .bind(organization)
        .fetch_optional(&mut *connection)
        .await?;
        return Err(match holder.flatten() {
            Some(by) => AdminError::KeyTaken { by: JobId(by) },
            None => {
                refuse(connection, id, organization, "only a dead or a scheduled job can be retried").await?
            }
        });
    };
    if let_go {
        hold_again(connection, &[id.0]).await?;
    }
    Ok(notify(connection, &format!("~{lane}")).await?)
}

/// Whether the caller has a transaction; it was not begun by sqlx, perhaps, so the server is asked.
async fn savepoint(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match sqlx::query("savepoint retrying").execute(connection).await {
        Ok(_) => Ok(true),
        // no_active_sql_transaction: the next statement is one by itself.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "25P01") => Ok(false),
        Err(error) => Err(error),
    }
}

/// How far a cancellation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It had not started, and will not.
    Now,
    /// It runs; its handler has been told.
    Requested,
}

/// A waiting job is over at once; a running one is told to stop, wherever it runs. A suspended one takes the jobs that it waits for with it.
pub async fn cancel(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    note: &Note,
) -> Result<Cancelled, AdminError> {
    let waiting = [JobState::Ready, JobState::Scheduled, JobState::Limited, JobState::Suspended];
    if finish_waiting(connection, id, organization, "cancelled", &waiting, note).await? {
        return Ok(Cancelled::Now);
    }
    let running = sqlx::query(
        "with asked as (update queue.jobs set cancel_requested = true \
           where id = $1 and state = 'ready' and worker is not null and ($2::uuid is null or organization_id = $2) \
           returning id, organization_id, kind, attempt, run) \
         insert into queue.attempts (job_id, organization_id, attempt, retention, run, finished_at, outcome, error, actor) \
         select id, organization_id, attempt, greatest(queue.retention_of(kind), 2), run, clock_timestamp(), 'cancelled', coalesce($3, ''), $4 from asked",
    )
    .bind(id.0)
    .bind(organization)
    .bind(&note.why)
    .bind(&note.actor)
    .execute(&mut *connection)
    .await?;
    if running.rows_affected() == 0 {
        return Err(
            refuse(connection, id, organization, "only a job that waits or runs can be cancelled").await?
        );
    }
    notify(connection, CANCELLATIONS).await?;
    Ok(Cancelled::Requested)
}

/// Puts a dead letter away; it stays in the history.
pub async fn discard(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    note: &Note,
) -> Result<(), AdminError> {
    if finish_waiting(connection, id, organization, "discarded", &[JobState::Dead], note).await? {
        return Ok(());
    }
    Err(refuse(connection, id, organization, "only a dead job can be discarded").await?)
}

async fn finish_waiting(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    outcome: &str,
    states: &[JobState],
    note: &Note,
) -> Result<bool, sqlx::Error> {
    let finished: i64 = sqlx::query_scalar(
        "with old as materialized ( \
           select id, organization_id, kind, attempt, run from queue.jobs where id = $1 and ($2::uuid is null or organization_id = $2)), \
         away as materialized ( \
           select queue.put_away(array(select id from old), $3, $4, \
                                 case when $4 = 'cancelled' then coalesce($5, 'cancelled by request') end) as id), \
         noted as (insert into queue.attempts (job_id, organization_id, attempt, retention, run, finished_at, outcome, error, actor) \
                   select old.id, old.organization_id, old.attempt, greatest(queue.retention_of(old.kind), 2), old.run, clock_timestamp(), $4, coalesce($5, ''), $6 \
                   from old join away on away.id = old.id) \
         select count(*) from away",
    )
    .bind(id.0)
    .bind(organization)
    .bind(states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
    .bind(outcome)
    .bind(&note.why)
    .bind(&note.actor)
    .fetch_one(connection)
    .await?;
    Ok(finished == 1)
}
