//! Many jobs at once: again, cancelled, put away. A piece at a time, each a short transaction that steps over what others have locked,
//! so that nobody waits for it and it can go on after an interruption; what is enqueued or dies after it began is left alone.

use super::filter::{Filter, Table, first_id};
use super::lines::{self, Line, Shelf, tenant};
use super::{AdminError, JobState, Note, hold_again, key_holder, now};
use crate::enqueue::{CHANNEL, rank};
use crate::listener::CANCELLATIONS;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

/// Rows that one piece looks at.
const PIECE: i64 = 1000;
/// Rows that a count looks at.
const COUNTED: i64 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Dead letters run again, except those whose unique key another job has by now, or is about to take; or scheduled jobs now.
    Retry,
    /// Jobs that wait are over, those that run are told to stop.
    Cancel,
    /// Dead letters are put away.
    Discard,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Retry => "retry",
            Verb::Cancel => "cancel",
            Verb::Discard => "discard",
        }
    }

    /// What has been done to a job afterwards.
    pub fn done(self) -> &'static str {
        match self {
            Verb::Retry => "retried",
            Verb::Cancel => "cancelled",
            Verb::Discard => "discarded",
        }
    }
}

/// What is to be done to which jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bulk {
    pub verb: Verb,
    pub filter: Filter,
    pub note: Note,
    /// Jobs that were enqueued, or died, later than this are left alone.
    pub until: DateTime<Utc>,
    /// And this one: the job that does it.
    pub except: Option<Uuid>,
}

#[derive(Debug, thiserror::Error)]
#[error("{verb} is for jobs that are {allowed}, not for those that are {state}", verb = .verb.as_str())]
pub struct WrongFilter {
    verb: Verb,
    state: JobState,
    allowed: &'static str,
}

/// How far a bulk has come: where to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    shelf: usize,
    line: Option<Line>,
    /// The last row that was looked at in the line.
    after: Option<(Option<DateTime<Utc>>, Uuid)>,
    pub is_over: bool,
}

/// One piece of a bulk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Whose jobs these are: a piece is of one tenant.
    pub organization: Option<Uuid>,
    pub seen: i64,
    /// Jobs that match, or, when it is done, have been changed.
    pub jobs: i64,
}

/// What a bulk would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matches {
    pub jobs: i64,
    /// There may be more: only so many rows were looked at.
    pub more: bool,
}

impl Bulk {
    /// For the jobs that there are now. Refuses a filter for states that the verb is not for.
    pub async fn new(
        connection: &mut PgConnection,
        verb: Verb,
        filter: Filter,
        note: Note,
    ) -> Result<Bulk, AdminError> {
        let until = now(connection).await?;
        let bulk = Bulk { verb, filter, note, until, except: None };
        bulk.check()?;
        Ok(bulk)
    }

    fn check(&self) -> Result<(), WrongFilter> {
        let (allowed, names): (&[JobState], _) = match self.verb {
            Verb::Retry => (&[JobState::Dead, JobState::Scheduled], "dead or scheduled"),
            Verb::Discard => (&[JobState::Dead], "dead"),
            Verb::Cancel => (
                &[
                    JobState::Scheduled,
                    JobState::Limited,
                    JobState::Suspended,
                    JobState::Ready,
                    JobState::Running,
                ],
                "scheduled, limited, suspended, ready or running",
            ),
        };
        match self.filter.state {
            Some(state) if !allowed.contains(&state) => {
                Err(WrongFilter { verb: self.verb, state, allowed: names })
            }
            _ => Ok(()),
        }
    }

    fn shelves(&self) -> Vec<Shelf> {
        match (self.filter.state.and_then(Shelf::of), self.verb) {
            (Some(shelf), _) => vec![shelf],
            (None, Verb::Retry | Verb::Discard) => vec![Shelf::Aside("d")],
            (None, Verb::Cancel) => {
                ["s", "l", "u"].map(Shelf::Aside).into_iter().chain([Shelf::Ready]).collect()
            }
        }
    }

    /// Does the next piece. Call it until `cursor.is_over`, each time in a transaction of its own (or outside of one).
    pub async fn step(
        &self,
        connection: &mut PgConnection,
        organization: Option<Uuid>,
        cursor: &mut Cursor,
    ) -> Result<Step, sqlx::Error> {
        self.piece(connection, organization, cursor, true).await
    }

