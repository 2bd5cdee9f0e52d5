//! Schedules: jobs that are enqueued by the calendar, each tick exactly once whoever leads.
//!
//! A tick is fired by moving the row's `next_at` forward in the same transaction that enqueues the job; the row is locked
//! meanwhile, and the job carries a unique key of schedule and tick.

use crate::calendar::Cron;
use crate::enqueue::{CHANNEL, rank};
use crate::plumbing::is_about_the_data;
use crate::{Job, NewJob};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, Row};
use std::time::Duration;
use tracing::{error, warn};
use uuid::Uuid;

pub use crate::calendar::{InvalidSchedule, next_runs};

/// A tick later than this was missed: nobody led.
const LATE: TimeDelta = TimeDelta::seconds(60);
/// Ticks made up for in one round, for `RunAll`; the next round goes on where it stopped.
const CATCH_UP: usize = 1000;
const FIRE_BATCH: i64 = 200;

#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Invalid(#[from] InvalidSchedule),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// Five fields with their Unix meaning, or `@daily` and its like, in the schedule's time zone.
    Cron(String),
    /// From one tick to the next; at least a second.
    Every(Duration),
}

/// What happens with ticks for which nobody was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// However many they are, one job runs.
    RunOnce,
    /// Each gets its job.
    RunAll,
}

impl Missed {
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::RunOnce => "run_once",
            Missed::RunAll => "run_all",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "skip" => Missed::Skip,
            "run_all" => Missed::RunAll,
            _ => Missed::RunOnce,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Schedule {
    /// Names it within its organization.
    pub key: String,
    pub rhythm: Rhythm,
    pub time_zone: String,
    pub missed: Missed,
    /// Enqueued at each tick; its own times and unique key are not used. The handler finds the tick in `Running::due_at`.
    pub job: NewJob,
    pub organization: Option<Uuid>,
}

impl Schedule {
    pub fn cron<J: Job>(
        key: impl Into<String>,
        expression: impl Into<String>,
        time_zone: impl Into<String>,
        args: &J,
    ) -> Self {
        Schedule::new(key, Rhythm::Cron(expression.into()), time_zone, NewJob::of(args))
    }

    pub fn every<J: Job>(key: impl Into<String>, interval: Duration, args: &J) -> Self {
        Schedule::new(key, Rhythm::Every(interval), "UTC", NewJob::of(args))
    }

    pub fn new(key: impl Into<String>, rhythm: Rhythm, time_zone: impl Into<String>, job: NewJob) -> Self {
        let organization = job.organization;
        Schedule {
            key: key.into(),
            rhythm,
            time_zone: time_zone.into(),
            missed: Missed::RunOnce,
            job,
            organization,
        }
    }

    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Whether the rhythm and its zone can be understood; the error says what to change.
    pub fn validate(&self) -> Result<(), InvalidSchedule> {
        self.clockwork().map(drop)
    }

    fn clockwork(&self) -> Result<Clockwork, InvalidSchedule> {
        if self.job.encrypted {
            return Err(InvalidSchedule::Encrypted);
        }
        Clockwork::new(&self.rhythm, &self.time_zone)
    }
}

/// A rhythm that was understood.
enum Clockwork {
    Cron(Box<Cron>),
    Every(TimeDelta),
}

impl Clockwork {
    fn new(rhythm: &Rhythm, time_zone: &str) -> Result<Self, InvalidSchedule> {
        match rhythm {
            Rhythm::Cron(expression) => Ok(Clockwork::Cron(Box::new(Cron::new(expression, time_zone)?))),
            Rhythm::Every(interval) => {
                let interval = TimeDelta::from_std(*interval).map_err(|_| InvalidSchedule::Interval)?;
                if interval < TimeDelta::seconds(1) {
                    Err(InvalidSchedule::Interval)
                } else {
                    Ok(Clockwork::Every(interval))
                }
            }
        }
    }

    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Clockwork::Cron(cron) => cron.next(after),
            Clockwork::Every(interval) => after.checked_add_signed(*interval),
        }
    }

    /// The first tick after `now`; an interval keeps its phase.
    fn resume(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Clockwork::Cron(cron) => cron.next(now.max(from)),
            Clockwork::Every(interval) => {
                let elapsed = (now - from).num_milliseconds().max(0);
                let steps = elapsed / interval.num_milliseconds() + 1;
                from.checked_add_signed(TimeDelta::milliseconds(
                    interval.num_milliseconds().saturating_mul(steps),
                ))
            }
        }
    }
}

