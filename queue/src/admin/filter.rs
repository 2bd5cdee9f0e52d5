//! Which jobs are meant.

use super::{Death, JobState};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    pub lane: Option<String>,
    pub kind: Option<String>,
    pub state: Option<JobState>,
    /// Of dead letters: what they died of.
    pub reason: Option<Death>,
    /// A part of the last error, in either case.
    pub error: Option<String>,
    pub enqueued_since: Option<DateTime<Utc>>,
    /// Exclusive, as the other one.
    pub enqueued_until: Option<DateTime<Utc>>,
    /// When it was over; a dead letter: when it died.
    pub finished_since: Option<DateTime<Utc>>,
    pub finished_until: Option<DateTime<Utc>>,
}

/// The tables that jobs are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Jobs,
    History,
}

/// The lowest id that can be made at that time: ids of version 7 begin with their milliseconds.
pub(super) fn first_id(at: DateTime<Utc>) -> Uuid {
    let milliseconds = at.timestamp_millis().clamp(0, (1 << 48) - 1) as u128;
    Uuid::from_u128(milliseconds << 80)
}

impl Filter {
    /// Adds ` and …` for all but lane, state and organization, to a statement about rows `j`.
    pub(super) fn push(&self, query: &mut QueryBuilder<Postgres>, table: Table) {
        if let Some(kind) = &self.kind {
            query.push(" and j.kind = ").push_bind(kind.clone());
        }
        if let Some(since) = self.enqueued_since {
            query.push(" and j.id >= ").push_bind(first_id(since));
        }
        if let Some(until) = self.enqueued_until {
            query.push(" and j.id < ").push_bind(first_id(until));
        }
        if let Some(reason) = self.reason {
            match table {
                Table::Jobs => {
                    query.push(" and j.state = 'dead' and j.died_of = ").push_bind(reason.as_str());
                }
                Table::History => {
                    query.push(" and false");
                }
            }
        }
        if let Some(error) = &self.error {
            let column = if table == Table::Jobs { "j.last_error" } else { "j.error" };
            query
                .push(" and position(lower(")
                .push_bind(error.clone())
                .push(") in lower(")
                .push(column)
                .push(")) > 0");
        }
        let over = if table == Table::Jobs { "j.due_at" } else { "j.finished_at" };
        if table == Table::Jobs && (self.finished_since.is_some() || self.finished_until.is_some()) {
            query.push(" and j.state = 'dead'");
        }
        if let Some(since) = self.finished_since {
            query.push(" and ").push(over).push(" >= ").push_bind(since);
        }
        if let Some(until) = self.finished_until {
            query.push(" and ").push(over).push(" < ").push_bind(until);
        }
    }
}
