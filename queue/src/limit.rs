//! Limits: how many jobs run at once and how fast they start, over all processes.

use crate::claim::Envelope;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// One limit of a kind of job ([`Job::LIMITS`](crate::Job::LIMITS)). Without `per_…` it counts all jobs of the kind.
///
/// ```
/// use queue::Limit;
/// use std::time::Duration;
///
/// const LIMITS: &[Limit] = &[
///     Limit::at_once(20),                                    // twenty of them, wherever they run
///     Limit::at_once(2).per_key(),                           // two for each key (`Job::limit_key`)
///     Limit::rate(100, Duration::from_secs(60)).per_tenant(), // a hundred starts a minute for each organization
/// ];
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    bound: Bound,
    name: Option<&'static str>,
    per_tenant: bool,
    per_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtOnce(u32),
    /// A bucket of `burst` tokens, filled by one each `gap`.
    Rate {
        gap: Duration,
        burst: u32,
    },
}

impl Limit {
    /// So many run at once, over all processes.
    pub const fn at_once(jobs: u32) -> Limit {
        Limit { bound: Bound::AtOnce(jobs), name: None, per_tenant: false, per_key: false }
    }

    /// So many start in each `period` on the average, over all processes; after a rest up to `jobs` at once (see
    /// [`Limit::burst`]). Each attempt counts.
    ///
    /// # Panics
    /// When `jobs` is 0 or the period is: in a constant, when it is compiled.
    pub const fn rate(jobs: u32, period: Duration) -> Limit {
        assert!(jobs > 0 && !period.is_zero(), "a rate needs jobs and a period");
        let gap = Duration::from_nanos((period.as_nanos() / jobs as u128) as u64);
        Limit { bound: Bound::Rate { gap, burst: jobs }, name: None, per_tenant: false, per_key: false }
    }

    /// How many of a rate may start together after a rest.
    #[must_use]
    pub const fn burst(mut self, jobs: u32) -> Limit {
        assert!(jobs > 0, "a burst of none lets nothing start");
        if let Bound::Rate { gap, .. } = self.bound {
            self.bound = Bound::Rate { gap, burst: jobs };
        }
        self
    }

    /// Counts for each organization by itself.
    #[must_use]
    pub const fn per_tenant(mut self) -> Limit {
        self.per_tenant = true;
        self
    }

    /// Counts for each key by itself (an endpoint, a mailbox). Jobs without a key are not limited by it.
    #[must_use]
    pub const fn per_key(mut self) -> Limit {
        self.per_key = true;
        self
    }

    /// Kinds that name the same limit share it.
    #[must_use]
    pub const fn shared(mut self, name: &'static str) -> Limit {
        self.name = Some(name);
        self
    }

    /// As it is named in `queue.limits`, in metrics and for operators.
    fn full_name(&self, kind: &str) -> String {
        let rate = if matches!(self.bound, Bound::Rate { .. }) { "/rate" } else { "" };
        let tenant = if self.per_tenant { "/tenant" } else { "" };
        let key = if self.per_key { "/key" } else { "" };
        format!("{}{rate}{tenant}{key}", self.name.unwrap_or(kind))
    }
}

/// A limit as the database keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declared {
    pub name: String,
    pub at_once: Option<i32>,
    pub per_second: Option<f64>,
    pub burst: i32,
}

#[derive(Debug)]
struct Named {
    limit: Limit,
    name: Arc<str>,
}

/// The limits of all kinds that a process knows.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    kinds: HashMap<&'static str, Vec<Named>>,
}

/// One thing that a job needs to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Need {
    pub slot: String,
    pub limit: Arc<str>,
    pub is_rate: bool,
}

impl Limits {
    /// # Panics
    /// When a kind has two limits of the same sort: a programming error.
    pub fn add(&mut self, kind: &'static str, limits: &[Limit]) {
        let mut named: Vec<Named> =
            limits.iter().map(|limit| Named { limit: *limit, name: limit.full_name(kind).into() }).collect();
        // A token is taken only by a job that could run but for it.
        named.sort_by_key(|named| matches!(named.limit.bound, Bound::Rate { .. }));
        for (n, one) in named.iter().enumerate() {
            let twice = named[..n].iter().any(|other| other.name == one.name);
            assert!(!twice, "{kind} has two limits named {}", one.name);
        }
        if !named.is_empty() {
            self.kinds.insert(kind, named);
        }
    }

    /// # Panics
    /// When two kinds give the same limit different numbers: a programming error.
    pub fn declared(&self) -> Vec<Declared> {
        let mut all: HashMap<&str, Declared> = HashMap::new();
        for named in self.kinds.values().flatten() {
            let (at_once, per_second, burst) = match named.limit.bound {
                Bound::AtOnce(jobs) => (Some(number(jobs)), None, 1),
                Bound::Rate { gap, burst } => (None, Some(1.0 / gap.as_secs_f64().max(1e-9)), number(burst)),
            };
            let declared = Declared { name: named.name.to_string(), at_once, per_second, burst };
            let before = all.insert(&named.name, declared.clone());
            assert!(
                before.is_none_or(|before| before == declared),
                "two kinds declare the limit {} with different numbers",
                named.name
            );
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What the job needs to run, rates last.
    pub fn needs(&self, job: &Envelope) -> Vec<Need> {
        let mut needs = Vec::new();
        if job.lane_limited {
            let slot = format!("lane:{}", job.lane);
            needs.push(Need { limit: slot.as_str().into(), slot, is_rate: false });
        }
        for named in self.kinds.get(job.kind.as_str()).into_iter().flatten() {
            let key = job.limit_key.as_deref().filter(|key| !key.is_empty());
            if named.limit.per_key && key.is_none() {
                continue;
            }
            let mut slot = named.name.to_string();
            if named.limit.per_tenant {
                slot.push(':');
                slot.push_str(&job.organization.unwrap_or_default().to_string());
            }
            if let (true, Some(key)) = (named.limit.per_key, key) {
                slot.push(':');
                slot.push_str(key);
            }
            let is_rate = matches!(named.limit.bound, Bound::Rate { .. });
            needs.push(Need { slot, limit: named.name.clone(), is_rate });
        }
        needs
    }
}

fn number(jobs: u32) -> i32 {
    i32::try_from(jobs).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_after_the_kind_and_what_they_count_by() {
        let mut limits = Limits::default();
        limits.add(
            "send",
            &[
                Limit::rate(10, Duration::from_secs(1)).burst(3).per_key(),
                Limit::at_once(2).per_tenant().per_key(),
                Limit::at_once(20).shared("smtp"),
            ],
        );
        limits.add("fetch", &[Limit::at_once(20).shared("smtp")]);
        let declared: Vec<_> =
            limits.declared().into_iter().map(|d| (d.name, d.at_once, d.per_second, d.burst)).collect();
        assert_eq!(
            declared,
            [
                ("send/rate/key".to_owned(), None, Some(10.0), 3),
                ("send/tenant/key".to_owned(), Some(2), None, 1),
                ("smtp".to_owned(), Some(20), None, 1),
            ]
        );
    }

    #[test]
    #[should_panic(expected = "two limits named send")]
    fn a_limit_stands_once() {
        Limits::default().add("send", &[Limit::at_once(1), Limit::at_once(2)]);
    }

    #[test]
    #[should_panic(expected = "different numbers")]
    fn a_shared_limit_has_one_number() {
        let mut limits = Limits::default();
        limits.add("a", &[Limit::at_once(1).shared("x")]);
        limits.add("b", &[Limit::at_once(2).shared("x")]);
        limits.declared();
    }
}
