use super::*;
use crate::calendar::Window;
use chrono::Weekday;
use proptest::prelude::*;

fn t(minutes: i64) -> DateTime<Utc> {
    "2026-03-02T09:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
}

fn minutes(n: i64) -> TimeDelta {
    TimeDelta::minutes(n)
}

fn goal(target: i64) -> Goal {
    Goal { target: Some(minutes(target)), warn_percent: Some(80) }
}

fn resolution(target: i64) -> Clock {
    Clock::start(Metric::Resolution, goal(target), t(0), &Calendar::always(), t(0))
}

/// Open, from 60 on; waiting from 90 on; closed at 120: the story that the golden cases of other systems tell.
#[test]
fn a_first_response_is_due_after_its_target() {
    let clock = Clock::start(Metric::FirstResponse, goal(30), t(0), &Calendar::always(), t(0));
    assert_eq!((clock.due_at, clock.warn_at), (Some(t(30)), Some(t(24))));
    assert_eq!(clock.next_check(), Some(t(24)));
}

#[test]
fn ten_minutes_open_ten_waiting_then_open_pushes_the_deadline_by_ten() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    assert_eq!(clock.follow(Work::Waiting, &always, t(10)), None);
    assert_eq!((clock.state(), clock.due_at, clock.next_check()), (State::Paused, None, None));
    assert_eq!(clock.remaining_at(&always, t(15)), Some(minutes(65)));
    clock.follow(Work::Active, &always, t(20));
    assert_eq!(clock.due_at, Some(t(85)));
}

#[test]
fn a_pause_of_thirty_minutes_pushes_a_later_start_too() {
    // 30 working minutes from 75 on, waiting from 90 to 120: due at 135.
    let always = Calendar::always();
    let mut clock = Clock::start(Metric::Resolution, goal(30), t(75), &always, t(75));
    clock.follow(Work::Waiting, &always, t(90));
    clock.follow(Work::Active, &always, t(120));
    assert_eq!(clock.due_at, Some(t(135)));
}

#[test]
fn a_promise_made_late_knows_the_pauses_before_it() {
    let always = Calendar::always();
    let begin = |moves: &[(i64, Work)], now: i64| {
        let moves = moves.iter().map(|(at, work)| (t(*at), *work));
        Clock::start_late(Metric::Resolution, goal(75), t(0), moves, &always, t(now))
    };
    let (clock, verdict) = begin(&[(10, Work::Waiting), (40, Work::Active)], 50);
    assert_eq!((clock.state(), clock.due_at, verdict), (State::Running, Some(t(105)), None));
    assert_eq!((clock.elapsed_at(&always, t(50)), clock.armed_at), (minutes(20), t(50)));
    let (clock, verdict) = begin(&[(10, Work::Waiting)], 500);
    assert_eq!((clock.state(), clock.elapsed, verdict), (State::Paused, minutes(10), None));
    // Late already when it began to wait.
    let (clock, verdict) = begin(&[(80, Work::Waiting), (90, Work::Active)], 100);
    assert_eq!(verdict.map(|verdict| (verdict.trigger, verdict.at)), Some((Trigger::Breach, t(75))));
    assert_eq!((clock.state(), clock.due_at, clock.next_check()), (State::Breached, Some(t(75)), None));
    let (clock, _) = begin(&[(10, Work::Finished), (400, Work::Active)], 500);
    assert_eq!(clock.due_at, Some(t(465)), "reopened, and without the time it lay resolved");
}

#[test]
fn a_late_first_response_is_missed_by_the_difference() {
    let always = Calendar::always();
    let mut clock = Clock::start(Metric::FirstResponse, goal(30), t(0), &always, t(0));
    let verdict = clock.reply(&always, t(75)).expect("nobody had noticed the breach");
    assert_eq!((verdict.trigger, verdict.at), (Trigger::Breach, t(30)));
    assert_eq!(clock.state(), State::Missed);
    assert_eq!(clock.elapsed_at(&always, t(500)), minutes(75));
    assert_eq!(clock.remaining_at(&always, t(500)), Some(minutes(-45)));
}

