use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn at(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

/// How a run ended: messages with the time at which they were sent, calls, and looks at the gate.
struct Told {
    sent: Vec<(usize, DateTime<Utc>)>,
    calls: usize,
    looks: usize,
}

/// `peer(now, call)`: whether it takes the call, else its Retry-After in seconds.
fn run(arrivals: &[DateTime<Utc>], mut peer: impl FnMut(DateTime<Utc>) -> Result<(), i64>) -> Told {
    let mut gate = Gate::default();
    let mut due: BinaryHeap<_> =
        arrivals.iter().enumerate().map(|(message, at)| Reverse((*at, message, None))).collect();
    let mut told = Told { sent: Vec::new(), calls: 0, looks: 0 };
    while let Some(Reverse((now, message, turn))) = due.pop() {
        told.looks += 1;
        assert!(told.looks < 100_000, "it never ends");
        if let Entry::Wait(turn) = gate.enter(now, turn) {
            assert!(turn > now);
            due.push(Reverse((turn, message, Some(turn))));
            continue;
        }
        told.calls += 1;
        match peer(now) {
            Ok(()) => {
                gate.reached(now);
                told.sent.push((message, now));
            }
            Err(wait) => {
                gate.slow_down(now, TimeDelta::seconds(wait));
                let turn = gate.line_up(now);
                due.push(Reverse((turn, message, Some(turn))));
            }
        }
    }
    told
}

/// Takes one call a second.
fn one_a_second(wait: i64) -> impl FnMut(DateTime<Utc>) -> Result<(), i64> {
    let mut free = start();
    move |now| {
        if now < free {
            return Err(wait);
        }
        free = now + TimeDelta::seconds(1);
        Ok(())
    }
}

#[test]
fn a_peer_that_takes_one_a_second_gets_them_all_and_is_hardly_bothered() {
    // 120 messages in eight seconds.
    let arrivals: Vec<_> = (0..120).map(|i| start() + TimeDelta::milliseconds(i * 66)).collect();
    for wait in [0, 1, 5] {
        let told = run(&arrivals, one_a_second(wait));
        assert_eq!(told.sent.len(), 120);
        assert!(told.calls <= 125, "{} calls", told.calls);
        assert!(told.looks <= 500, "{} looks", told.looks);
        let last = told.sent.last().unwrap().1;
        assert!(last <= at(150), "the last at {last}");
        let order = told.sent.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
        assert!(order <= 5, "they keep their order but for the refused ones: {order}");
    }
}

#[test]
fn a_peer_without_limits_is_not_held_back() {
    let told = run(&vec![start(); 500], |_| Ok(()));
    assert_eq!((told.calls, told.looks), (500, 500));
    assert!(told.sent.iter().all(|(_, at)| *at == start()));
}

#[test]
fn a_peer_that_keeps_refusing_is_asked_as_seldom_as_it_wants() {
    let mut calls = Vec::new();
    let told = run(&vec![start(); 50], |now| {
        calls.push(now);
        if now < at(600) { Err(60) } else { Ok(()) }
    });
    assert_eq!(told.sent.len(), 50);
    assert!(calls.iter().filter(|call| **call < at(600)).count() <= 11);
}

#[test]
fn a_wait_of_nothing_is_a_second() {
    let mut gate = Gate::default();
    gate.slow_down(start(), TimeDelta::zero());
    assert_eq!(gate.enter(start(), None), Entry::Wait(at(1)));
    assert_eq!(gate.enter(at(1), Some(at(1))), Entry::Go);
    assert_eq!(gate.enter(at(1), Some(at(1))), Entry::Wait(at(1) + PACE * 1), "one at a time");
    let later = at(1) + PACED_FOR;
    assert!(gate.is_open(later));
}

#[test]
fn a_channel_that_cannot_be_reached_rests_until_one_gets_through() {
    let mut gate = Gate::default();
    for _ in 0..MOST_FAILURES {
        assert_eq!(gate.enter(start(), None), Entry::Go);
    }
    (0..MOST_FAILURES).for_each(|_| gate.unreachable(at(5)));
    assert_eq!((gate.is_resting(), gate.failing_since), (true, Some(at(5))));
    assert_eq!(gate.enter(at(6), None), Entry::Wait(at(15)));
    assert_eq!(gate.enter(at(6), None), Entry::Wait(at(15) + STEP));

    // The first that comes is the probe; the others wait for what it finds.
    assert_eq!(gate.enter(at(15), Some(at(15))), Entry::Go);
    assert!(matches!(gate.enter(at(16), None), Entry::Wait(turn) if turn >= at(45)));
    gate.unreachable(at(20));
    assert_eq!(gate.not_before, Some(at(35)), "as long as it has been failing");
    gate.unreachable(at(20 + 3600));
    assert_eq!(gate.not_before, Some(at(20 + 3600 + 300)), "five minutes at most");

    let back = at(2 * 3600);
    assert_eq!(gate.enter(back, None), Entry::Go);
    gate.reached(back);
    assert!(gate.is_open(back) && gate.failures == 0);
}

#[test]
fn one_answer_forgets_the_failures_before_it() {
    let mut gate = Gate::default();
    for _ in 0..20 {
        gate.unreachable(start());
        gate.reached(start());
    }
    assert_eq!(gate, Gate::default());
}

#[test]
fn a_probe_whose_process_died_does_not_keep_the_channel_closed() {
    let mut gate = Gate { failures: MOST_FAILURES, failing_since: Some(start()), ..Gate::default() };
    assert_eq!(gate.enter(at(10), None), Entry::Go);
    assert!(matches!(gate.enter(at(11), None), Entry::Wait(_)));
    assert_eq!(gate.enter(at(40), None), Entry::Go);
}
