//! `relaydesk jobs …`

use super::Json;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use queue::admin::{Death, JobState};
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, newest first
    #[command(
        after_help = "Example: relaydesk jobs list --state dead --kind send_mail --error timeout --since 2h --json"
    )]
    List {
        #[command(flatten)]
        filter: JobFilter,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        output: Json,
    },
    /// One job with its arguments, result, progress, and the trail of its attempts
    #[command(after_help = "Example: relaydesk jobs show 0199d3c0-…")]
    Show {
        id: Uuid,
        #[command(flatten)]
        output: Json,
    },
    /// Run dead jobs (or scheduled ones) now
    #[command(
        after_help = "Examples: relaydesk jobs retry 0199d3c0-… --args '{\"delivery\":\"0199…\"}' --reason 'wrong address'
          relaydesk jobs retry --all --kind send_mail --error 'relay' --dry-run"
    )]
    Retry {
        #[command(flatten)]
        which: Which,
        /// Other arguments, as JSON. Its kind must be able to read them; the old ones stay in the job's trail
        #[arg(long, value_name = "JSON", conflicts_with = "all", value_parser = json)]
        args: Option<serde_json::Value>,
    },
    /// Cancel jobs that wait or run
    #[command(after_help = "Examples: relaydesk jobs cancel 0199d3c0-…
          relaydesk jobs cancel --all --lane reports --state scheduled")]
    Cancel {
        #[command(flatten)]
        which: Which,
    },
    /// Put dead jobs away
    #[command(after_help = "Examples: relaydesk jobs discard 0199d3c0-…
          relaydesk jobs discard --all --reason undecodable")]
    Discard {
        #[command(flatten)]
        which: Which,
    },
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))
}

/// One job, or all that a filter finds.
#[derive(Debug, Args)]
pub struct Which {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<Uuid>,
    /// All jobs that the filter finds, a piece at a time; what is enqueued or dies meanwhile is left alone
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: JobFilter,
    /// Only say how many it would be (of 200,000 at most)
    #[arg(long, requires = "all")]
    pub dry_run: bool,
    /// Why; kept in the job's trail and in the organization's log
    #[arg(long, value_name = "TEXT")]
    pub because: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = true)]
pub struct JobFilter {
    #[arg(long)]
    pub lane: Option<String>,
    #[arg(long)]
    pub kind: Option<String>,
    /// ready, scheduled, running, limited, suspended, done, dead, cancelled or discarded
    #[arg(long)]
    pub state: Option<JobState>,
    /// What dead jobs died of: gave_up, exhausted, timeout, panicked, undecodable, lost or rolled_back
    #[arg(long)]
    pub reason: Option<Death>,
    /// A part of the last error, in either case
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Only jobs of the organization with this slug
    #[arg(long, value_name = "SLUG")]
    pub organization: Option<String>,
    /// Over (dead: died) since: a time, or so long ago, as 90s, 30m, 2h or 7d
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Over (dead: died) before
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    #[arg(long, value_name = "WHEN")]
    pub enqueued_since: Option<When>,
    #[arg(long, value_name = "WHEN")]
    pub enqueued_until: Option<When>,
}

/// A time, or so long before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(DateTime<Utc>),
    Ago(TimeDelta),
}

impl When {
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            When::At(at) => at,
            When::Ago(ago) => now.checked_sub_signed(ago).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: expected 90s, 30m, 2h, 7d or 2026-11-21T08:00:00Z");
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(When::At(at.to_utc()));
        }
        let unit = text.chars().last().ok_or_else(wrong)?;
        let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let ago = number.checked_mul(seconds).and_then(TimeDelta::try_seconds).filter(|_| number >= 0);
        ago.map(When::Ago).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!("2h".parse(), Ok(When::Ago(TimeDelta::hours(2))));
        assert_eq!("90s".parse(), Ok(When::Ago(TimeDelta::seconds(90))));
        let at: When = "2026-11-21T08:00:00+01:00".parse().unwrap();
        assert_eq!(at.before(DateTime::UNIX_EPOCH).to_rfc3339(), "2026-11-21T07:00:00+00:00");
        for wrong in ["", "h", "2", "-2h", "2w", "2 h", "9223372036854775807d", "zwei h"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