/// Adds a schedule or changes it. The next run is kept as long as rhythm and zone stay the same.
pub async fn upsert(connection: &mut PgConnection, schedule: &Schedule) -> Result<(), ScheduleError> {
    put(connection, schedule, false).await
}

async fn put(
    connection: &mut PgConnection,
    schedule: &Schedule,
    built_in: bool,
) -> Result<(), ScheduleError> {
    let clockwork = schedule.clockwork()?;
    let now: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *connection).await?;
    let next = clockwork.next(now).ok_or(InvalidSchedule::Never)?;
    let (cron, every_ms) = match &schedule.rhythm {
        Rhythm::Cron(expression) => (Some(expression.trim()), None),
        Rhythm::Every(interval) => (None, Some(interval.as_millis() as i64)),
    };
    sqlx::query(
        "insert into queue.schedules as s (key, organization_id, built_in, cron, every_ms, time_zone, missed, next_at, \
                                           lane, kind, priority, max_attempts, args, limit_key, \
                                           args_version) \
         values ($1, coalesce($2, current_organization()), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::json, $14, nullif($15, 1)) \
         on conflict on constraint schedules_key do update \
         set built_in = $3, cron = $4, every_ms = $5, time_zone = $6, missed = $7, lane = $9, kind = $10, priority = $11, \
             max_attempts = $12, args = $13::json, limit_key = $14, args_version = nullif($15, 1), \
             next_at = case when s.cron is not distinct from $4 and s.every_ms is not distinct from $5 \
                             and s.time_zone = $6 then s.next_at else $8 end",
    )
    .bind(&schedule.key)
    .bind(schedule.organization)
    .bind(built_in)
    .bind(cron)
    .bind(every_ms)
    .bind(&schedule.time_zone)
    .bind(schedule.missed.as_str())
    .bind(next)
    .bind(schedule.job.lane)
    .bind(schedule.job.kind)
    .bind(schedule.job.priority)
    .bind(schedule.job.max_attempts.max(1))
    .bind(schedule.job.args.to_string())
    .bind(schedule.job.limit_key.as_ref().map(|key| key.chars().take(200).collect::<String>()))
    .bind(schedule.job.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a schedule; jobs that it has enqueued already stay. Answers whether it was there.
pub async fn remove(
    connection: &mut PgConnection,
    key: &str,
    organization: Option<Uuid>,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "delete from queue.schedules where key = $1 and organization_id is not distinct from coalesce($2, current_organization())",
    )
    .bind(key)
    .bind(organization)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected() > 0)
}

/// A schedule as people see it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ScheduleView {
    pub key: String,
    pub organization: Option<Uuid>,
    pub built_in: bool,
    pub cron: Option<String>,
    pub every_seconds: Option<f64>,
    pub time_zone: String,
    pub missed: String,
    pub lane: String,
    pub kind: String,
    pub next_at: DateTime<Utc>,
    pub last_at: Option<DateTime<Utc>>,
}

/// All schedules, soonest first; with an organization only its own.
pub async fn list(
    connection: &mut PgConnection,
    organization: Option<Uuid>,
) -> Result<Vec<ScheduleView>, sqlx::Error> {
    let rows = sqlx::query(
        "select key, organization_id, built_in, cron, every_ms, time_zone, missed, lane, kind, next_at, last_at \
         from queue.schedules where $1::uuid is null or organization_id = $1 order by next_at, key",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ScheduleView {
                key: row.try_get(0)?,
                organization: row.try_get(1)?,
                built_in: row.try_get(2)?,
                cron: row.try_get(3)?,
                every_seconds: row.try_get::<Option<i64>, _>(4)?.map(|ms| ms as f64 / 1000.0),
                time_zone: row.try_get(5)?,
                missed: row.try_get(6)?,
                lane: row.try_get(7)?,
                kind: row.try_get(8)?,
                next_at: row.try_get(9)?,
                last_at: row.try_get(10)?,
            })
        })
        .collect()
}

