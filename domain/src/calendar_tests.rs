use super::*;
use chrono::{Datelike, Timelike};
use proptest::prelude::*;

const WORKDAYS: [Weekday; 5] = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn window(opens: &str, closes: &str) -> Window {
    Window { opens: parse_time_of_day(opens).unwrap(), closes: parse_time_of_day(closes).unwrap() }
}

/// The same windows every day.
fn daily(zone: &str, windows: &[(&str, &str)]) -> Calendar {
    let all =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];
    let windows = all.into_iter().flat_map(|day| windows.iter().map(move |(o, c)| (day, window(o, c))));
    Calendar::new(zone, windows, []).unwrap()
}

fn office(zone: &str, holidays: &[&str]) -> Calendar {
    let windows =
        WORKDAYS.into_iter().flat_map(|d| [(d, window("08:00", "12:00")), (d, window("13:00", "17:00"))]);
    Calendar::new(zone, windows, holidays.iter().map(|day| day.parse().unwrap())).unwrap()
}

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

#[test]
fn breaks_nights_weekends_and_holidays_do_not_count() {
    let calendar = office("Europe/Berlin", &["2026-12-25"]);
    // Wednesday 11:30 local + 1 h: over lunch.
    assert_eq!(calendar.add_working(at("2026-11-18T10:30:00Z"), hours(1)), Some(at("2026-11-18T12:30:00Z")));
    // Friday 16:00 local + 2 h: Monday 09:00.
    assert_eq!(calendar.add_working(at("2026-11-20T15:00:00Z"), hours(2)), Some(at("2026-11-23T08:00:00Z")));
    // Thursday 24 December 16:00 + 2 h: Friday is a holiday, so Monday 28th, 09:00.
    assert_eq!(calendar.add_working(at("2026-12-24T15:00:00Z"), hours(2)), Some(at("2026-12-28T08:00:00Z")));
    // A whole week is forty hours, wherever it starts.
    assert_eq!(calendar.working_between(at("2026-11-18T10:30:00Z"), at("2026-11-25T10:30:00Z")), hours(40));
    // Exactly the end of a window belongs to that window, not to the next opening.
    assert_eq!(calendar.add_working(at("2026-11-20T15:00:00Z"), hours(1)), Some(at("2026-11-20T16:00:00Z")));
    // What starts on a Sunday starts to count on Monday.
    assert_eq!(
        calendar.add_working(at("2026-11-22T03:00:00Z"), TimeDelta::seconds(1)),
        Some(at("2026-11-23T07:00:01Z"))
    );
    assert!(!calendar.is_open(at("2026-11-22T10:00:00Z")) && calendar.is_open(at("2026-11-23T07:00:00Z")));
    assert!(!calendar.is_open(at("2026-11-23T11:00:00Z")), "closed from the closing second on");
}