#[test]
fn resolved_in_time_leaves_the_rest() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    assert_eq!(clock.follow(Work::Finished, &always, t(70)), None);
    assert_eq!(clock.state(), State::Met);
    assert_eq!(clock.remaining_at(&always, t(200)), Some(minutes(5)));
    assert_eq!(clock.next_check(), None);
}

#[test]
fn without_a_target_nothing_is_due_but_time_is_counted() {
    let always = Calendar::always();
    let none = Goal { target: None, warn_percent: Some(80) };
    let mut clock = Clock::start(Metric::Resolution, none, t(0), &always, t(0));
    assert_eq!((clock.due_at, clock.next_check(), clock.judge(t(100_000))), (None, None, None));
    clock.retarget(goal(75), None, &always, t(10));
    assert_eq!(clock.due_at, Some(t(75)), "the start of the clock stays");
}

#[test]
fn one_clock_does_not_move_another() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    assert_eq!(clock.reply(&always, t(10)), None);
    assert_eq!((clock.state(), clock.due_at), (State::Running, Some(t(75))));
}

#[test]
fn a_reopened_ticket_goes_on_where_it_stood() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    clock.follow(Work::Finished, &always, t(70));
    assert_eq!(clock.follow(Work::Active, &always, t(1000)), None);
    assert_eq!((clock.state(), clock.due_at), (State::Running, Some(t(1005))));
    let mut first = Clock::start(Metric::FirstResponse, goal(30), t(0), &always, t(0));
    first.follow(Work::Finished, &always, t(20));
    assert_eq!(first.state(), State::Met, "being resolved is an answer");
    first.follow(Work::Active, &always, t(1000));
    assert_eq!(first.state(), State::Met);
}

#[test]
fn a_breach_stays_when_the_ticket_waits_is_resolved_and_reopened() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    assert_eq!(clock.judge(t(60)).unwrap().trigger, Trigger::Warning);
    assert_eq!(clock.judge(t(60)), None);
    assert_eq!(clock.judge(t(75)).unwrap().trigger, Trigger::Breach);
    for (work, at) in [(Work::Waiting, 80), (Work::Active, 90), (Work::Finished, 95), (Work::Active, 99)] {
        assert_eq!(clock.follow(work, &always, t(at)), None);
        assert_eq!((clock.judge(t(at)), clock.breached_at), (None, Some(t(75))));
    }
    assert_eq!((clock.state(), clock.due_at), (State::Breached, Some(t(75))));
    assert_eq!(clock.elapsed_at(&always, t(100)), minutes(80 + 5 + 1));
}

#[test]
fn a_shorter_goal_is_due_from_the_same_start() {
    let always = Calendar::always();
    let mut clock = resolution(240);
    // Raised after an hour to two hours: due at 120, warning at 96.
    assert!(clock.retarget(goal(120), None, &always, t(60)).is_empty());
    assert_eq!((clock.due_at, clock.warn_at, clock.generation), (Some(t(120)), Some(t(96)), 1));
    // Raised to half an hour: that is over already, and known now.
    let verdicts = clock.retarget(goal(30), None, &always, t(61));
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].trigger, verdicts[0].at, clock.armed_at), (Trigger::Breach, t(30), t(61)));
}

#[test]
fn a_longer_goal_arms_the_clock_again() {
    let always = Calendar::always();
    let mut clock = resolution(60);
    assert_eq!(clock.judge(t(48)).unwrap().trigger, Trigger::Warning);
    assert!(clock.retarget(goal(120), None, &always, t(50)).is_empty());
    assert_eq!((clock.generation, clock.next_check()), (2, Some(t(96))));
    // Nobody looked until 130: the change is judged by the old goal first, and only then is there a new deadline.
    let verdicts = clock.retarget(goal(480), None, &always, t(130));
    assert_eq!(
        verdicts.iter().map(|v| (v.trigger, v.generation)).collect::<Vec<_>>(),
        [(Trigger::Breach, 2)]
    );
    assert_eq!((clock.state(), clock.generation, clock.due_at), (State::Running, 3, Some(t(480))));
}

