//! Holds a chain against its entries: whatever was changed, removed or put in is found and named.

use super::{Anchor, Digest, Raw, Seal, Step, entry_digest, hex_of, seal_hash};
use domain::OrganizationId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashSet, VecDeque};

/// More of them are counted only.
const MOST_NAMED: usize = 100;

/// Where a chain ends: kept elsewhere, it shows later that nobody has made another chain in place of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub organization: OrganizationId,
    pub position: i64,
    /// Hexadecimal.
    pub hash: String,
}

/// What is wrong. `entry` is a position in the log, `seal` one in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    EntryChanged {
        entry: i64,
    },
    EntryRemoved {
        entry: i64,
    },
    EntryInserted {
        entry: i64,
    },
    /// The values are gone, and no entry tells that they were erased.
    EntryErased {
        entry: i64,
    },
    SealChanged {
        seal: i64,
    },
    SealsRemoved {
        from: i64,
        to: i64,
    },
    SealInserted {
        seal: i64,
    },
    /// It does not follow the one before it.
    SealUnlinked {
        seal: i64,
    },
    /// The beginning is gone, and no entry tells that it was pruned.
    BeginningRemoved {
        seal: i64,
    },
    /// The chain is another one than that of which this head was kept, or ends before it.
    AnotherHead {
        seal: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub organization: OrganizationId,
    pub sealed: u64,
    /// Written since the last seal: protected from the application, not yet by the chain.
    pub unsealed: u64,
    /// Microseconds since 1970 of the oldest of these.
    pub unsealed_since: Option<i64>,
    pub erased: u64,
    pub seals: u64,
    /// The chain begins after this seal; 0: it was never pruned.
    pub pruned_to: i64,
    pub head: Option<Head>,
    pub faults: Vec<Fault>,
    /// Beyond those that are named.
    pub further_faults: u64,
}

impl Report {
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Is given the seals in order, each with what lies in the log up to its last entry.
#[derive(Debug)]
pub struct Verifier {
    report: Report,
    anchor: Option<Anchor>,
    previous: Digest,
    next: i64,
    erased: Vec<i64>,
    told_erased: HashSet<i64>,
    anchor_is_told: bool,
    expected: Option<Head>,
    saw_expected: bool,
}

impl Verifier {
    /// `expected`: a head that was kept elsewhere.
    pub fn new(organization: OrganizationId, expected: Option<Head>) -> Verifier {
        let report = Report {
            organization,
            sealed: 0,
            unsealed: 0,
            unsealed_since: None,
            erased: 0,
            seals: 0,
            pruned_to: 0,
            head: None,
            faults: Vec::new(),
            further_faults: 0,
        };
        Verifier {
            report,
            anchor: None,
            previous: [0; 32],
            next: 1,
            erased: Vec::new(),
            told_erased: HashSet::new(),
            anchor_is_told: true,
            expected,
            saw_expected: false,
        }
    }

    pub fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Begin(anchor) => self.begin(anchor),
            Step::Seal(seal, entries) => self.seal(seal, entries),
            Step::LeftOver(entry) => self.fault(Fault::EntryInserted { entry: entry.seq }),
            Step::Unsealed(entry) => self.unsealed(entry),
        }
    }

    fn begin(&mut self, anchor: Option<&Anchor>) {
        let Some(anchor) = anchor else { return };
        (self.previous, self.next) = (anchor.hash, anchor.position + 1);
        self.report.pruned_to = anchor.position;
        self.anchor_is_told = false;
        self.compare_head(anchor.position, &anchor.hash);
        self.anchor = Some(anchor.clone());
    }

    /// Takes the entries up to the seal's last from the front of `entries`, which holds all of these.
    fn seal(&mut self, seal: &Seal, entries: &mut VecDeque<Raw>) {
        if seal.position < self.next {
            self.fault(Fault::SealInserted { seal: seal.position });
        } else if seal.position > self.next {
            self.fault(Fault::SealsRemoved { from: self.next, to: seal.position - 1 });
        } else if seal.previous != self.previous {
            self.fault(Fault::SealUnlinked { seal: seal.position });
        }
        let organization = self.report.organization;
        let hash = seal_hash(organization, seal.position, &seal.previous, &seal.seqs, &seal.digests);
        if hash != seal.hash || seal.seqs.len() != seal.digests.len() || !seal.seqs.is_sorted() {
            self.fault(Fault::SealChanged { seal: seal.position });
        }
        for (seq, digest) in seal.seqs.iter().zip(&seal.digests) {
            while let Some(entry) = entries.pop_front_if(|entry| entry.seq < *seq) {
                self.fault(Fault::EntryInserted { entry: entry.seq });
            }
            match entries.pop_front_if(|entry| entry.seq == *seq) {
                None => self.fault(Fault::EntryRemoved { entry: *seq }),
                Some(entry) => {
                    self.report.sealed += 1;
                    if entry_digest(organization, &entry) == *digest {
                        self.understand(&entry);
                    } else {
                        self.fault(Fault::EntryChanged { entry: entry.seq });
                    }
                }
            }
        }
        self.compare_head(seal.position, &seal.hash);
        self.previous = seal.hash;
        self.next = self.next.max(seal.position + 1);
        self.report.seals += 1;
        self.report.head = Some(Head { organization, position: seal.position, hash: hex_of(&seal.hash) });
    }

    fn unsealed(&mut self, entry: &Raw) {
        self.report.unsealed += 1;
        let since = self.report.unsealed_since.unwrap_or(entry.at).min(entry.at);
        self.report.unsealed_since = Some(since);
        self.understand(entry);
    }

    /// What the log tells of itself.
    fn understand(&mut self, entry: &Raw) {
        if entry.changes.is_none() {
            self.report.erased += 1;
            self.erased.push(entry.seq);
        }
        if entry.noun != "audit" || entry.category != "security" {
            return;
        }
        let told: Value =
            entry.changes.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        match entry.verb.as_str() {
            "erased" => {
                let entries = told["entries"].as_array().into_iter().flatten();
                self.told_erased.extend(entries.filter_map(Value::as_i64));
            }
            "pruned" => {
                self.anchor_is_told |= self.anchor.as_ref().is_some_and(|anchor| {
                    told["position"] == anchor.position
                        && told["last_seq"] == anchor.last_seq
                        && told["hash"] == hex_of(&anchor.hash)
                });
            }
            _ => {}
        }
    }

    fn compare_head(&mut self, position: i64, hash: &Digest) {
        let Some(head) = self.expected.clone().filter(|head| head.position == position) else { return };
        self.saw_expected = true;
        if !head.hash.eq_ignore_ascii_case(&hex_of(hash)) {
            self.fault(Fault::AnotherHead { seal: position });
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.report.faults.len() < MOST_NAMED {
            self.report.faults.push(fault);
        } else {
            self.report.further_faults += 1;
        }
    }

    pub fn finish(mut self) -> Report {
        let untold: Vec<i64> =
            self.erased.iter().copied().filter(|entry| !self.told_erased.contains(entry)).collect();
        for entry in untold {
            self.fault(Fault::EntryErased { entry });
        }
        if !self.anchor_is_told {
            self.fault(Fault::BeginningRemoved { seal: self.report.pruned_to });
        }
        if let Some(head) = self.expected.clone().filter(|_| !self.saw_expected) {
            self.fault(Fault::AnotherHead { seal: head.position });
        }
        self.report
    }
}
