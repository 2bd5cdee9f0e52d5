//! Runs that end without their jobs being over: back to wait, or dead letters.

use crate::completer::{Completion, End, Failure};
use crate::enqueue::{CHANNEL, rank};
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

pub(crate) struct Release<'a> {
    pub completion: &'a Completion,
    state: &'static str,
    delay: f64,
    refund: i16,
    outcome: Option<&'static str>,
    error: Option<&'a str>,
    pub already_done: bool,
}

impl<'a> Release<'a> {
    pub fn of(completion: &'a Completion) -> Self {
        let waiting = |delay: Duration| if delay.is_zero() { "ready" } else { "scheduled" };
        let (state, delay, refund, outcome, error, already_done) = match &completion.end {
            End::Retry { delay, failure, error } => {
                (waiting(*delay), *delay, 0, Some(failure.name()), Some(error.as_str()), false)
            }
            End::Snooze { delay } => (waiting(*delay), *delay, 1, None, None, false),
            End::GivenBack { delay, why } => (waiting(*delay), *delay, 1, None, Some(why.as_str()), false),
            End::Dead { failure, error } => {
                ("dead", Duration::ZERO, 0, Some(failure.name()), Some(error.as_str()), false)
            }
            End::DoneInside { last_attempt } => {
                let state = if *last_attempt { "dead" } else { "scheduled" };
                let why = "the transaction that completed this job was rolled back";
                (state, Duration::from_secs(1), 0, Some(Failure::RolledBack.name()), Some(why), true)
            }
            End::Interrupted | End::Done { .. } | End::Then { .. } | End::Cancelled { .. } => {
                ("ready", Duration::ZERO, 1, Some("interrupted"), Some("the worker was shut down"), false)
            }
        };
        Release { completion, state, delay: delay.as_secs_f64(), refund, outcome, error, already_done }
    }
}

/// Claims that end without the job being over: `$1` ids, `$2` runs, `$3` states, `$4` delays, `$5` attempts given back, `$6` outcomes, `$7` errors,
/// `$8` workers, `$9` times of claims, `$10` attempts, `$11` organizations, `$12` the channel, `$13` how long history is kept.
macro_rules! release {
    ($more:literal, $and:literal) => {
        concat!("with given as ( \
           select * from unnest($1::uuid[], $2::int8[], $3::text[], $4::float8[], $5::int2[], $6::text[], $7::text[], \
                                $8::uuid[], $9::timestamptz[], $10::int2[], $11::uuid[], $13::int2[]) \
             as u(id, run, state, delay, refund, outcome, error, worker, claimed_at, attempt, organization_id, retention)), \
         back as ( \
           update queue.jobs j \
           set worker = null, run = j.run + 1, claimed_at = null, attempt = j.attempt - u.refund, \
               state = u.state::queue.state, due_at = clock_timestamp() + make_interval(secs => u.delay), \
               rank = case when u.outcome = 'interrupted' then j.rank else ",
               rank!("clock_timestamp() + make_interval(secs => u.delay)", "j"), " end, \
               last_error = coalesce(u.error, j.last_error), waits_for = null, paid = null, \
               died_of = case when u.state = 'dead' then case u.outcome when 'failed' then 'exhausted' else u.outcome end end, \
               unique_held = case when u.state = 'dead' and j.unique_held then j.unique_while & 4 <> 0 else j.unique_held end \
           from given u where j.id = u.id and j.run = u.run and j.worker is not null \
           returning j.id, j.lane, j.state, not j.unique_held and u.state <> 'dead' as let_go), \
         noted as ( \
           insert into queue.attempts (job_id, organization_id, attempt, retention, run, started_at, finished_at, worker, outcome, error) \
           select u.id, u.organization_id, u.attempt, greatest(u.retention, 2), u.run, u.claimed_at, clock_timestamp(), u.worker, u.outcome, \
                  coalesce(u.error, '') \
           from given u join back on back.id = u.id where u.outcome is not null), \
         freed as (delete from queue.permits p using back where p.job_id = back.id), \
         held as (select queue.hold_again(array_agg(id)) from back where let_go having count(*) > 0), \
",
            $more,
            "told as (select pg_notify($12, '~' || lane) from (select distinct lane from back where state = 'ready') lanes) \
             select id from back, (select count(*) from told) t, (select count(*) from held) h",
            $and
        )
    };
}

const RELEASE: &str = release!("", "");
/// The same when dead letters of batches may be among them.
const RELEASE_MEMBERS: &str = release!(
    "died as (select queue.die_in_batches(array_agg(id)) from back where state = 'dead' having count(*) > 0), ",
    ", (select count(*) from died) d"
);

/// Answers how many of them were still held.
pub(crate) async fn release_all(
    connection: &mut PgConnection,
    release: &[Release<'_>],
) -> Result<usize, sqlx::Error> {
    let dead_member = release.iter().any(|r| r.completion.is_member && r.state == "dead");
    let released: Vec<Uuid> = sqlx::query_scalar(if dead_member { RELEASE_MEMBERS } else { RELEASE })
        .bind(release.iter().map(|r| r.completion.id).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.run).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.state).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.delay).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.refund).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.outcome).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.error).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.worker).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.claimed_at).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.attempt).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.organization).collect::<Vec<_>>())
        .bind(CHANNEL)
        .bind(release.iter().map(|r| r.completion.retention.number()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(released.len())
}
