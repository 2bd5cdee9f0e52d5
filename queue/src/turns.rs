//! Whose turn it is in a busy lane: shares of a claim between tenants, in proportion to their weights.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) with one job as the unit: a tenant's tag says how much service it has
//! had for its weight, and the smallest tag is served next. A tenant that had nothing to do gets no credit for it. Each
//! process keeps tags of its own: where each shares fairly, the sum does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The tenant of jobs that belong to no organization.
pub(crate) const NOBODY: Uuid = Uuid::nil();
/// Tenants looked at together. With more of them waiting, the next look goes on behind the last one.
pub(crate) const WINDOW: i64 = 1000;
/// How often a lane with a backlog looks who waits when nothing was announced.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
struct Turn {
    tag: f64,
    weight: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Turns {
    tenants: HashMap<Uuid, Turn>,
    waiting: Vec<Uuid>,
    /// The tag from which newcomers start.
    now: f64,
    /// Where the next look begins.
    from: Uuid,
    /// When to look again: with news, and at the latest.
    looks: Option<(Instant, Instant)>,
}

impl Turns {
    /// Whether it is time to look who waits. Looking takes a tenth of the time at most, however many they are.
    pub fn look(&self, now: Instant, news: bool) -> bool {
        self.looks.is_none_or(|(soon, late)| now >= late || (news && now >= soon))
    }

    pub fn from(&self) -> Uuid {
        self.from
    }

    /// Who waits, with their weights, as a look that `took` so long has found them.
    pub fn found(&mut self, heads: &[(Uuid, f64)], now: Instant, took: Duration) {
        self.looks = Some((now + took * 9, now + (took * 9).max(LOOK)));
        self.from = match heads.last() {
            Some((last, _)) if heads.len() as i64 == WINDOW => {
                Uuid::from_u128(last.as_u128().wrapping_add(1))
            }
            _ => NOBODY,
        };
        self.waiting.clear();
        for (tenant, weight) in heads {
            let turn = self.tenants.entry(*tenant).or_insert(Turn { tag: self.now, weight: 1.0 });
            turn.weight = weight.max(0.001);
            turn.tag = turn.tag.max(self.now);
            self.waiting.push(*tenant);
        }
        // A tag in the past says nothing that a newcomer's would not.
        let (waiting, now) = (&self.waiting, self.now);
        if self.tenants.len() > 2 * waiting.len() + 100 {
            self.tenants.retain(|tenant, turn| turn.tag > now || waiting.contains(tenant));
        }
    }

    /// Whether there is anything to share.
    pub fn several(&self) -> bool {
        self.waiting.len() > 1
    }

    /// The one that waits, when nobody else does.
    pub fn only(&self) -> Option<Uuid> {
        match self.waiting[..] {
            [tenant] => Some(tenant),
            _ => None,
        }
    }

    /// How `room` jobs are shared between those that wait.
    pub fn share(&self, room: usize) -> Vec<(Uuid, i64)> {
        let mut heap: BinaryHeap<Reverse<(Tag, Uuid)>> =
            self.waiting.iter().map(|tenant| Reverse((Tag(self.tenants[tenant].tag), *tenant))).collect();
        let mut shares: HashMap<Uuid, i64> = HashMap::new();
        for _ in 0..room {
            let Some(Reverse((tag, tenant))) = heap.pop() else { break };
            *shares.entry(tenant).or_default() += 1;
            heap.push(Reverse((Tag(tag.0 + 1.0 / self.tenants[&tenant].weight), tenant)));
        }
        let mut shares: Vec<_> = shares.into_iter().collect();
        // One order everywhere: claims of several processes meet the tenants' lines in it.
        shares.sort_unstable();
        shares
    }

    /// Jobs of these tenants were claimed.
    pub fn served(&mut self, tenants: impl Iterator<Item = Uuid>) {
        for tenant in tenants {
            if let Some(turn) = self.tenants.get_mut(&tenant) {
                turn.tag += 1.0 / turn.weight;
            }
        }
        let least = self.waiting.iter().map(|tenant| self.tenants[tenant].tag).fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            self.now = self.now.max(least);
        }
    }

    /// Somebody's line has ended: nobody is known to wait until the next look.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.looks = None;
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tag(f64);

impl Eq for Tag {}
impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Tag {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(n: u128) -> Uuid {
        Uuid::from_u128(n + 1)
    }

    fn look(turns: &mut Turns, heads: &[(Uuid, f64)]) {
        turns.found(heads, Instant::now(), Duration::ZERO);
    }

    /// Claims `room` jobs from those that wait, who all have more than enough.
    fn claim(turns: &mut Turns, room: usize) -> Vec<Uuid> {
        let served: Vec<Uuid> =
            turns.share(room).into_iter().flat_map(|(who, jobs)| vec![who; jobs as usize]).collect();
        turns.served(served.iter().copied());
        served
    }

    #[test]
    fn a_newcomer_is_served_at_once_and_gets_no_credit() {
        let mut turns = Turns::default();
        look(&mut turns, &[(tenant(0), 1.0)]);
        for _ in 0..1000 {
            claim(&mut turns, 7);
        }
        look(&mut turns, &[(tenant(0), 1.0), (tenant(1), 1.0)]);
        let served = claim(&mut turns, 10);
        assert_eq!(served.iter().filter(|who| **who == tenant(1)).count(), 5);
    }

    #[test]
    fn one_place_at_a_time_goes_round() {
        let mut turns = Turns::default();
        let heads: Vec<_> = (0..5).map(|n| (tenant(n), 1.0)).collect();
        look(&mut turns, &heads);
        for _ in 0..20 {
            let mut round: Vec<Uuid> = (0..5).flat_map(|_| claim(&mut turns, 1)).collect();
            round.sort_unstable();
            assert_eq!(round, heads.iter().map(|head| head.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_tenants_are_looked_at_in_turn() {
        let mut turns = Turns::default();
        let heads: Vec<_> = (0..WINDOW as u128).map(|n| (tenant(n), 1.0)).collect();
        look(&mut turns, &heads);
        assert_eq!(turns.from(), tenant(WINDOW as u128), "behind the last one");
        look(&mut turns, &heads[..3]);
        assert_eq!(turns.from(), NOBODY, "and round");
    }

    proptest! {
        /// However a backlog is claimed, two tenants that wait all the time never differ by more than one job each from
        /// what their weights say (Goyal's bound with jobs of size one).
        #[test]
        fn shares_follow_the_weights(
            weights in prop::collection::vec(1u32..20, 2..8),
            rooms in prop::collection::vec(1usize..40, 1..60),
        ) {
            let mut turns = Turns::default();
            let heads: Vec<_> =
                weights.iter().enumerate().map(|(n, weight)| (tenant(n as u128), f64::from(*weight))).collect();
            look(&mut turns, &heads);
            let mut served: HashMap<Uuid, f64> = HashMap::new();
            for room in rooms {
                let batch = claim(&mut turns, room);
                prop_assert_eq!(batch.len(), room, "no place stays empty");
                batch.into_iter().for_each(|who| *served.entry(who).or_default() += 1.0);
                for (a, weight_a) in &heads {
                    for (b, weight_b) in &heads {
                        let (a, b) = (served.get(a).unwrap_or(&0.0) / weight_a, served.get(b).unwrap_or(&0.0) / weight_b);
                        prop_assert!((a - b).abs() <= 1.0 / weight_a + 1.0 / weight_b + 1e-6, "{a} {b}");
                    }
                }
            }
        }
    }
}
