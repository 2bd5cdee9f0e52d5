//! One alert through time. Payloads arrive late, twice and in any order; whatever the order, the alert ends in the same
//! state, because only the times that the sender gave are compared: it fires if its newest start is younger than its
//! newest end. A resolve wins a tie.

use super::{AlertStatus, Signal};
use chrono::{DateTime, Utc};

/// What is known of the latest episode of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The newest start that any firing told.
    pub latest_start_at: DateTime<Utc>,
    /// `None` while it fires.
    pub ends_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A new episode begins.
    Start,
    /// It still fires; `Episode` after it.
    Repeat(Episode),
    /// The episode ends.
    Resolve(Episode),
    /// Nothing changes for the incident. With an episode, that is what to remember.
    Ignore(Why, Option<Episode>),
}

/// Why a signal changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is over, and was never known to fire. Remembered, so that a firing that comes later but is older opens nothing.
    UnknownResolve,
    /// A firing that began before the alert was last resolved.
    OlderThanResolve,
    /// A resolve from before the alert fired again.
    OlderThanFiring,
    AlreadyResolved,
}

pub fn decide(known: Option<&Episode>, signal: &Signal) -> Decision {
    let start = signal.starts_at;
    match signal.status {
        AlertStatus::Firing => match known {
            None => Decision::Start,
            Some(episode) => match episode.ends_at {
                None => Decision::Repeat(Episode {
                    latest_start_at: episode.latest_start_at.max(start),
                    ends_at: None,
                }),
                Some(end) if start > end => Decision::Start,
                Some(_) => Decision::Ignore(Why::OlderThanResolve, None),
            },
        },
        AlertStatus::Resolved => {
            // A sender whose end lies before its start has a broken clock; the start is the safer of the two.
            let end = signal.ends_at.map_or(start, |end| end.max(start));
            match known {
                None => Decision::Ignore(
                    Why::UnknownResolve,
                    Some(Episode { latest_start_at: start, ends_at: Some(end) }),
                ),
                Some(episode) => match episode.ends_at {
                    None if end < episode.latest_start_at => Decision::Ignore(Why::OlderThanFiring, None),
                    None => Decision::Resolve(Episode { ends_at: Some(end), ..*episode }),
                    Some(before) => Decision::Ignore(
                        Why::AlreadyResolved,
                        Some(Episode { ends_at: Some(end.max(before)), ..*episode }),
                    ),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    /// Applies a decision the way `actions::alerts` does.
    fn after(known: Option<Episode>, signal: &Signal) -> Option<Episode> {
        match decide(known.as_ref(), signal) {
            Decision::Start => Some(Episode { latest_start_at: signal.starts_at, ends_at: None }),
            Decision::Repeat(episode) | Decision::Resolve(episode) => Some(episode),
            Decision::Ignore(_, episode) => episode.or(known),
        }
    }

    fn fires(signals: &[Signal]) -> bool {
        let last = signals.iter().fold(None, after);
        last.is_some_and(|episode| episode.ends_at.is_none())
    }

    #[test]
    fn a_resolve_of_something_unknown_starts_nothing() {
        assert!(matches!(decide(None, &signal(0, Some(5))), Decision::Ignore(Why::UnknownResolve, Some(_))));
    }

    #[test]
    fn a_late_firing_does_not_reopen() {
        let known = Episode { latest_start_at: at(0), ends_at: Some(at(10)) };
        assert_eq!(decide(Some(&known), &signal(0, None)), Decision::Ignore(Why::OlderThanResolve, None));
        assert_eq!(decide(Some(&known), &signal(10, None)), Decision::Ignore(Why::OlderThanResolve, None));
        assert_eq!(decide(Some(&known), &signal(11, None)), Decision::Start);
    }

    #[test]
    fn a_late_resolve_does_not_end_the_next_episode() {
        let known = Episode { latest_start_at: at(20), ends_at: None };
        assert_eq!(decide(Some(&known), &signal(0, Some(10))), Decision::Ignore(Why::OlderThanFiring, None));
        assert!(matches!(decide(Some(&known), &signal(20, Some(30))), Decision::Resolve(_)));
    }

    proptest! {
        /// Any order, any number of repetitions: the same end.
        #[test]
        fn order_and_repetition_do_not_matter(
            times in prop::collection::vec(1i64..100, 1..12),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            shuffle in any::<u64>(),
        ) {
            // Episodes one after the other: start, end, start, end …; the last one may still be running.
            let mut clock = 0;
            let edges: Vec<i64> = times.iter().map(|step| { clock += step; clock }).collect();
            let mut history = Vec::new();
            for episode in edges.chunks(2) {
                history.push(signal(episode[0], None));
                if let Some(end) = episode.get(1) {
                    history.push(signal(episode[0], Some(*end)));
                }
            }
            let expected = edges.len() % 2 == 1;
            prop_assert_eq!(fires(&history), expected);

            let mut arrived = history.clone();
            arrived.extend(picks.iter().map(|pick| pick.get(&history).clone()));
            let mut state = shuffle | 1;
            for i in (1..arrived.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                arrived.swap(i, (state >> 33) as usize % (i + 1));
            }
            prop_assert_eq!(fires(&arrived), expected);
        }

        /// Repeating any signal right away changes nothing.
        #[test]
        fn a_repetition_is_idempotent(signals in prop::collection::vec((0i64..50, prop::option::of(0i64..50)), 1..20)) {
            let mut known = None;
            for (start, end) in signals {
                let signal = signal(start, end);
                known = after(known, &signal);
                prop_assert_eq!(after(known, &signal), known);
                prop_assert_ne!(decide(known.as_ref(), &signal), Decision::Start);
            }
        }
    }
}
