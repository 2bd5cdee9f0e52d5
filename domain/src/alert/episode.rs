//! One alert through time. Payloads arrive late, twice and in any order; whatever the order, the alert ends in the same
//! state: it fires if its newest start is younger than its newest end, both by the sender's clock. A resolve wins a tie.
//!
//! One thing those times cannot tell: a sender that lost touch with its relay. Prometheus cannot reach Alertmanager for
//! longer than the alert's `endsAt`, Alertmanager reports it as resolved, and afterwards it fires on with the start it always
//! had. So a firing that arrives well after the resolve did is believed too, whatever its start.

use super::{AlertStatus, Signal};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A firing that is older than a resolve may arrive so much later than it: overtaken requests and the repetitions of
/// clustered Alertmanagers come within seconds. What arrives later still was sent by somebody who sees the alert fire.
pub const OVERTAKEN_BY_AT_MOST: TimeDelta = TimeDelta::minutes(2);

/// What is known of an alert: the newest of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The newest start that any firing told.
    pub latest_start_at: DateTime<Utc>,
    /// When the newest firing arrived; `None` if none ever did.
    pub firing_received_at: Option<DateTime<Utc>>,
    /// Also of the episodes before, while it fires again.
    pub end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The newest that any resolve told.
    pub at: DateTime<Utc>,
    /// When we were told.
    pub received_at: DateTime<Utc>,
}

impl Episode {
    pub fn fires(&self) -> bool {
        match (self.firing_received_at, self.end) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(received_at), Some(end)) => {
                self.latest_start_at > end.at || received_at > end.received_at + OVERTAKEN_BY_AT_MOST
            }
        }
    }
}

/// Each with what is known afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A new episode begins.
    Start(Episode),
    /// It still fires.
    Repeat(Episode),
    /// The episode ends.
    Resolve(Episode),
    /// Nothing changes for the incident.
    Ignore(Why, Episode),
}

impl Decision {
    pub fn episode(&self) -> &Episode {
        match self {
            Decision::Start(episode)
            | Decision::Repeat(episode)
            | Decision::Resolve(episode)
            | Decision::Ignore(_, episode) => episode,
        }
    }
}

/// Why a signal changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is over, and was never known to fire. Remembered, so that a firing that comes later but is older opens nothing.
    UnknownResolve,
    /// A firing that began before the alert was last resolved, and arrived soon after that.
    OlderThanResolve,
    /// A resolve from before the alert fired again.
    OlderThanFiring,
    AlreadyResolved,
}