    /// How many jobs there are for it, without doing anything. Looks at 200,000 rows at most.
    pub async fn count(
        &self,
        connection: &mut PgConnection,
        organization: Option<Uuid>,
    ) -> Result<Matches, sqlx::Error> {
        let (mut cursor, mut seen, mut jobs) = (Cursor::default(), 0, 0);
        while !cursor.is_over && seen < COUNTED {
            let step = self.piece(connection, organization, &mut cursor, false).await?;
            seen += step.seen;
            jobs += step.jobs;
        }
        Ok(Matches { jobs, more: !cursor.is_over })
    }

    async fn piece(
        &self,
        connection: &mut PgConnection,
        organization: Option<Uuid>,
        cursor: &mut Cursor,
        change: bool,
    ) -> Result<Step, sqlx::Error> {
        let shelves = self.shelves();
        let Some(shelf) = shelves.get(cursor.shelf).copied() else {
            cursor.is_over = true;
            return Ok(Step::default());
        };
        if cursor.after.is_none() {
            // The line was worked off, or none was begun.
            let next = lines::after(connection, shelf, organization, cursor.line.as_ref(), 1).await?.pop();
            let Some(next) = next else {
                *cursor = Cursor { shelf: cursor.shelf + 1, ..Cursor::default() };
                cursor.is_over = cursor.shelf >= shelves.len();
                return Ok(Step::default());
            };
            let wanted = self.filter.lane.as_ref().is_none_or(|lane| *lane == next.0);
            cursor.line = Some(next);
            if !wanted {
                return Ok(Step::default());
            }
        }
        let Some(line) = cursor.line.clone() else { return Ok(Step::default()) };
        let mut query = self.statement(shelf, &line, cursor.after, change);
        let row = query.build().fetch_one(&mut *connection).await?;
        if change && self.verb == Verb::Retry {
            hold_again(connection, &row.try_get::<Vec<Uuid>, _>(4)?).await?;
        }
        let (seen, jobs): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let last: Option<Uuid> = row.try_get(3)?;
        cursor.after = match last {
            Some(id) if seen == PIECE => Some((row.try_get(2)?, id)),
            _ => None,
        };
        Ok(Step { organization: Some(line.1).filter(|tenant| !tenant.is_nil()), seen, jobs })
    }

    fn statement(
        &self,
        shelf: Shelf,
        line: &Line,
        after: Option<(Option<DateTime<Utc>>, Uuid)>,
        change: bool,
    ) -> QueryBuilder<Postgres> {
        let mut query =
            QueryBuilder::<Postgres>::new("with seen as materialized (select j.id, j.rank, (true");
        // What is put aside by whom is decided again below, on the row as it is then.
        match (shelf, self.filter.state) {
            (Shelf::Aside("d"), _) => query.push(" and j.due_at <= ").push_bind(self.until),
            (_, state) => {
                query.push(" and j.id < ").push_bind(first_id(self.until));
                match state {
                    Some(JobState::Running) => query.push(" and j.worker is not null"),
                    Some(JobState::Ready) => query.push(" and j.worker is null"),
                    _ => &mut query,
                }
            }
        };
        query.push(" and not j.cancel_requested and j.id is distinct from ").push_bind(self.except);
        self.filter.push(&mut query, Table::Jobs);
        query.push(") as hit from queue.jobs j where j.").push(shelf.condition());
        query.push(" and j.lane = ").push_bind(line.0.clone());
        query.push(concat!(" and ", tenant!("j"), " = ")).push_bind(line.1);
        match (shelf, after) {
            (Shelf::Ready, Some((Some(rank), id))) => {
                query.push(" and j.rank >= ").push_bind(rank);
                query.push(" and (j.rank, j.id) > (").push_bind(rank).push(", ").push_bind(id).push(")");
            }
            (_, Some((_, id))) => {
                query.push(" and j.id > ").push_bind(id);
            }
            (_, None) => {}
        }
        let order = if shelf == Shelf::Ready { "j.rank, j.id" } else { "j.id" };
        query.push(" order by ").push(order).push(" limit ").push_bind(PIECE);
        query.push("), last as (select rank, id from seen j order by ").push(order.replace(", ", " desc, "));
        query.push(" desc limit 1)");
        if change {
            query.push(
                ", picked as materialized (select j.id, j.organization_id, j.kind, j.attempt, j.run, \
                   j.state = 'dead' and j.unique_key is not null and j.unique_while & 1 <> 0 and not coalesce(j.unique_held, false) as keyed \
                 from queue.jobs j \
                 where j.id = any(array(select id from seen where hit)) and j.",
            );
            query.push(shelf.condition());
            if self.verb == Verb::Retry {
                query.push(concat!(" and (j.state <> 'dead' or ", key_holder!(), " is null)"));
            }
            query.push(" for update of j skip locked), ");
            match self.verb {
                Verb::Retry => self.push_retry(&mut query),
                Verb::Discard | Verb::Cancel => self.push_end(&mut query),
            };
        }
        query.push(" select (select count(*) from seen), ");
        query.push(match (change, self.verb) {
            (false, _) => "(select count(*) from seen where hit)",
            (true, Verb::Retry) => {
                "(select count(*) from up) + (select count(*) from keyed) + 0 * (select count(*) from told)"
            }
            (true, _) => {
                "(select count(*) from away) + (select count(*) from asked) + 0 * (select count(*) from told)"
            }
        });
        query.push(", (select rank from last), (select id from last)");
        if change && self.verb == Verb::Retry {
            query.push(", array(select id from up where let_go)");
        }
        query
    }