/// Makes the built-in schedules those of the program.
pub(crate) async fn keep_built_in(
    connection: &mut PgConnection,
    schedules: &[Schedule],
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    for schedule in schedules {
        match put(&mut tx, schedule, true).await {
            Ok(()) => {}
            Err(ScheduleError::Database(error)) => return Err(error),
            Err(ScheduleError::Invalid(error)) => {
                error!(schedule = schedule.key, %error, "built-in schedule is not valid")
            }
        }
    }
    let keys: Vec<&str> = schedules.iter().map(|schedule| schedule.key.as_str()).collect();
    sqlx::query("delete from queue.schedules where built_in and key <> all($1)")
        .bind(keys)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Enqueues the jobs of all ticks up to now (plus `shift_ms`); answers that time.
pub(crate) async fn fire_due(
    connection: &mut PgConnection,
    shift_ms: i64,
) -> Result<DateTime<Utc>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let rows = sqlx::query(
        "select key, organization_id, cron, every_ms, time_zone, missed, next_at, clock_timestamp() \
         from queue.schedules where next_at <= (select clock_timestamp() + make_interval(secs => $1)) \
         order by next_at limit $2 for update skip locked",
    )
    .bind(shift_ms as f64 / 1000.0)
    .bind(FIRE_BATCH)
    .fetch_all(&mut *tx)
    .await?;
    if rows.is_empty() {
        tx.rollback().await?;
        let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await?;
        return Ok(now + TimeDelta::milliseconds(shift_ms));
    }
    let mut now = DateTime::<Utc>::MIN_UTC;
    for row in rows {
        let (key, organization): (String, Option<Uuid>) = (row.try_get(0)?, row.try_get(1)?);
        let (cron, every_ms): (Option<String>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let (zone, missed): (String, String) = (row.try_get(4)?, row.try_get(5)?);
        let due: DateTime<Utc> = row.try_get(6)?;
        now = row.try_get::<DateTime<Utc>, _>(7)? + TimeDelta::milliseconds(shift_ms);
        let rhythm = match cron {
            Some(expression) => Rhythm::Cron(expression),
            None => Rhythm::Every(Duration::from_millis(every_ms.unwrap_or(60_000).max(1000) as u64)),
        };
        let (ticks, next) = match Clockwork::new(&rhythm, &zone) {
            Ok(clockwork) => ticks(&clockwork, Missed::read(&missed), due, now),
            Err(error) => {
                error!(schedule = key, %error, "schedule cannot be understood; looked at again in an hour");
                (Vec::new(), now + TimeDelta::hours(1))
            }
        };
        if ticks.is_empty() {
            warn!(schedule = key, %due, "missed runs are left out");
        }
        let mut point = tx.begin().await?;
        match enqueue_ticks(&mut point, &key, organization, &ticks, next).await {
            Ok(()) => point.commit().await?,
            // One schedule must not keep those of all others from being fired.
            Err(error) if is_about_the_data(&error) => {
                point.rollback().await?;
                error!(schedule = key, %error, "schedule cannot be fired; tried again in an hour");
                enqueue_ticks(&mut tx, &key, organization, &[], now + TimeDelta::hours(1)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    tx.commit().await?;
    Ok(now)
}

/// Which of the ticks from `due` to `now` get a job, and the next tick after `now`.
fn ticks(
    clockwork: &Clockwork,
    missed: Missed,
    due: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Vec<DateTime<Utc>>, DateTime<Utc>) {
    let next = clockwork.resume(due, now).unwrap_or(now + TimeDelta::days(1));
    let ticks = match missed {
        Missed::RunAll => {
            let mut coming =
                std::iter::successors(Some(due), |at| clockwork.next(*at)).take_while(|at| *at <= now);
            let ticks = coming.by_ref().take(CATCH_UP).collect();
            if let Some(rest) = coming.next() {
                return (ticks, rest);
            }
            ticks
        }
        Missed::RunOnce | Missed::Skip => {
            // The last one that is due, without walking through a year of minutes.
            let from = due.max(now - LATE);
            let near = if from == due { Some(due) } else { clockwork.resume(due, from) };
            let last =
                std::iter::successors(near, |at| clockwork.next(*at)).take_while(|at| *at <= now).last();
            match (missed, last) {
                (_, Some(last)) => vec![last],
                (Missed::Skip, None) => Vec::new(),
                (_, None) => vec![due],
            }
        }
    };
    (ticks, next)
}

async fn enqueue_ticks(
    connection: &mut PgConnection,
    key: &str,
    organization: Option<Uuid>,
    ticks: &[DateTime<Utc>],
    next: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        concat!("with moved as ( \
           update queue.schedules set next_at = $3, last_at = coalesce($5[cardinality($5)], last_at) \
           where key = $1 and organization_id is not distinct from $2 returning *), \
         added as ( \
           insert into queue.jobs (id, organization_id, due_at, rank, state, priority, max_attempts, unique_key, unique_while, unique_held, \
                                   lane, kind, args, limit_key, args_version) \
           select u.id, m.organization_id, u.tick, ", rank!("u.tick", "m"), ", 'ready', m.priority, m.max_attempts, \
                  'schedule:' || m.key || '@' || extract(epoch from u.tick), 3, true, m.lane, m.kind, m.args, m.limit_key, m.args_version \
           from moved m, unnest($4::uuid[], $5::timestamptz[]) as u(id, tick) \
           on conflict do nothing returning lane) \
         select pg_notify($6, '~' || lane) from (select distinct lane from added) lanes"),
    )
    .bind(key)
    .bind(organization)
    .bind(next)
    .bind(ticks.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(ticks)
    .bind(CHANNEL)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn whatever_was_missed_is_made_up_for_in_pieces() {
        let minutely = Clockwork::new(&Rhythm::Cron("* * * * *".into()), "UTC").unwrap();
        let (mut due, now) = (at("2026-11-20T00:00:00Z"), at("2026-11-21T10:30:30Z"));
        let mut all = Vec::new();
        while due <= now {
            let (some, next) = ticks(&minutely, Missed::RunAll, due, now);
            assert!(some.len() <= CATCH_UP);
            all.extend(some);
            due = next;
        }
        assert_eq!((all.len(), due), (34 * 60 + 31, at("2026-11-21T10:31:00Z")));
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(1)));
    }

    #[test]
    fn missed_ticks() {
        let hourly = Clockwork::new(&Rhythm::Cron("0 * * * *".into()), "UTC").unwrap();
        let (due, now) = (at("2026-11-21T08:00:00Z"), at("2026-11-21T10:30:00Z"));
        assert_eq!(ticks(&hourly, Missed::Skip, due, now), (vec![], at("2026-11-21T11:00:00Z")));
        assert_eq!(ticks(&hourly, Missed::RunOnce, due, now), (vec![due], at("2026-11-21T11:00:00Z")));
        let all = vec![due, at("2026-11-21T09:00:00Z"), at("2026-11-21T10:00:00Z")];
        assert_eq!(ticks(&hourly, Missed::RunAll, due, now), (all, at("2026-11-21T11:00:00Z")));
        for missed in [Missed::Skip, Missed::RunOnce, Missed::RunAll] {
            assert_eq!(
                ticks(&hourly, missed, due, at("2026-11-21T08:00:01Z")),
                (vec![due], at("2026-11-21T09:00:00Z"))
            );
        }
    }

    #[test]
    fn an_interval_keeps_its_phase() {
        let clockwork = Clockwork::new(&Rhythm::Every(Duration::from_secs(10)), "UTC").unwrap();
        let due = at("2026-11-21T08:00:03Z");
        let (ran, next) = ticks(&clockwork, Missed::Skip, due, at("2026-11-21T09:00:05Z"));
        assert_eq!((ran, next), (vec![at("2026-11-21T09:00:03Z")], at("2026-11-21T09:00:13Z")));
        assert!(Clockwork::new(&Rhythm::Every(Duration::from_millis(10)), "UTC").is_err());
    }
}