pub fn decide(known: Option<&Episode>, signal: &Signal, received_at: DateTime<Utc>) -> Decision {
    // The database keeps microseconds: a repetition must not look a few nanoseconds newer. And nothing begins or ends after we
    // were told: a sender whose clock is ahead could otherwise end no alert, and begin none after an end.
    let told = |at: DateTime<Utc>| at.min(received_at).trunc_subsecs(6);
    let start = told(signal.starts_at);
    let fired = known.is_some_and(Episode::fires);
    match signal.status {
        AlertStatus::Firing => {
            let after = Episode {
                latest_start_at: known.map_or(start, |known| known.latest_start_at.max(start)),
                firing_received_at: known.and_then(|known| known.firing_received_at).max(Some(received_at)),
                end: known.and_then(|known| known.end),
            };
            match (fired, after.fires()) {
                (true, _) => Decision::Repeat(after),
                (false, true) => Decision::Start(after),
                (false, false) => Decision::Ignore(Why::OlderThanResolve, after),
            }
        }
        AlertStatus::Resolved => {
            // A sender whose end lies before its start has a broken clock; the start is the safer of the two.
            let at = signal.ends_at.map_or(start, |end| told(end).max(start));
            let end = End { at, received_at };
            let Some(known) = known else {
                let after = Episode { latest_start_at: start, firing_received_at: None, end: Some(end) };
                return Decision::Ignore(Why::UnknownResolve, after);
            };
            if !fired {
                let end = known.end.map_or(end, |old| End {
                    at: old.at.max(end.at),
                    received_at: old.received_at.max(end.received_at),
                });
                return Decision::Ignore(Why::AlreadyResolved, Episode { end: Some(end), ..*known });
            }
            // It fires again since an end that we know: being told of that end once more ends nothing.
            let end = known.end.filter(|old| old.at >= end.at).unwrap_or(end);
            let after = Episode { end: Some(end), ..*known };
            if after.fires() {
                Decision::Ignore(Why::OlderThanFiring, after)
            } else {
                Decision::Resolve(after)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const GRACE: i64 = OVERTAKEN_BY_AT_MOST.num_seconds();

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn signal(start: i64, end: Option<i64>) -> Signal {
        Signal {
            fingerprint: "a".into(),
            status: if end.is_some() { AlertStatus::Resolved } else { AlertStatus::Firing },
            severity: String::new(),
            title: String::new(),
            description: String::new(),
            labels: BTreeMap::new(),
            source_url: None,
            starts_at: at(start),
            ends_at: end.map(at),
        }
    }

    /// A signal and the second at which it arrives.
    type Arrival = (Signal, i64);

    fn firing(start: i64, arrives: i64) -> Arrival {
        (signal(start, None), arrives)
    }

    fn resolve(start: i64, end: i64, arrives: i64) -> Arrival {
        (signal(start, Some(end)), arrives)
    }

    /// All decisions, in the order of the signals.
    fn run(arrivals: &[Arrival]) -> Vec<Decision> {
        let mut known = None;
        arrivals
            .iter()
            .map(|(signal, arrives)| {
                let decision = decide(known.as_ref(), signal, at(*arrives));
                known = Some(*decision.episode());
                decision
            })
            .collect()
    }

    fn fires(arrivals: &[Arrival]) -> bool {
        run(arrivals).last().is_some_and(|decision| decision.episode().fires())
    }

    fn shuffled<T>(mut all: Vec<T>, seed: u64) -> Vec<T> {
        let mut state = seed | 1;
        for i in (1..all.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            all.swap(i, (state >> 33) as usize % (i + 1));
        }
        all
    }

    #[test]
    fn a_resolve_of_something_unknown_starts_nothing() {
        let decisions = run(&[resolve(0, 5, 6), firing(0, 7), firing(6, 8)]);
        assert!(matches!(decisions[0], Decision::Ignore(Why::UnknownResolve, _)));
        assert!(matches!(decisions[1], Decision::Ignore(Why::OlderThanResolve, _)));
        assert!(matches!(decisions[2], Decision::Start(_)));
    }

    #[test]
    fn an_overtaken_firing_does_not_reopen() {
        let decisions =
            run(&[firing(0, 0), resolve(0, 10, 11), firing(0, 12), firing(10, 13), firing(11, 14)]);
        assert!(matches!(decisions[1], Decision::Resolve(_)));
        assert!(matches!(decisions[2], Decision::Ignore(Why::OlderThanResolve, _)));
        assert!(matches!(decisions[3], Decision::Ignore(Why::OlderThanResolve, _)));
        assert!(matches!(decisions[4], Decision::Start(_)));
    }

    /// Prometheus could not reach Alertmanager: the alert timed out there, and then fires on with its old start.
    #[test]
    fn an_alert_that_timed_out_and_fires_on_begins_anew() {
        let decisions = run(&[
            firing(0, 0),
            resolve(0, 240, 241),
            firing(0, 241 + GRACE),
            firing(0, 242 + GRACE),
            firing(0, 300 + GRACE),
            // The old end once more, and then the real one.
            resolve(0, 240, 301 + GRACE),
            resolve(0, 500, 501),
        ]);
        assert!(matches!(decisions[2], Decision::Ignore(Why::OlderThanResolve, _)));
        assert!(matches!(decisions[3], Decision::Start(_)));
        assert!(matches!(decisions[4], Decision::Repeat(_)));
        assert!(matches!(decisions[5], Decision::Ignore(Why::OlderThanFiring, _)));
        assert!(matches!(decisions[6], Decision::Resolve(_)));
    }

    /// The payload with the timeout is worked on last.
    #[test]
    fn an_alert_that_fires_on_is_not_ended_by_the_timeout_before() {
        let decisions = run(&[firing(0, 0), firing(0, 500), resolve(0, 240, 241), firing(0, 501)]);
        assert!(matches!(decisions[2], Decision::Ignore(Why::OlderThanFiring, _)));
        assert!(matches!(decisions[3], Decision::Repeat(_)));
    }

    #[test]
    fn a_late_resolve_does_not_end_the_next_episode() {
        let decisions = run(&[firing(20, 20), resolve(0, 10, 21), resolve(20, 30, 31)]);
        assert!(matches!(decisions[1], Decision::Ignore(Why::OlderThanFiring, _)));
        assert!(matches!(decisions[2], Decision::Resolve(_)));
    }

    /// A sender whose clock is three minutes ahead.
    #[test]
    fn a_start_in_the_future_can_be_ended_now() {
        let decisions = run(&[
            firing(180, 0),
            firing(180, 5),
            resolve(10, 10, 10),
            firing(190, 20),
            resolve(190, 205, 25),
        ]);
        assert!(matches!(decisions[2], Decision::Resolve(_)));
        assert!(matches!(decisions[3], Decision::Start(_)));
        assert!(matches!(decisions[4], Decision::Resolve(_)));
    }

    #[test]
    fn nanoseconds_that_the_database_forgot_are_no_news() {
        let fine = at(10) + TimeDelta::nanoseconds(123_456_789);
        let (mut over, arrives) = resolve(0, 10, 11);
        over.ends_at = Some(fine);
        let known = *run(&[firing(0, 0), (over.clone(), arrives), firing(0, 500)])[2].episode();
        let again = decide(Some(&known), &over, at(501));
        assert!(matches!(again, Decision::Ignore(Why::OlderThanFiring, _)), "{again:?}");
    }

    proptest! {
        /// Any order, any number of repetitions: the same end, as long as nothing is overtaken by more than the grace.
        #[test]
        fn order_and_repetition_do_not_matter(
            times in prop::collection::vec((1i64..400, 0..=GRACE), 1..12),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 0..=GRACE), 0..20),
            seed in any::<u64>(),
        ) {
            // Episodes one after the other: start, end, start, end …; the last one may still be running.
            let mut clock = 0;
            let edges: Vec<(i64, i64)> =
                times.iter().map(|(step, delay)| { clock += step; (clock, *delay) }).collect();
            let mut history = Vec::new();
            for episode in edges.chunks(2) {
                let (start, delay) = episode[0];
                history.push((signal(start, None), start, delay));
                if let Some((end, delay)) = episode.get(1) {
                    history.push((signal(start, Some(*end)), *end, *delay));
                }
            }
            let expected = edges.len() % 2 == 1;
            let mut arrived: Vec<Arrival> =
                history.iter().map(|(signal, sent, delay)| (signal.clone(), sent + delay)).collect();
            prop_assert_eq!(fires(&arrived), expected);

            arrived.extend(picks.iter().map(|(pick, delay)| {
                let (signal, sent, _) = pick.get(&history);
                (signal.clone(), sent + delay)
            }));
            prop_assert_eq!(fires(&shuffled(arrived, seed)), expected);
        }

        /// One resolve between firings that all have the same start: the alert fires if one of them arrived long after it,
        /// in whatever order they are worked on.
        #[test]
        fn a_firing_after_the_grace_counts_in_any_order(
            firings in prop::collection::vec(0i64..1000, 1..10),
            told in 0i64..1000,
            seed in any::<u64>(),
        ) {
            let expected = firings.iter().any(|arrives| *arrives > told + GRACE);
            let mut arrived: Vec<Arrival> = firings.iter().map(|arrives| firing(0, *arrives)).collect();
            arrived.push(resolve(0, told, told));
            prop_assert_eq!(fires(&shuffled(arrived, seed)), expected);
        }

        /// Repeating any signal right away changes nothing.
        #[test]
        fn a_repetition_is_idempotent(
            signals in prop::collection::vec((0i64..50, prop::option::of(0i64..50), 0i64..500), 1..20)
        ) {
            let mut known = None;
            for (start, end, arrives) in signals {
                let signal = signal(start, end);
                let first = *decide(known.as_ref(), &signal, at(arrives)).episode();
                let again = decide(Some(&first), &signal, at(arrives));
                prop_assert_eq!(*again.episode(), first);
                prop_assert!(matches!(again, Decision::Repeat(_) | Decision::Ignore(..)));
                known = Some(first);
            }
        }
    }
}
