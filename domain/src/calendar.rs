//! Business calendars: when service time passes.
//!
//! One sentence defines everything here: an instant belongs to working time if the wall clock of the calendar's zone
//! reads a time inside one of that weekday's windows, and that local date is no holiday. So on the day on which clocks
//! go forward a window 02:00–04:00 is one hour long, on the day on which they go back three, and a window that lies
//! wholly in the repeated hour is open twice. Zones are those of the IANA data base (RFC 6557).
//!
//! Everything is exact to the microsecond, the resolution of the database.

use chrono::{DateTime, NaiveDate, Offset, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// No deadline lies further away; also ends the search in a calendar that opens for a second a week.
const HORIZON: i64 = 50 * 366 * DAY;
/// Two changes of a zone's offset that cancel each other lie further apart than this.
const STRIDE: i64 = 3 * DAY;

/// A span of one weekday, in seconds of the local wall clock: `opens` belongs to it, `closes` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    pub opens: u32,
    /// Up to 86,400, which is 24:00.
    pub closes: u32,
}

impl Window {
    pub const WHOLE_DAY: Window = Window { opens: 0, closes: 86_400 };
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    #[error("unknown time zone {0:?}: use an IANA name, for example Europe/Berlin")]
    Zone(String),
    #[error("{0:?} is not a time of day: use HH:MM or HH:MM:SS, from 00:00 to 24:00")]
    Time(String),
    #[error("a window has to close after it opens; split one that crosses midnight at 24:00")]
    Order,
    #[error("two windows of {0} overlap")]
    Overlap(Weekday),
}

/// Weekly hours in a zone, less holidays. Cheap to query, made once from its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
    /// From Monday; each day sorted and free of overlaps.
    week: [Vec<Window>; 7],
    /// Days since 1970-01-01.
    holidays: BTreeSet<i64>,
    always: bool,
}

impl Calendar {
    /// A calendar without any window is possible: it never opens, and nothing in it is ever due.
    pub fn new(
        zone: &str,
        windows: impl IntoIterator<Item = (Weekday, Window)>,
        holidays: impl IntoIterator<Item = NaiveDate>,
    ) -> Result<Self, CalendarError> {
        let zone: Tz = zone.parse().map_err(|_| CalendarError::Zone(zone.to_owned()))?;
        let mut week: [Vec<Window>; 7] = Default::default();
        for (weekday, window) in windows {
            if window.opens >= window.closes || window.closes > 86_400 {
                return Err(CalendarError::Order);
            }
            week[weekday.num_days_from_monday() as usize].push(window);
        }
        for (index, day) in week.iter_mut().enumerate() {
            day.sort();
            if day.windows(2).any(|pair| pair[1].opens < pair[0].closes) {
                let weekday = Weekday::try_from(index as u8).expect("an index of seven weekdays");
                return Err(CalendarError::Overlap(weekday));
            }
        }
        let epoch = NaiveDate::default();
        let holidays: BTreeSet<i64> = holidays.into_iter().map(|day| (day - epoch).num_days()).collect();
        let whole = |day: &Vec<Window>| {
            day.first().is_some_and(|w| w.opens == 0)
                && day.last().is_some_and(|w| w.closes == 86_400)
                && day.windows(2).all(|pair| pair[0].closes == pair[1].opens)
        };
        let always = holidays.is_empty() && week.iter().all(whole);
        Ok(Calendar { zone, week, holidays, always })
    }

    /// Open round the clock.
    pub fn always() -> Self {
        let week = std::array::from_fn(|_| vec![Window::WHOLE_DAY]);
        Calendar { zone: Tz::UTC, week, holidays: BTreeSet::new(), always: true }
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// False for a calendar without any window.
    pub fn ever_opens(&self) -> bool {
        self.week.iter().any(|day| !day.is_empty())
    }

    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        self.working_between(at, at + TimeDelta::microseconds(1)) > TimeDelta::zero()
    }

