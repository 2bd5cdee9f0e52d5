//! Reports: their kinds, and the period that a scheduled one covers.

use crate::words::words;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

words! {
    ReportKind("report kind") {
        IncidentsAndSla => "incidents_and_sla",
    }
}

words! {
    /// What a scheduled report looks back on, seen from its tick.
    PeriodKind("report period") {
        PreviousDay => "previous_day",
        /// Monday to Sunday.
        PreviousWeek => "previous_week",
        PreviousMonth => "previous_month",
        /// Whole days, today not included.
        LastNDays => "last_n_days",
        /// Up to the tick itself.
        LastNMinutes => "last_n_minutes",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub kind: PeriodKind,
    /// For the `last_n` kinds.
    pub count: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeriod {
    #[error("this period needs a count of at least 1")]
    Missing,
    #[error("this period takes no count")]
    Extra,
    #[error("the count is too large: at most 3660 days or 100000 minutes")]
    TooLarge,
}

impl Period {
    pub fn new(kind: PeriodKind, count: Option<u32>) -> Result<Self, InvalidPeriod> {
        let most = match kind {
            PeriodKind::LastNDays => 3_660,
            PeriodKind::LastNMinutes => 100_000,
            _ if count.is_some() => return Err(InvalidPeriod::Extra),
            _ => return Ok(Period { kind, count }),
        };
        match count {
            None | Some(0) => Err(InvalidPeriod::Missing),
            Some(count) if count > most => Err(InvalidPeriod::TooLarge),
            Some(_) => Ok(Period { kind, count }),
        }
    }

    /// From (included) and to (not included). Days are those of `zone`: on days of clock changes 23 or 25 hours long.
    pub fn range(self, tick: DateTime<Utc>, zone: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
        let count = self.count.unwrap_or(1);
        let today = tick.with_timezone(&zone).date_naive();
        let days_before = |day: NaiveDate, n: u32| day.checked_sub_days(Days::new(n.into())).unwrap_or(day);
        let (from, to) = match self.kind {
            PeriodKind::LastNMinutes => return (tick - TimeDelta::minutes(count.into()), tick),
            PeriodKind::PreviousDay => (days_before(today, 1), today),
            PeriodKind::LastNDays => (days_before(today, count), today),
            PeriodKind::PreviousWeek => {
                let monday = days_before(today, today.weekday().num_days_from_monday());
                (days_before(monday, 7), monday)
            }
            PeriodKind::PreviousMonth => {
                let first = days_before(today, today.day0());
                (first.checked_sub_months(Months::new(1)).unwrap_or(first), first)
            }
        };
        (midnight(from, zone), midnight(to, zone))
    }
}

/// The beginning of a day. Where clocks jump at midnight, the first moment of the day that exists.
fn midnight(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let mut local = day.and_time(NaiveTime::MIN);
    // The widest jump ever was a day (Samoa 2011); the loop ends by itself long before.
    for _ in 0..(2 * 24 * 4) {
        if let Some(found) = zone.from_local_datetime(&local).earliest() {
            return found.with_timezone(&Utc);
        }
        local += TimeDelta::minutes(15);
    }
    day.and_time(NaiveTime::MIN).and_utc()
}

/// A cell of a CSV file that no spreadsheet takes for a formula (OWASP ASVS 5.0, 1.2.10): what begins with one of the dangerous characters gets an
/// apostrophe in front. So does what would begin a cell where the file is cut at other places than ours: spreadsheets of many countries cut at
/// semicolons, some at tabs, and take the quotes that we wrote for letters then, so that a line break in a cell is the end of a line.
pub fn safe_cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    if text.starts_with(['\t', '\r', '\n']) {
        safe.push('\'');
    }
    let mut begins = true;
    for c in text.chars() {
        if begins && matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') {
            safe.push('\'');
        }
        safe.push(c);
        begins = match c {
            ';' | '\t' | '\r' | '\n' => true,
            ' ' | '"' => begins,
            _ => false,
        };
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(kind: PeriodKind, count: Option<u32>, tick: &str, zone: &str) -> (String, String) {
        let period = Period::new(kind, count).unwrap();
        let (from, to) = period.range(tick.parse().unwrap(), zone.parse().unwrap());
        let text = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M").to_string();
        (text(from), text(to))
    }

    #[test]
    fn periods_are_those_of_the_zone() {
        use PeriodKind::*;
        for (kind, count, tick, zone, from, to) in [
            (PreviousDay, None, "2026-11-21T05:00:00Z", "UTC", "2026-11-20T00:00", "2026-11-21T00:00"),
            // 03:00 UTC is still the day before in New York.
            (
                PreviousDay,
                None,
                "2026-11-21T03:00:00Z",
                "America/New_York",
                "2026-11-19T05:00",
                "2026-11-20T05:00",
            ),
            // Clocks went back on 25 October 2026: 25 hours.
            (
                PreviousDay,
                None,
                "2026-10-26T06:00:00Z",
                "Europe/Berlin",
                "2026-10-24T22:00",
                "2026-10-25T23:00",
            ),
            // No midnight on this day in Santiago: it begins at one.
            (
                PreviousDay,
                None,
                "2026-09-07T12:00:00Z",
                "America/Santiago",
                "2026-09-06T04:00",
                "2026-09-07T03:00",
            ),
            (PreviousWeek, None, "2026-11-21T05:00:00Z", "UTC", "2026-11-09T00:00", "2026-11-16T00:00"),
            (PreviousWeek, None, "2026-11-16T00:00:00Z", "UTC", "2026-11-09T00:00", "2026-11-16T00:00"),
            (PreviousMonth, None, "2026-03-31T05:00:00Z", "UTC", "2026-02-01T00:00", "2026-03-01T00:00"),
            (PreviousMonth, None, "2026-01-01T05:00:00Z", "UTC", "2025-12-01T00:00", "2026-01-01T00:00"),
            (LastNDays, Some(7), "2026-11-21T05:00:00Z", "UTC", "2026-11-14T00:00", "2026-11-21T00:00"),
            (
                LastNMinutes,
                Some(10),
                "2026-11-21T05:00:00Z",
                "Asia/Tokyo",
                "2026-11-21T04:50",
                "2026-11-21T05:00",
            ),
        ] {
            assert_eq!(
                range(kind, count, tick, zone),
                (from.to_owned(), to.to_owned()),
                "{kind} {tick} {zone}"
            );
        }
    }

    #[test]
    fn counts_belong_to_the_last_n_kinds() {
        assert_eq!(Period::new(PeriodKind::LastNDays, None), Err(InvalidPeriod::Missing));
        assert_eq!(Period::new(PeriodKind::LastNDays, Some(0)), Err(InvalidPeriod::Missing));
        assert_eq!(Period::new(PeriodKind::LastNMinutes, Some(100_001)), Err(InvalidPeriod::TooLarge));
        assert_eq!(Period::new(PeriodKind::PreviousDay, Some(1)), Err(InvalidPeriod::Extra));
    }

    proptest! {
        #[test]
        fn no_cell_is_a_formula(text in any::<String>(), start in "[=+\\-@\t\r]") {
            for text in [text.clone(), start + &text] {
                let cell = safe_cell(&text);
                prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
                prop_assert_eq!(cell.replace('\'', ""), text.replace('\'', ""), "nothing else is changed");
            }
        }

        /// Cut at any separator that some spreadsheet takes, no piece is a formula.
        #[test]
        fn no_piece_of_a_cell_is_a_formula(text in "[a=+@;\t\r\n \",-]{0,30}") {
            let cell = safe_cell(&text);
            for piece in cell.split([';', '\t', '\r', '\n']) {
                let begin = piece.trim_start_matches([' ', '"']);
                prop_assert!(!begin.starts_with(['=', '+', '-', '@']), "{cell:?}");
            }
        }

        #[test]
        fn consecutive_days_leave_no_gap(day in 0i64..20_000, zone in 0usize..chrono_tz::TZ_VARIANTS.len()) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let tick: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::days(day);
            let period = Period::new(PeriodKind::PreviousDay, None).unwrap();
            let (from, to) = period.range(tick, zone);
            let (before_from, before_to) = period.range(from - TimeDelta::seconds(1) + (to - from), zone);
            prop_assert!(from <= to, "a day that a zone left out");
            prop_assert!(to <= tick);
            prop_assert!(before_to <= to && before_from <= from);
        }
    }
}
