//! `relaydesk lanes …`, `limits …`, `kinds …`, `tenants …`

use super::Json;
use clap::{Args, Subcommand};
use queue::Retention;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum LanesCommand {
    /// Lanes with their counts
    #[command(after_help = "Example: relaydesk lanes list --json")]
    List(Json),
    /// One lane with its limit, its aging and its workers
    #[command(after_help = "Example: relaydesk lanes show outbound")]
    Show {
        lane: String,
        #[command(flatten)]
        output: Json,
    },
    /// Stop claiming jobs of a lane in all processes; running jobs end
    #[command(after_help = "Example: relaydesk lanes pause outbound")]
    Pause { lane: String },
    /// Work off what a lane has now, nothing newer, then pause it; waits for that
    #[command(after_help = "Example: relaydesk lanes drain outbound --within 5m")]
    Drain {
        lane: String,
        /// How long to wait; it goes on afterwards
        #[arg(long, value_name = "DURATION", default_value = "10m")]
        within: Span,
    },
    /// Go on with a paused lane
    #[command(after_help = "Example: relaydesk lanes resume outbound")]
    Resume { lane: String },
    /// Change how many of its jobs run at once in all processes, or what a point of priority is worth
    #[command(after_help = "Example: relaydesk lanes set reports --at-once 6 --aging 5m")]
    Set {
        lane: String,
        /// `default`: as the program says
        #[arg(long, value_name = "JOBS", required_unless_present = "aging")]
        at_once: Option<Setting<u32>>,
        /// A head start for each point of priority: up to 1d; 0s switches priorities off
        #[arg(long, value_name = "DURATION")]
        aging: Option<Span>,
    },
}

#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Limits of kinds, as declared and as in force, with the jobs that hold a place or wait for one
    #[command(after_help = "Example: relaydesk limits list --json")]
    List(Json),
    /// Put another number in force, at once and in all processes
    #[command(after_help = "Examples: relaydesk limits set notify_channel/key --at-once 2
          relaydesk limits set send_mail/rate --rate 120/m --burst 10")]
    Set {
        name: String,
        #[command(flatten)]
        bound: Bound,
    },
    /// Go back to what the program declares
    #[command(after_help = "Example: relaydesk limits clear notify_channel/key")]
    Clear { name: String },
}

#[derive(Debug, Args)]
pub struct Bound {
    /// Of a limit of so many at once
    #[arg(long, value_name = "JOBS", required_unless_present = "rate")]
    pub at_once: Option<u32>,
    /// Of a rate: 5/s, 120/m, 1000/h
    #[arg(long, value_name = "JOBS/UNIT", conflicts_with = "at_once")]
    pub rate: Option<Per>,
    /// How many of a rate may start together after a rest
    #[arg(long, value_name = "JOBS", requires = "rate")]
    pub burst: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum KindsCommand {
    /// Kinds with how long their history is kept: as declared, as in force, and how many days that is by this configuration
    #[command(after_help = "Example: relaydesk kinds list --json")]
    List(Json),
    /// Keep the history of a kind for another time from now on
    #[command(after_help = "Examples: relaydesk kinds keep react long
          relaydesk kinds keep react default")]
    Keep {
        kind: String,
        /// none, short, normal or long; `default`: as the program says
        retention: Setting<Retention>,
    },
}

#[derive(Debug, Subcommand)]
pub enum TenantsCommand {
    /// Tenants whose share is not the usual one
    #[command(after_help = "Example: relaydesk tenants list --json")]
    List(Json),
    /// A tenant's share of a busy lane, as a multiple of the usual one: 0.01 to 1000
    #[command(after_help = "Example: relaydesk tenants weight acme 3")]
    Weight {
        /// The organization's slug
        organization: String,
        #[arg(value_parser = weight)]
        weight: f32,
    },
}

fn weight(text: &str) -> Result<f32, String> {
    let weight = text.parse().ok().filter(|weight: &f32| (0.01..=1000.0).contains(weight));
    weight.ok_or_else(|| format!("{text:?} is no weight: expected 0.01 to 1000"))
}

/// A value, or `default`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting<T>(pub Option<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for Setting<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Setting(None)),
            text => text.parse().map(|value| Setting(Some(value))).map_err(|error| {
                format!("{text:?} cannot be set ({error}); `default` is what the program says")
            }),
        }
    }
}

/// `90s`, `5m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration: expected 90s, 5m, 2h or 1d");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds = seconds_of(unit).ok_or_else(wrong)?;
        let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
        number.checked_mul(seconds).map(|seconds| Span(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

fn seconds_of(unit: char) -> Option<u64> {
    [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
        .into_iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, seconds)| seconds)
}

/// Jobs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Per(pub f64);

impl FromStr for Per {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate: expected 5/s, 120/m or 1000/h");
        let (jobs, unit) = text.split_once('/').ok_or_else(wrong)?;
        let mut unit = unit.chars();
        let seconds = unit.next().and_then(seconds_of).filter(|_| unit.next().is_none()).ok_or_else(wrong)?;
        let jobs =
            jobs.parse().ok().filter(|jobs: &f64| jobs.is_finite() && *jobs > 0.0).ok_or_else(wrong)?;
        Ok(Per(jobs / seconds as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_durations_and_settings() {
        assert_eq!("120/m".parse(), Ok(Per(2.0)));
        assert_eq!("0.5/s".parse(), Ok(Per(0.5)));
        assert_eq!("5m".parse(), Ok(Span(Duration::from_secs(300))));
        assert_eq!("default".parse(), Ok(Setting::<u32>(None)));
        assert_eq!("6".parse(), Ok(Setting(Some(6u32))));
        for wrong in ["", "5", "5/", "5/y", "/s", "-1/s", "0/s", "inf/s", "5/ss"] {
            assert!(wrong.parse::<Per>().is_err(), "{wrong}");
        }
        for wrong in ["", "5", "m", "-5m", "5 m", "99999999999999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