#[test]
fn another_calendar_measures_only_what_comes() {
    let always = Calendar::always();
    // From 10:00 to 11:00, which is from 60 to 120 minutes after the start.
    let hour = Window { opens: 36_000, closes: 39_600 };
    let mornings = Calendar::new("UTC", [(Weekday::Mon, hour)], []).unwrap();
    let mut clock = resolution(75);
    assert!(clock.retarget(goal(75), Some(&always), &mornings, t(30)).is_empty());
    assert_eq!(clock.due_at, Some(t(105)), "30 used up, 45 left from 10:00");
    // The contents of its calendar were edited: this run is measured anew, from minute 30 on.
    clock.retarget(goal(75), None, &always, t(90));
    assert_eq!(clock.due_at, Some(t(75)));
    assert_eq!(clock.state(), State::Breached);
}

#[test]
fn cancelled_tickets_are_never_late() {
    let always = Calendar::always();
    let mut clock = resolution(75);
    assert_eq!(clock.follow(Work::Cancelled, &always, t(10)), None);
    assert_eq!((clock.state(), clock.judge(t(100)), clock.next_check()), (State::Cancelled, None, None));
}

#[test]
fn statuses_mean_work() {
    assert_eq!(Work::from(Status::New), Work::Active);
    assert_eq!(Work::from(Status::Pending), Work::Waiting);
    assert_eq!(Work::from(Status::Resolved), Work::Finished);
    assert_eq!(Work::from(Status::Closed), Work::Finished);
    assert_eq!(Work::from(Status::Cancelled), Work::Cancelled);
}

fn office() -> Calendar {
    let days = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri];
    let windows = days.into_iter().map(|day| (day, Window { opens: 28_800, closes: 61_200 }));
    Calendar::new("Europe/Berlin", windows, ["2026-04-03".parse().unwrap()]).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Follow(Work),
    Reply,
    Judge,
    Retarget(Option<i64>, Option<u8>),
    /// Some timer fires exactly when it was asked for.
    Timer,
}

