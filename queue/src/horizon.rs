//! Who holds back the horizon of vacuum. While a transaction is open somewhere, the rows and index entries of all jobs that end
//! meanwhile stay, claims step over them, and tables grow. Nothing in the engine can end it, so it says who it is.

use crate::metrics;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// An alarm that goes on is told again this often.
const AGAIN: Duration = Duration::from_secs(300);

/// A session, a prepared transaction or a replication slot with its horizon.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Holder {
    /// session, prepared transaction, replication slot
    pub what: String,
    /// The pid, the name of the prepared transaction or of the slot.
    pub name: String,
    /// The oldest transaction that it can still see.
    pub xmin: String,
    /// How many transactions have begun since.
    pub transactions: i32,
    pub role: Option<String>,
    pub application: Option<String>,
    /// Of a session, if our role may see it: `active`, `idle in transaction` …
    pub state: Option<String>,
    /// The first word of its statement, if our role may see it: `select`, `copy` …
    pub statement: Option<String>,
    /// Since when, if our role may see it.
    pub since: Option<DateTime<Utc>>,
    /// The same in seconds.
    pub seconds: Option<f64>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.name)?;
        for (name, value) in [
            ("role", &self.role),
            ("application", &self.application),
            ("state", &self.state),
            ("statement", &self.statement),
        ] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(since) = self.since {
            write!(f, ", since {}", since.format("%Y-%m-%d %H:%M:%S UTC"))?;
        }
        write!(f, ", {} transactions ago", self.transactions)
    }
}

/// The oldest holders, the oldest first: what matters for this database. What vacuum itself holds does not count.
pub async fn holders(connection: &mut PgConnection) -> Result<Vec<Holder>, sqlx::Error> {
    sqlx::query_as(
        "select what, name, xmin::text, age(xmin) as transactions, role, application, state, statement, since, \
                extract(epoch from clock_timestamp() - since)::float8 as seconds from ( \
           select 'session' as what, a.pid::text as name, \
                  case when a.backend_xid is null or age(a.backend_xmin) > age(a.backend_xid) then a.backend_xmin \
                       else a.backend_xid end as xmin, \
                  a.usename::text as role, a.application_name as application, a.state, \
                  lower(substring(a.query from '^\\s*(\\w+)')) as statement, a.xact_start as since \
           from pg_stat_activity a \
           where a.pid <> pg_backend_pid() and (a.datid is null or a.datid = (select oid from pg_database where datname = current_database())) \
             and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid) \
           union all \
           select 'prepared transaction', p.gid, p.transaction, p.owner::text, null, null, null, p.prepared \
           from pg_prepared_xacts p where p.database = current_database() \
           union all \
           select 'replication slot', s.slot_name::text, coalesce(s.xmin, s.catalog_xmin), null, s.plugin::text, \
                  case when s.active then 'active' else 'inactive' end, null, null \
           from pg_replication_slots s) held \
         where xmin is not null order by age(xmin) desc, since limit 5",
    )
    .fetch_all(connection)
    .await
}

/// What was seen before: a role without rights sees no times of others, but that a horizon stands still it sees.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    first_seen: HashMap<(String, String, String), Instant>,
    told: Option<Instant>,
}

impl Watch {
    /// The oldest holder, and for how long it has held.
    fn oldest<'a>(&mut self, holders: &'a [Holder], now: Instant) -> Option<(&'a Holder, Duration)> {
        let key = |holder: &Holder| (holder.what.clone(), holder.name.clone(), holder.xmin.clone());
        self.first_seen.retain(|known, _| holders.iter().any(|holder| key(holder) == *known));
        let held = holders.iter().rev().map(|holder| {
            let seen = now - *self.first_seen.entry(key(holder)).or_insert(now);
            let says = holder.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            (holder, seen.max(says.unwrap_or_default()))
        });
        // Two may have the same horizon; who has it for longer is the cause, of two as long the first.
        held.max_by_key(|(_, held)| *held)
    }

    /// Whether to say now that it is held, or (`false`) that it is no longer.
    fn judge(&mut self, held: Duration, alarm: Duration, now: Instant) -> Option<bool> {
        match self.told {
            _ if held < alarm => self.told.take().map(|_| false),
            Some(told) if now - told < AGAIN => None,
            _ => {
                self.told = Some(now);
                Some(true)
            }
        }
    }

    pub fn look(&mut self, holders: &[Holder], alarm: Duration) {
        let now = Instant::now();
        let oldest = self.oldest(holders, now);
        let held = oldest.map_or(Duration::ZERO, |(_, held)| held);
        metrics::OLDEST_XMIN.set(held.as_secs_f64());
        metrics::OLDEST_XMIN_TRANSACTIONS
            .set(holders.first().map_or(0, |holder| i64::from(holder.transactions)));
        let who = oldest.map(|(holder, _)| holder.to_string()).unwrap_or_default();
        match self.judge(held, alarm, now) {
            Some(true) => warn!(
                held_s = held.as_secs(),
                who,
                "vacuum is held back: dead rows of jobs pile up and claims become slower until this ends"
            ),
            Some(false) => info!("vacuum is no longer held back"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: &str, xmin: &str, seconds: Option<f64>) -> Holder {
        Holder {
            what: "session".into(),
            name: pid.into(),
            xmin: xmin.into(),
            transactions: 7,
            role: Some("report".into()),
            application: Some("psql".into()),
            state: None,
            statement: None,
            since: None,
            seconds,
        }
    }

    #[test]
    fn who_says_nothing_of_its_age_is_watched() {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (old, new) = (session("1", "100", None), session("2", "170", Some(3.0)));
        let seen = |watch: &mut Watch, holders: &[Holder], now| {
            watch.oldest(holders, now).map(|(holder, held)| (holder.name.clone(), held.as_secs()))
        };
        assert_eq!(seen(&mut watch, &[old.clone(), new.clone()], at(0)), Some(("2".into(), 3)));
        assert_eq!(seen(&mut watch, &[old.clone(), new], at(60)), Some(("1".into(), 60)));
        // Another transaction of the same session has another horizon.
        assert_eq!(seen(&mut watch, &[session("1", "300", None)], at(120)), Some(("1".into(), 0)));
        assert_eq!(seen(&mut watch, &[old], at(180)), Some(("1".into(), 0)), "it was away");
        assert_eq!(seen(&mut watch, &[], at(181)), None);
    }

    #[test]
    fn an_alarm_is_told_again_now_and_then_and_when_it_is_over() {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        let alarm = Duration::from_secs(240);
        let mut told = Vec::new();
        for minute in 0..=12u64 {
            let held = if minute < 12 { Duration::from_secs(60 * minute) } else { Duration::ZERO };
            if let Some(held) = watch.judge(held, alarm, begin + Duration::from_secs(60 * minute)) {
                told.push((minute, held));
            }
        }
        assert_eq!(told, [(4, true), (9, true), (12, false)]);
    }

    #[test]
    fn a_holder_is_named() {
        let text = session("4711", "9", None).to_string();
        assert_eq!(text, "session 4711, role report, application psql, 7 transactions ago");
    }
}
