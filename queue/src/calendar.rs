//! Cron expressions as people write them: five fields, Unix meaning (crontab(5), POSIX `crontab`), in an IANA time zone.
//!
//! The `cron` crate computes; this module mends what differs from Unix. It counts weekdays from 1 = Sunday (Unix: 0 or 7 =
//! Sunday, 1 = Monday), wants a field of seconds, joins day-of-month and day-of-week with *and* (Unix: *or*, when both
//! are restricted), skips times that spring forward leaves out and repeats those that autumn has twice. Here the
//! crate only sees local clock readings; which instants they are is decided below:
//!
//! * a fixed hour that does not exist that day runs once, as much later as the clock jumped;
//! * a fixed hour that exists twice runs once, the first time;
//! * with `*` for the hour, both hours run, and the missing one does not.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use std::collections::BTreeSet;
use std::str::FromStr;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSchedule {
    #[error(
        "a cron expression has five fields (minute hour day-of-month month day-of-week), this one has {0}"
    )]
    Fields(usize),
    #[error("{field} {text:?} is not valid: {why}")]
    Field { field: &'static str, text: String, why: String },
    #[error("{0:?} is no known shorthand; use @hourly, @daily, @weekly, @monthly or @yearly")]
    Shorthand(String),
    #[error("{0:?} is not an IANA time zone such as Europe/Berlin")]
    TimeZone(String),
    #[error("an interval is at least one second")]
    Interval,
    #[error(
        "the arguments of a schedule lie in clear text; let it enqueue a job that knows where the secret is"
    )]
    Encrypted,
    #[error("the expression never comes true (such as 30 February)")]
    Never,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Local clock readings are looked at this far around a change of the zone's offset.
const AROUND: Duration = Duration::hours(26);

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    zone: Tz,
    every_hour: bool,
    /// One, or two whose union counts: by day of month, and by day of week.
    schedules: Vec<cron::Schedule>,
}

impl Cron {
    pub fn new(expression: &str, time_zone: &str) -> Result<Self, InvalidSchedule> {
        let zone = Tz::from_str(time_zone).map_err(|_| InvalidSchedule::TimeZone(time_zone.to_owned()))?;
        let expression = expand_shorthand(expression.trim())?;
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(InvalidSchedule::Fields(fields.len()));
        };
        let minutes = field("minute", minute, 0, 59, &[])?;
        let hours = field("hour", hour, 0, 23, &[])?;
        let days = field("day-of-month", day, 1, 31, &[])?;
        let months = field("month", month, 1, 12, &MONTHS)?;
        // 7 is Sunday too; the crate's numbers are one higher.
        let weekdays: BTreeSet<u32> =
            field("day-of-week", weekday, 0, 7, &DAYS)?.iter().map(|d| d % 7 + 1).collect();
        let expression = |days: &str, weekdays: &str| {
            let text = format!("0 {} {} {days} {} {weekdays}", list(&minutes), list(&hours), list(&months));
            cron::Schedule::from_str(&text).map_err(|error| InvalidSchedule::Field {
                field: "expression",
                text: text.clone(),
                why: error.to_string(),
            })
        };
        let schedules = match (day.starts_with('*'), weekday.starts_with('*')) {
            (false, false) => vec![expression(&list(&days), "*")?, expression("*", &list(&weekdays))?],
            _ => vec![expression(&list(&days), &list(&weekdays))?],
        };
        let cron = Cron { zone, every_hour: hour.starts_with('*'), schedules };
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default(); // 2026-01-01
        cron.next(start).ok_or(InvalidSchedule::Never)?;
        Ok(cron)
    }

    /// The first run after `after`.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone).naive_local();
        let offset = |at: DateTime<Utc>| at.with_timezone(&self.zone).offset().fix();
        let candidate = self.next_reading(local)?;
        if offset(after - AROUND) == offset(after + AROUND)
            && let LocalResult::Single(at) = self.zone.from_local_datetime(&candidate)
        {
            return Some(at.to_utc());
        }
        // Around a change of offset clock readings and instants are in different orders: look at all of them nearby.
        let mut reading = local - AROUND;
        let mut earliest: Option<DateTime<Utc>> = None;
        while let Some(next) = self.next_reading(reading) {
            earliest = self.instants(next).into_iter().filter(|at| *at > after).chain(earliest).min();
            reading = next;
            if earliest.is_some() && reading > local + AROUND {
                break;
            }
        }
        earliest
    }

    fn next_reading(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.schedules.iter().filter_map(|s| s.after(&after.and_utc()).next()).map(|at| at.naive_utc()).min()
    }

    fn instants(&self, reading: NaiveDateTime) -> Vec<DateTime<Utc>> {
        match self.zone.from_local_datetime(&reading) {
            LocalResult::Single(at) => vec![at.to_utc()],
            LocalResult::Ambiguous(first, second) if self.every_hour => vec![first.to_utc(), second.to_utc()],
            LocalResult::Ambiguous(first, _) => vec![first.to_utc()],
            LocalResult::None if self.every_hour => Vec::new(),
            // By the offset that held before the jump.
            LocalResult::None => {
                let before = self.zone.offset_from_utc_datetime(&(reading - AROUND)).fix();
                vec![(reading - before).and_utc()]
            }
        }
    }
}