    fn push_retry(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(concat!(
            "keyed as materialized (select * from queue.retry_with_keys(array(select id from picked where keyed))), \
             up as (update queue.jobs j set state = 'ready', due_at = clock_timestamp(), rank = ",
            rank!("clock_timestamp()", "j"),
            ", run = j.run + 1, attempt = case when j.state = 'dead' then 0 else j.attempt end, \
               crashes = case when j.state = 'dead' then 0 else j.crashes end, cancel_requested = false, died_of = null \
               from picked p where j.id = p.id and not p.keyed returning j.id, j.lane, j.unique_key is not null and not j.unique_held as let_go), \
             noted as (insert into queue.attempts (job_id, organization_id, attempt, retention, run, finished_at, outcome, error, actor) \
                       select id, organization_id, attempt, greatest(queue.retention_of(kind), 2), run, clock_timestamp(), 'retried', "
        ));
        query
            .push_bind(self.note.why.clone().unwrap_or_default())
            .push(", ")
            .push_bind(self.note.actor.clone());
        query.push(" from picked where id in (select id from up union all select id from keyed)), told as (select pg_notify(");
        query.push_bind(CHANNEL);
        query.push(", '~' || lane) from (select lane from up union select lane from keyed) lanes)");
    }

    fn push_end(&self, query: &mut QueryBuilder<Postgres>) {
        let why = match self.verb {
            Verb::Cancel => Some(self.note.why.clone().unwrap_or_else(|| "cancelled by request".to_owned())),
            _ => None,
        };
        let states: &[&str] = match self.verb {
            Verb::Discard => &["dead"],
            _ => &["scheduled", "ready", "limited", "suspended"],
        };
        query
            .push("away as materialized (select queue.put_away(array(select id from picked), ")
            .push_bind(states);
        query.push(", ").push_bind(self.verb.done()).push(", ").push_bind(why).push(") as id), ");
        query.push(
            "asked as (update queue.jobs j set cancel_requested = true from picked p \
                       where j.id = p.id and j.worker is not null returning j.id), \
             noted as (insert into queue.attempts (job_id, organization_id, attempt, retention, run, finished_at, outcome, error, actor) \
                       select p.id, p.organization_id, p.attempt, greatest(queue.retention_of(p.kind), 2), p.run, clock_timestamp(), ",
        );
        query.push_bind(self.verb.done()).push("::text, ");
        query
            .push_bind(self.note.why.clone().unwrap_or_default())
            .push(", ")
            .push_bind(self.note.actor.clone());
        query.push(
            " from picked p where p.id in (select id from away union all select id from asked)), told as (select pg_notify(",
        );
        query
            .push_bind(CHANNEL)
            .push(", ")
            .push_bind(CANCELLATIONS)
            .push(") where exists (select from asked))");
    }
}