    /// Working time from `from` to `until`; zero if `until` lies before.
    pub fn working_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        let (from, until) = (from.timestamp_micros(), until.timestamp_micros());
        if until <= from {
            return TimeDelta::zero();
        }
        if self.always {
            return TimeDelta::microseconds(until - from);
        }
        let mut total = 0;
        let _ = self.walk(from, until, |opens, closes| {
            total += closes - opens;
            ControlFlow::<()>::Continue(())
        });
        TimeDelta::microseconds(total)
    }

    /// The earliest instant by which `work` of working time has passed since `start`: `start` itself for none.
    /// Nothing if the calendar never opens, or that lies more than fifty years ahead.
    pub fn add_working(&self, start: DateTime<Utc>, work: TimeDelta) -> Option<DateTime<Utc>> {
        let mut missing = work.num_microseconds()?;
        if missing <= 0 {
            return Some(start);
        }
        let from = start.timestamp_micros();
        if self.always {
            return (missing <= HORIZON)
                .then(|| from.checked_add(missing).and_then(DateTime::from_timestamp_micros))?;
        }
        if !self.ever_opens() {
            return None;
        }
        let found = self.walk(from, from.checked_add(HORIZON)?, |opens, closes| {
            if closes - opens >= missing {
                return ControlFlow::Break(opens + missing);
            }
            missing -= closes - opens;
            ControlFlow::Continue(())
        });
        found.break_value().and_then(DateTime::from_timestamp_micros)
    }

    /// Calls `visit` with the open spans in [from, until), in order. Goes through stretches in which the zone's offset
    /// stays the same, because within one the wall clock is a plain sum.
    fn walk<B>(
        &self,
        from: i64,
        until: i64,
        mut visit: impl FnMut(i64, i64) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut at = from;
        while at < until {
            let offset = self.offset(at);
            let mut end = (at + STRIDE).min(until);
            if self.offset(end) != offset {
                end = self.change_between(at, end, offset);
            }
            self.visit_stretch(at + offset, end + offset, &mut |opens, closes| {
                visit(opens - offset, closes - offset)
            })?;
            at = end;
        }
        ControlFlow::Continue(())
    }

    /// The same on the wall clock.
    fn visit_stretch<B>(
        &self,
        from: i64,
        until: i64,
        visit: &mut impl FnMut(i64, i64) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for day in from.div_euclid(DAY)..=(until - 1).div_euclid(DAY) {
            // 1970-01-01 was a Thursday.
            let windows = &self.week[(day + 3).rem_euclid(7) as usize];
            if windows.is_empty() || self.holidays.contains(&day) {
                continue;
            }
            for window in windows {
                let opens = (day * DAY + i64::from(window.opens) * SECOND).max(from);
                let closes = (day * DAY + i64::from(window.closes) * SECOND).min(until);
                if opens < closes {
                    visit(opens, closes)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Microseconds by which the wall clock is ahead of UTC.
    fn offset(&self, at: i64) -> i64 {
        let at = DateTime::from_timestamp_micros(at).unwrap_or_default().naive_utc();
        i64::from(self.zone.offset_from_utc_datetime(&at).fix().local_minus_utc()) * SECOND
    }

    /// The first whole second in (from, until] at which the offset is not `offset` any more.
    fn change_between(&self, from: i64, until: i64, offset: i64) -> i64 {
        let (mut before, mut after) = (from.div_euclid(SECOND), (until + SECOND - 1).div_euclid(SECOND));
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.offset(middle * SECOND) == offset { before = middle } else { after = middle }
        }
        (after * SECOND).min(until)
    }
}

/// Reads `HH:MM` or `HH:MM:SS` as seconds since midnight; `24:00` is the end of the day.
pub fn parse_time_of_day(text: &str) -> Result<u32, CalendarError> {
    let wrong = || CalendarError::Time(text.to_owned());
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &&str| match part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) {
        true => part.parse::<u32>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (hours, minutes, seconds) = match &parts[..] {
        [h, m] => (number(h)?, number(m)?, 0),
        [h, m, s] => (number(h)?, number(m)?, number(s)?),
        _ => return Err(wrong()),
    };
    let total = hours * 3600 + minutes * 60 + seconds;
    if minutes > 59 || seconds > 59 || total > 86_400 { Err(wrong()) } else { Ok(total) }
}

/// The reverse of [`parse_time_of_day`]: seconds are written only where there are any.
pub fn format_time_of_day(seconds: u32) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest == 0 { format!("{hours:02}:{minutes:02}") } else { format!("{hours:02}:{minutes:02}:{rest:02}") }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