/// The next `count` runs after `after`.
pub fn next_runs(
    expression: &str,
    time_zone: &str,
    after: DateTime<Utc>,
    count: usize,
) -> Result<Vec<DateTime<Utc>>, InvalidSchedule> {
    let cron = Cron::new(expression, time_zone)?;
    Ok(std::iter::successors(cron.next(after), |at| cron.next(*at)).take(count).collect())
}

fn expand_shorthand(expression: &str) -> Result<String, InvalidSchedule> {
    Ok(match expression {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other if other.starts_with('@') => return Err(InvalidSchedule::Shorthand(other.to_owned())),
        other => other,
    }
    .to_owned())
}

fn list(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// `*`, `5`, `1-5`, `*/10`, `8-18/2`, names, and lists of these.
fn field(
    name: &'static str,
    text: &str,
    min: u32,
    max: u32,
    names: &[&str],
) -> Result<BTreeSet<u32>, InvalidSchedule> {
    let bad = |why: String| InvalidSchedule::Field { field: name, text: text.to_owned(), why };
    let number = |part: &str| -> Result<u32, InvalidSchedule> {
        if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(part)) {
            return Ok(at as u32 + min);
        }
        let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        match part.parse::<u32>() {
            Ok(value) if digits && (min..=max).contains(&value) => Ok(value),
            _ => Err(bad(format!("{part:?} is not between {min} and {max}"))),
        }
    };
    let mut values = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => {
                let step: u32 = step
                    .parse()
                    .ok()
                    .filter(|s| (1..=max).contains(s))
                    .ok_or_else(|| bad(format!("step {step:?} is not between 1 and {max}")))?;
                (range, Some(step))
            }
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (min, max),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            // `5/10` counts from 5 to the end.
            (_, None) => (number(range)?, if step.is_some() { max } else { number(range)? }),
        };
        if from > to {
            return Err(bad(format!("the range {range:?} runs backwards")));
        }
        values.extend((from..=to).step_by(step.unwrap_or(1) as usize));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, Timelike};
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn runs(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let runs = next_runs(expression, zone, at(after), count).unwrap();
        runs.iter().map(|run| run.format("%Y-%m-%dT%H:%MZ").to_string()).collect()
    }

    #[test]
    fn weekdays_count_as_in_unix() {
        // 2026-11-21 is a Saturday.
        for (day, date) in
            [("0", "22"), ("7", "22"), ("sun", "22"), ("1", "23"), ("MON", "23"), ("6", "28"), ("5-6", "27")]
        {
            let expected = format!("2026-11-{date}T09:00Z");
            assert_eq!(
                runs(&format!("0 9 * * {day}"), "UTC", "2026-11-21T10:00:00Z", 1),
                [expected],
                "{day}"
            );
        }
    }

    #[test]
    fn day_of_month_or_day_of_week() {
        assert_eq!(
            runs("0 0 13 * 5", "UTC", "2026-11-01T00:00:00Z", 3),
            ["2026-11-06T00:00Z", "2026-11-13T00:00Z", "2026-11-20T00:00Z"]
        );
        assert_eq!(runs("0 0 1 * *", "UTC", "2026-11-21T00:00:00Z", 1), ["2026-12-01T00:00Z"]);
    }

    #[test]
    fn spring_forward_runs_once_and_later() {
        // Berlin, 2027-03-28: 02:00 becomes 03:00.
        assert_eq!(
            runs("30 2 * * *", "Europe/Berlin", "2027-03-26T12:00:00Z", 3),
            ["2027-03-27T01:30Z", "2027-03-28T01:30Z", "2027-03-29T00:30Z"]
        );
        assert_eq!(
            runs("30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 3),
            ["2027-03-28T00:30Z", "2027-03-28T01:30Z", "2027-03-28T02:30Z"]
        );
    }

    #[test]
    fn fall_back_runs_a_fixed_hour_once_and_every_hour_twice() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00.
        assert_eq!(
            runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]
        );
        assert_eq!(
            runs("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["2026-10-25T00:30Z", "2026-10-25T01:30Z", "2026-10-25T02:30Z"]
        );
    }

    #[test]
    fn refuses_with_words() {
        for (expression, says) in [
            ("* * * *", "five fields"),
            ("60 * * * *", "minute \"60\""),
            ("* * * * 8", "day-of-week"),
            ("* * 31 2 *", "never comes true"),
            ("5-1 * * * *", "backwards"),
            ("*/0 * * * *", "step"),
            ("@often", "shorthand"),
            ("a b c d e", "minute"),
        ] {
            let error = Cron::new(expression, "UTC").unwrap_err().to_string();
            assert!(error.contains(says), "{expression}: {error}");
        }
        assert!(Cron::new("* * * * *", "Mars/Olympus").unwrap_err().to_string().contains("IANA"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn never_panics(text in "\\PC{0,20}", zone in "\\PC{0,8}") {
            let _ = Cron::new(&text, &zone);
        }

        #[test]
        fn fields_agree_with_the_clock(minute in 0u32..60, hour in 0u32..24, weekday in 0u32..7, start in 1_700_000_000i64..1_900_000_000) {
            let after = DateTime::from_timestamp(start, 0).unwrap();
            let run = Cron::new(&format!("{minute} {hour} * * {weekday}"), "UTC").unwrap().next(after).unwrap();
            prop_assert!(run > after && run - after <= Duration::days(7));
            prop_assert_eq!((run.minute(), run.hour(), run.weekday().num_days_from_sunday()), (minute, hour, weekday));
        }

        #[test]
        fn a_fixed_time_runs_once_a_day_in_every_zone(
            hour in 0u32..24, minute in 0u32..60, zone in proptest::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"]),
            start in 1_700_000_000i64..1_900_000_000,
        ) {
            let after = DateTime::from_timestamp(start, 0).unwrap();
            let runs = next_runs(&format!("{minute} {hour} * * *"), zone, after, 400).unwrap();
            let zone: Tz = zone.parse().unwrap();
            let days: BTreeSet<_> = runs.iter().map(|run| run.with_timezone(&zone).date_naive()).collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(days.len(), runs.len());
            prop_assert_eq!((*days.last().unwrap() - *days.first().unwrap()).num_days(), 399);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every zone there is, around its changes: what a minute-by-minute walk by the rules above finds, and nothing else.
        #[test]
        fn runs_are_those_of_a_walk_through_the_minutes(
            zone in proptest::sample::select(chrono_tz::TZ_VARIANTS.to_vec()), start in 350_000_000i64..2_100_000_000,
            minutes in proptest::sample::select(vec!["0", "30", "*/15", "7,59", "*"]), day in proptest::sample::select(vec!["*", "*", "1-15", "*/2"]),
            hours in proptest::sample::select(vec!["*", "*/2", "0", "1", "2", "3", "0-4", "23,0", "1,2,3"]),
            weekday in proptest::sample::select(vec!["*", "*", "*", "0", "1-5"]),
        ) {
            let start = before_a_change(zone, DateTime::from_timestamp(start, 0).unwrap());
            let end = start + Duration::days(3);
            let cron = Cron::new(&format!("{minutes} {hours} {day} * {weekday}"), zone.name()).unwrap();
            let runs: Vec<_> = std::iter::successors(cron.next(start), |at| cron.next(*at)).take_while(|at| *at <= end).collect();
            let wanted = Wanted {
                minutes: field("minute", minutes, 0, 59, &[]).unwrap(),
                hours: field("hour", hours, 0, 23, &[]).unwrap(),
                days: field("day-of-month", day, 1, 31, &[]).unwrap(),
                weekdays: field("day-of-week", weekday, 0, 7, &DAYS).unwrap(),
                either: !day.starts_with('*') && !weekday.starts_with('*'),
            };
            prop_assert_eq!(runs, walk(zone, &wanted, hours.starts_with('*'), start, end));
        }
    }

    /// A day and a half before the zone's next change of offset within two years, if there is one.
    fn before_a_change(zone: Tz, start: DateTime<Utc>) -> DateTime<Utc> {
        let offset = |at: DateTime<Utc>| at.with_timezone(&zone).offset().fix();
        let changes = (0..2 * 365 * 4).map(|step| start + Duration::hours(6 * step));
        let change = changes.into_iter().find(|at| offset(*at) != offset(*at + Duration::hours(6)));
        change.unwrap_or(start) - Duration::hours(36)
    }

    struct Wanted {
        minutes: BTreeSet<u32>,
        hours: BTreeSet<u32>,
        days: BTreeSet<u32>,
        weekdays: BTreeSet<u32>,
        either: bool,
    }

    impl Wanted {
        fn has(&self, at: NaiveDateTime) -> bool {
            let weekday = at.weekday().num_days_from_sunday();
            let (day, weekday) =
                (self.days.contains(&at.day()), self.weekdays.iter().any(|wanted| wanted % 7 == weekday));
            let date = if self.either { day || weekday } else { day && weekday };
            date && self.minutes.contains(&at.minute()) && self.hours.contains(&at.hour())
        }
    }

    fn walk(
        zone: Tz,
        wanted: &Wanted,
        every_hour: bool,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Vec<DateTime<Utc>> {
        let mut found = BTreeSet::new();
        if every_hour {
            // Real minutes, by what the clock shows then.
            let mut at = start.with_second(0).unwrap();
            while at <= end {
                if at > start && wanted.has(at.with_timezone(&zone).naive_local()) {
                    found.insert(at);
                }
                at += Duration::minutes(1);
            }
            return found.into_iter().collect();
        }
        // Readings of the clock, each of them once; `shown` is the last one that the clock did show, and its instant.
        let mut reading =
            (start - Duration::days(2)).with_timezone(&zone).naive_local().with_second(0).unwrap();
        let last = (end + Duration::days(2)).with_timezone(&zone).naive_local();
        let mut shown = None;
        while reading <= last {
            let at = match zone.from_local_datetime(&reading) {
                LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => {
                    let latest = zone.from_local_datetime(&reading).latest().unwrap();
                    shown = Some((reading, latest.to_utc()));
                    Some(at.to_utc())
                }
                LocalResult::None => shown
                    .map(|(reading_then, at): (NaiveDateTime, DateTime<Utc>)| at + (reading - reading_then)),
            };
            if let Some(at) = at.filter(|at| *at > start && *at <= end && wanted.has(reading)) {
                found.insert(at);
            }
            reading += Duration::minutes(1);
        }
        found.into_iter().collect()
    }
}