fn ops() -> impl Strategy<Value = Vec<(i64, Op)>> {
    let work = prop::sample::select(&[Work::Active, Work::Waiting, Work::Finished, Work::Cancelled][..]);
    let op = prop_oneof![
        4 => work.prop_map(Op::Follow),
        1 => Just(Op::Reply),
        4 => Just(Op::Judge),
        2 => (prop::option::weighted(0.9, 1i64..6000), prop::option::of(1u8..100)).prop_map(|(t, w)| Op::Retarget(t, w)),
        4 => Just(Op::Timer),
    ];
    prop::collection::vec((0i64..3000, op), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any sequence of changes, against a model that keeps a list of the spans in which the clock ran: a verdict is never
    /// early, never missing after a look, and never given twice in one generation.
    #[test]
    fn never_early_never_missed_never_twice(
        metric in prop::sample::select(Metric::ALL),
        always in any::<bool>(),
        target in 1i64..6000,
        ops in ops(),
    ) {
        let calendar = if always { Calendar::always() } else { office() };
        let mut now = t(0);
        let mut clock = Clock::start(metric, goal(target), now, &calendar, now);
        let mut spans: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
        let mut running_since = Some(now);
        let mut given = std::collections::HashSet::new();
        for (pause, op) in ops {
            now = match (&op, clock.next_check()) {
                (Op::Timer, Some(at)) => now.max(at),
                _ => now + minutes(pause),
            };
            let (before, due_before) = (clock.clone(), clock.due_at);
            let worked = |extra: Option<DateTime<Utc>>| spans.iter().copied().chain(extra.map(|s| (s, now)))
                .fold(TimeDelta::zero(), |sum, (a, b)| sum + calendar.working_between(a, b));
            let total = worked(running_since);
            prop_assert_eq!(clock.elapsed_at(&calendar, now), total);
            let verdicts: Vec<Verdict> = match op {
                Op::Follow(work) => clock.follow(work, &calendar, now).into_iter().collect(),
                Op::Reply => clock.reply(&calendar, now).into_iter().collect(),
                Op::Judge | Op::Timer => clock.judge(now).into_iter().collect(),
                Op::Retarget(target, warn_percent) => {
                    clock.retarget(Goal { target: target.map(minutes), warn_percent }, None, &calendar, now)
                }
            };
            for verdict in &verdicts {
                prop_assert!(verdict.at <= now, "early: {verdict:?} at {now}");
                let needed = match verdict.trigger {
                    Trigger::Breach => verdict.goal.target.unwrap(),
                    Trigger::Warning => verdict.goal.warn_after().unwrap(),
                };
                prop_assert!(total >= needed, "{verdict:?} after only {total}");
                prop_assert!(given.insert((verdict.generation, verdict.trigger)), "twice: {verdict:?}");
            }
            // What was due before this step is found by it, unless the step did not concern this clock.
            if let (Phase::Running { .. }, Some(due), None) = (before.phase, due_before, before.breached_at)
                && due <= now
                && !matches!(op, Op::Follow(Work::Active))
                && !(matches!(op, Op::Reply) && metric == Metric::Resolution)
            {
                prop_assert!(verdicts.iter().any(|v| v.trigger == Trigger::Breach), "missed {due} at {now}: {op:?}");
            }
            prop_assert!(clock.generation >= before.generation);
            if clock.generation == before.generation {
                prop_assert!(before.breached_at.is_none() || clock.breached_at == before.breached_at);
            }
            if let Some(next) = clock.next_check() {
                prop_assert!(clock.breached_at.is_none());
                // Nothing is found before the moment for which the next look is asked.
                let a_moment_before = next - TimeDelta::microseconds(1);
                if now < next {
                    prop_assert_eq!(clock.clone().judge(a_moment_before.max(now)), None);
                    prop_assert!(clock.clone().judge(next).is_some());
                }
            }
            match (running_since, clock.phase) {
                (Some(since), Phase::Running { .. }) => running_since = Some(since),
                (Some(since), _) => { spans.push((since, now)); running_since = None; }
                (None, Phase::Running { since }) => running_since = Some(since),
                (None, _) => {}
            }
        }
    }
}

/// A hundred thousand timers over calendars with clock changes, fired late by up to five minutes, sometimes early (the
/// machine that fires them has a fast clock) and sometimes twice: each deadline is found exactly once and never early.
#[test]
fn a_hundred_thousand_timers() {
    let calendars = [Calendar::always(), office()];
    // A linear congruential generator: the same numbers in every run.
    let mut seed = 20_261_121_u64;
    let mut random = |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as i64) % below
    };
    let (mut early, mut missed, mut twice) = (0, 0, 0);
    for n in 0..100_000 {
        let calendar = &calendars[n % 2];
        let start = t(random(60 * 24 * 60));
        let target = goal(1 + random(2000));
        let mut clock = Clock::start(Metric::Resolution, target, start, calendar, start);
        let (mut warnings, mut breaches) = (0, 0);
        while let Some(at) = clock.next_check() {
            for skew in [-random(300), random(300), random(300)] {
                let now = at + TimeDelta::seconds(skew);
                let Some(verdict) = clock.judge(now) else { continue };
                let used = calendar.working_between(start, now);
                match verdict.trigger {
                    Trigger::Warning => {
                        warnings += 1;
                        early += i32::from(used < target.warn_after().unwrap());
                    }
                    Trigger::Breach => {
                        breaches += 1;
                        early += i32::from(used < target.target.unwrap());
                    }
                }
            }
        }
        missed += i32::from(breaches == 0);
        twice += i32::from(breaches > 1 || warnings > 1);
    }
    assert_eq!((early, missed, twice), (0, 0, 0));
}