#[test]
fn a_calendar_that_never_opens_has_no_deadline() {
    let closed = Calendar::new("UTC", [], []).unwrap();
    assert_eq!(closed.add_working(at("2026-01-01T00:00:00Z"), hours(1)), None);
    assert_eq!(
        closed.working_between(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")),
        TimeDelta::zero()
    );
    let rare = Calendar::new("UTC", [(Weekday::Mon, Window { opens: 0, closes: 1 })], []).unwrap();
    assert_eq!(rare.add_working(at("2026-01-01T00:00:00Z"), hours(10)), None, "beyond the horizon");
    assert_eq!(Calendar::always().add_working(at("2026-01-01T00:00:00Z"), hours(24 * 366 * 60)), None);
}

#[test]
fn midnight_can_be_crossed_at_24_00() {
    let night = daily("Asia/Kolkata", &[("22:00", "24:00"), ("00:00", "06:00")]);
    // 22:00 at +05:30 is 16:30 UTC.
    assert_eq!(night.working_between(at("2026-06-01T12:00:00Z"), at("2026-06-02T12:00:00Z")), hours(8));
    assert_eq!(night.add_working(at("2026-06-01T16:30:00Z"), hours(8)), Some(at("2026-06-02T00:30:00Z")));
    let holiday =
        Calendar::new("UTC", WORKDAYS.map(|d| (d, Window::WHOLE_DAY)), ["2026-06-02".parse().unwrap()])
            .unwrap();
    assert_eq!(holiday.add_working(at("2026-06-01T23:00:00Z"), hours(2)), Some(at("2026-06-03T01:00:00Z")));
}

/// Each line: zone, window, the day as UTC instants, how long the window is on that day.
#[test]
fn windows_stretch_and_shrink_when_clocks_change() {
    let cases = [
        // Forward at 02:00 → 03:00 on 29 March 2026.
        ("Europe/Berlin", ("02:00", "04:00"), "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 60),
        ("Europe/Berlin", ("02:15", "02:45"), "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 0),
        ("Europe/Berlin", ("00:00", "24:00"), "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23 * 60),
        // Back at 03:00 → 02:00 on 25 October 2026: 02:00–03:00 happens twice.
        ("Europe/Berlin", ("02:00", "04:00"), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 180),
        ("Europe/Berlin", ("01:00", "02:30"), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 120),
        ("Europe/Berlin", ("02:15", "02:45"), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 60),
        ("Europe/Berlin", ("00:00", "24:00"), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25 * 60),
        // 8 March and 1 November 2026.
        ("America/New_York", ("02:00", "04:00"), "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 60),
        ("America/New_York", ("01:00", "02:00"), "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 120),
        // No summer time, but half an hour beside the others.
        ("Asia/Kolkata", ("02:00", "04:00"), "2026-03-28T18:30:00Z", "2026-03-29T18:30:00Z", 120),
        // Half an hour: back at 02:00 → 01:30 on 5 April, forward at 02:00 → 02:30 on 4 October 2026.
        ("Australia/Lord_Howe", ("01:00", "03:00"), "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 150),
        ("Australia/Lord_Howe", ("01:00", "03:00"), "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z", 90),
        // Clocks go forward at midnight: 26 April 2024 in Cairo has no 00:00–01:00.
        ("Africa/Cairo", ("00:00", "02:00"), "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z", 60),
    ];
    for (zone, (opens, closes), from, until, minutes) in cases {
        let calendar = daily(zone, &[(opens, closes)]);
        assert_eq!(
            calendar.working_between(at(from), at(until)),
            TimeDelta::minutes(minutes),
            "{zone} {opens}–{closes} on {from}"
        );
    }
}

#[test]
fn a_day_that_a_zone_left_out_does_not_count() {
    // Samoa went over the date line: 30 December 2011 did not happen there.
    let calendar = daily("Pacific/Apia", &[("08:00", "16:00")]);
    assert_eq!(calendar.working_between(at("2011-12-29T10:00:00Z"), at("2011-12-31T10:00:00Z")), hours(16));
}

#[test]
fn deadlines_across_a_clock_change() {
    let calendar = daily("Europe/Berlin", &[("02:00", "04:00")]);
    // 90 minutes from the Saturday midnight before: 60 on Sunday (one hour long), 30 on Monday from 02:00 = 00:00 UTC.
    assert_eq!(
        calendar.add_working(at("2026-03-29T00:00:00Z"), TimeDelta::minutes(90)),
        Some(at("2026-03-30T00:30:00Z"))
    );
    let office = office("America/New_York", &[]);
    // Friday before the change 16:00 EST + 2 h: Monday 09:00 EDT, which is an hour less in UTC.
    assert_eq!(office.add_working(at("2026-03-06T21:00:00Z"), hours(2)), Some(at("2026-03-09T13:00:00Z")));
}

#[test]
fn times_of_day_are_read_strictly() {
    assert_eq!(parse_time_of_day("24:00"), Ok(86_400));
    assert_eq!(parse_time_of_day("09:30:05"), Ok(34_205));
    for bad in ["24:01", "9:00", "09:60", "", "09", "ab:cd", "09:00:60", "+1:00", "09:00:00:00"] {
        assert!(parse_time_of_day(bad).is_err(), "{bad}");
    }
    for text in ["00:00", "08:30", "23:59:59", "24:00"] {
        assert_eq!(format_time_of_day(parse_time_of_day(text).unwrap()), text);
    }
}

#[test]
fn impossible_calendars_are_refused() {
    assert!(matches!(Calendar::new("Mars/Olympus", [], []), Err(CalendarError::Zone(_))));
    let backwards = (Weekday::Mon, Window { opens: 60, closes: 60 });
    assert_eq!(Calendar::new("UTC", [backwards], []).unwrap_err(), CalendarError::Order);
    let pair = [(Weekday::Tue, window("08:00", "12:00")), (Weekday::Tue, window("11:59", "13:00"))];
    assert_eq!(Calendar::new("UTC", pair, []).unwrap_err(), CalendarError::Overlap(Weekday::Tue));
}

const ZONES: [&str; 7] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/St_Johns",
    "UTC",
];

prop_compose! {
    fn calendars()(
        zone in prop::sample::select(&ZONES[..]),
        edges in prop::collection::vec((0u8..7, prop::collection::btree_set(0u32..=96, 2..8)), 0..10),
        holidays in prop::collection::btree_set(0u64..1200, 0..20),
    ) -> Calendar {
        let mut seen = [false; 7];
        let windows = edges.into_iter().filter(|(day, _)| !std::mem::replace(&mut seen[*day as usize], true)).flat_map(|(day, edges)| {
            let edges: Vec<u32> = edges.into_iter().map(|quarter| quarter * 900).collect();
            let pairs: Vec<_> = edges.chunks_exact(2).map(|p| Window { opens: p[0], closes: p[1] }).collect();
            pairs.into_iter().map(move |w| (Weekday::try_from(day).unwrap(), w))
        }).collect::<Vec<_>>();
        let first = NaiveDate::from_ymd_opt(2025, 1, 1).unwrap();
        Calendar::new(zone, windows, holidays.into_iter().map(|n| first + chrono::Days::new(n))).unwrap()
    }
}

/// 2025 to 2027, to the microsecond.
fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (0i64..3 * 365 * 86_400 * 1_000_000)
        .prop_map(|us| at("2025-01-01T00:00:00Z") + TimeDelta::microseconds(us))
}

/// The definition itself, minute by minute; all windows of `calendars()` begin and end on quarters of an hour.
fn by_definition(calendar: &Calendar, from: DateTime<Utc>, minutes: i64) -> i64 {
    (0..minutes)
        .filter(|n| {
            let local = (from + TimeDelta::minutes(*n)).with_timezone(&calendar.zone());
            let day = (local.date_naive() - NaiveDate::default()).num_days();
            !calendar.holidays.contains(&day)
                && calendar.week[local.weekday().num_days_from_monday() as usize]
                    .iter()
                    .any(|w| (w.opens..w.closes).contains(&local.num_seconds_from_midnight()))
        })
        .count() as i64
}

proptest! {
    #[test]
    fn agrees_with_the_definition(calendar in calendars(), start in instants(), days in 1i64..12) {
        let start = start - TimeDelta::microseconds(start.timestamp_micros().rem_euclid(60_000_000));
        let minutes = days * 1440;
        let counted = calendar.working_between(start, start + TimeDelta::minutes(minutes));
        prop_assert_eq!(counted, TimeDelta::minutes(by_definition(&calendar, start, minutes)));
    }

    #[test]
    fn adding_is_the_inverse_of_measuring(calendar in calendars(), start in instants(), us in 1i64..200 * 3600 * 1_000_000) {
        let work = TimeDelta::microseconds(us);
        match calendar.add_working(start, work) {
            None => prop_assert!(!calendar.ever_opens()),
            Some(due) => {
                prop_assert_eq!(calendar.working_between(start, due), work);
                // The earliest such instant: a moment before, it is less.
                let before = due - TimeDelta::microseconds(1);
                prop_assert_eq!(calendar.working_between(start, before), work - TimeDelta::microseconds(1));
            }
        }
    }

    #[test]
    fn measuring_is_monotone_and_additive(calendar in calendars(), mut points in prop::array::uniform3(instants())) {
        points.sort();
        let [a, b, c] = points;
        let (first, second) = (calendar.working_between(a, b), calendar.working_between(b, c));
        prop_assert_eq!(first + second, calendar.working_between(a, c));
        prop_assert!(first >= TimeDelta::zero() && first <= b - a);
        prop_assert_eq!(calendar.working_between(c, a), TimeDelta::zero());
    }

    #[test]
    fn more_work_or_a_later_start_is_never_due_earlier(
        calendar in calendars(),
        starts in (instants(), 0i64..100 * 3600),
        work in (0i64..100 * 3600, 0i64..3600),
    ) {
        let (early, late) = (starts.0, starts.0 + TimeDelta::seconds(starts.1));
        let (less, more) = (TimeDelta::seconds(work.0), TimeDelta::seconds(work.0 + work.1));
        prop_assert!(calendar.add_working(early, less) <= calendar.add_working(early, more));
        prop_assert!(calendar.add_working(early, more) <= calendar.add_working(late, more));
    }
}
