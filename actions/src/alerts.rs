//! A payload of a monitoring system becomes incidents: one for each group, whatever arrives twice or at once.
//!
//! Payloads of one group take turns on the lock of its row. Within that, what changes is decided by the pure rules of
//! `domain::alert`; this file loads what they need and writes what they say.

mod incident;

use crate::Result;
use crate::tickets::NewTicket;
use chrono::{DateTime, Utc};
use domain::alert::{
    AlertSourceKind, AlertStatus, Decision, Episode, Grading, GroupChange, Grouping, Notification, Signal,
    Why, decide,
};
use domain::{Actor, AlertId, TicketId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use queue::trace::TraceContext;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;
use store::Tx;
use store::alert_sources::AlertSource;
use store::alerts::{Alert, Group};
use uuid::Uuid;

/// What a payload did to one group; the words are values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Opened,
    Reopened,
    /// More or worse alerts in an open incident.
    Joined,
    Resolved,
    /// An alert of several ended.
    Noted,
    /// It fires as before.
    Repeated,
    Ignored(Why),
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Opened => "opened",
            Outcome::Reopened => "reopened",
            Outcome::Joined => "joined",
            Outcome::Resolved => "resolved",
            Outcome::Noted => "noted",
            Outcome::Repeated => "repeated",
            Outcome::Ignored(_) => "ignored",
        }
    }

    /// Why nothing happened, for the inbox.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Ignored(Why::UnknownResolve) => Some("the end of an alert that was never known to fire"),
            Outcome::Ignored(Why::OlderThanResolve) => {
                Some("it fired before it was last resolved, and was overtaken by that")
            }
            Outcome::Ignored(Why::OlderThanFiring) => {
                Some("the end of an earlier episode: it fires again since")
            }
            Outcome::Ignored(Why::AlreadyResolved) => Some("already resolved"),
            _ => None,
        }
    }
}

/// Counts what became of a payload, after the commit. `source` is the kind of the monitoring system: the names of sources
/// belong to their organizations. Beside the words of [`Outcome`]: `invalid`, `throttled`, `failed`.
pub fn count(source: AlertSourceKind, outcome: &str) {
    static INGESTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
        register_int_counter_vec!(
            "relaydesk_alert_ingest_total",
            "What became of alerts",
            &["source", "outcome"]
        )
        .expect("a metric is registered once")
    });
    INGESTED.with_label_values(&[source.as_str(), outcome]).inc();
}

#[derive(Clone, Copy, Debug)]
pub struct Ingested {
    pub outcome: Outcome,
    pub incident: Option<TicketId>,
}

/// Groups that are applied in one transaction: from the first new incident to its end, nobody else in the organization
/// gets a ticket number.
pub const GROUPS: usize = 50;

/// What of a payload is to be applied: up to [`GROUPS`] groups, those after the first `skip`. Fewer than there are left: come
/// again with a larger `skip`.
pub struct Payload<'a> {
    pub notification: &'a Notification,
    pub received_at: DateTime<Utc>,
    pub skip: usize,
    /// The trace in which it came.
    pub trace: Option<TraceContext>,
}

impl Payload<'_> {
    fn groups(&self, source: &AlertSource) -> impl Iterator<Item = (String, Vec<&Signal>)> {
        self.notification.groups(source.grouping).into_iter().skip(self.skip).take(GROUPS)
    }
}

/// Applies payloads of one source in the caller's transaction, in their order. For each payload one entry for each group it
/// concerns. What does not touch each other is done together, in as many statements as a single group takes.
pub async fn ingest(
    tx: &mut Tx,
    actor: &Actor,
    source: &AlertSource,
    payloads: &[Payload<'_>],
) -> Result<Vec<Vec<Ingested>>> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        let groups = payload.groups(source);
        items.extend(groups.map(|(key, signals)| Item { index, payload, key, signals }));
    }
    let mut done = vec![Vec::new(); payloads.len()];
    let mut rest = items.as_slice();
    if apart(rest) < rest.len() {
        // Some come later: all groups are locked now, in the order in which everybody locks them.
        claim(tx, source, rest).await?;
    }
    while !rest.is_empty() {
        let (together, later) = rest.split_at(apart(rest).max(1));
        if !apply(tx, actor, source, together, &mut done).await? {
            for item in together.chunks(1) {
                apply(tx, actor, source, item, &mut done).await?;
            }
        }
        rest = later;
    }
    Ok(done)
}

/// One group of a payload.
struct Item<'a> {
    /// Of the payload.
    index: usize,
    payload: &'a Payload<'a>,
    key: String,
    signals: Vec<&'a Signal>,
}

/// How many of the first are about groups and alerts of their own, each.
fn apart(items: &[Item<'_>]) -> usize {
    let (mut keys, mut fingerprints) = (HashSet::new(), HashSet::new());
    let mut count = 0;
    for item in items {
        let own: HashSet<&str> = item.signals.iter().map(|signal| signal.fingerprint.as_str()).collect();
        if !keys.insert(&item.key) || !own.is_disjoint(&fingerprints) {
            break;
        }
        fingerprints.extend(own);
        count += 1;
    }
    count
}

/// The groups, locked in the order of their keys, so that transactions with the same groups lock them in the same order.
async fn claim(tx: &mut Tx, source: &AlertSource, items: &[Item<'_>]) -> Result<HashMap<String, Group>> {
    let keys: BTreeSet<&String> = items.iter().map(|item| &item.key).collect();
    let keys: Vec<String> = keys.into_iter().cloned().collect();
    Ok(store::alerts::claim_groups(tx, source.id, &keys).await?)
}

/// Answers false, having changed nothing, when several are given and one has an alert that fires in another's group.
async fn apply(
    tx: &mut Tx,
    actor: &Actor,
    source: &AlertSource,
    items: &[Item<'_>],
    done: &mut [Vec<Ingested>],
) -> Result<bool> {
    let groups = claim(tx, source, items).await?;
    let own = |item: &Item<'_>| groups.get(&item.key).copied().ok_or(crate::Error::NotFound);
    let ids: Vec<Uuid> = groups.values().map(|group| group.id).collect();
    let fingerprints: Vec<String> =
        items.iter().flat_map(|item| &item.signals).map(|signal| signal.fingerprint.clone()).collect();
    let alerts = store::alerts::current(tx, source.id, &ids, &fingerprints).await?;
    let mut loaded = Vec::with_capacity(items.len());
    for item in items {
        let group = own(item)?;
        let signals: HashSet<&str> = item.signals.iter().map(|signal| signal.fingerprint.as_str()).collect();
        let concerned =
            |alert: &&Alert| alert.group == group.id || signals.contains(alert.fingerprint.as_str());
        let alerts: Vec<Alert> = alerts.iter().filter(concerned).cloned().collect();
        if items.len() > 1 && !elsewhere(&alerts, group.id).is_empty() {
            return Ok(false);
        }
        loaded.push((item, group, alerts));
    }
    let mut settled = Vec::with_capacity(items.len());
    for (item, group, alerts) in loaded {
        let mut working = Working::load(tx, source, group, &item.signals, alerts).await?;
        for signal in &item.signals {
            working.apply(source, signal, item.payload.received_at);
        }
        let settling = working.settle(tx, actor, source, item.payload);
        settled.push(match item.payload.trace {
            Some(trace) => queue::trace::scope(trace, settling).await?,
            None => settling.await?,
        });
    }
    incident::open(tx, actor, &mut settled).await?;
    let (mut changed, mut incidents) = (Vec::new(), Vec::new());
    for (item, settled) in items.iter().zip(settled) {
        done[item.index].extend(settled.finish(&mut changed, &mut incidents));
    }
    store::alerts::save(tx, &changed, &incidents).await?;
    Ok(true)
}

/// One group, and those others in which its alerts fire already (an alert that the sender regrouped stays where it is).
struct Working<'a> {
    own: Uuid,
    groups: BTreeMap<Uuid, Concern<'a>>,
    alerts: Vec<Alert>,
    /// The latest episode of each fingerprint, as an index of `alerts`.
    latest: HashMap<String, usize>,
    changed: Vec<bool>,
}

/// A group whose incidents have moved; those that are to be opened come to it by [`incident::open`].
struct Settled<'a> {
    moves: Vec<(Concern<'a>, Move)>,
    alerts: Vec<Alert>,
    changed: Vec<bool>,
}

enum Move {
    Done(Ingested),
    Open(Box<NewTicket>),
}

/// What is left of a group after the payload.
#[derive(Clone, Copy)]
struct Rest {
    firing: usize,
    /// More may fire than we are told of.
    unnamed: bool,
}

struct Concern<'a> {
    group: Group,
    graded: Option<Grading>,
    change: GroupChange,
    started: Vec<(AlertId, &'a Signal)>,
    ended: Vec<&'a Signal>,
    repeated: bool,
    ignored: Option<Why>,
}

impl<'a> Working<'a> {
    /// `alerts`: those of the group, and the latest episodes of the signals.
    async fn load(
        tx: &mut Tx,
        source: &AlertSource,
        own: Group,
        signals: &[&'a Signal],
        mut alerts: Vec<Alert>,
    ) -> Result<Self> {
        let fingerprints: Vec<String> = signals.iter().map(|signal| signal.fingerprint.clone()).collect();
        let mut groups = vec![own];
        let mut others: Vec<Uuid> = elsewhere(&alerts, own.id);
        others.sort();
        others.dedup();
        if !others.is_empty() {
            groups.extend(store::alerts::lock_groups(tx, &others).await?);
            others.push(own.id);
            alerts = store::alerts::current(tx, source.id, &others, &fingerprints).await?;
        }
        let concern = |group: Group| Concern {
            group,
            graded: worst(source, alerts.iter().filter(|alert| alert.group == group.id)),
            change: GroupChange::default(),
            started: Vec::new(),
            ended: Vec::new(),
            repeated: false,
            ignored: None,
        };
        let groups = groups.into_iter().map(|group| (group.id, concern(group))).collect();
        // Ordered by id, so that the latest episode of a fingerprint is the last to be put in.
        let latest =
            alerts.iter().enumerate().map(|(index, alert)| (alert.fingerprint.clone(), index)).collect();
        let changed = vec![false; alerts.len()];
        Ok(Working { own: own.id, groups, alerts, latest, changed })
    }

    fn apply(&mut self, source: &AlertSource, signal: &'a Signal, received_at: DateTime<Utc>) {
        let index = self.latest.get(&signal.fingerprint).copied();
        let known = index.map(|index| self.alerts[index].episode());
        let decision = decide(known.as_ref(), signal, received_at);
        // A resolved episode of a group that is not ours says nothing about that group any more.
        let home =
            index.map(|index| self.alerts[index].group).filter(|group| self.groups.contains_key(group));
        let home = if matches!(decision, Decision::Start(_)) { self.own } else { home.unwrap_or(self.own) };
        match (decision, index) {
            (Decision::Start(episode), _) => {
                let id = self.begin(source, signal, received_at, episode);
                self.groups.entry(home).and_modify(|concern| {
                    concern.change.started += 1;
                    concern.started.push((id, signal));
                    concern.grade(source.severity_map.grade(&signal.severity));
                });
            }
            (Decision::Repeat(episode), Some(index)) => {
                let alert = &mut self.alerts[index];
                if received_at >= alert.last_received_at {
                    alert.severity.clone_from(&signal.severity);
                    alert.title.clone_from(&signal.title);
                    alert.description.clone_from(&signal.description);
                    alert.labels.clone_from(&signal.labels);
                }
                let grading = source.severity_map.grade(&alert.severity);
                self.touch(index, received_at, episode);
                self.groups.entry(home).and_modify(|concern| {
                    concern.repeated = true;
                    concern.grade(grading);
                });
            }
            (Decision::Resolve(episode), Some(index)) => {
                self.touch(index, received_at, episode);
                self.groups.entry(home).and_modify(|concern| {
                    concern.change.ended += 1;
                    concern.ended.push(signal);
                });
            }
            (Decision::Ignore(why, episode), index) => {
                match index {
                    None => drop(self.begin(source, signal, received_at, episode)),
                    Some(index) => self.touch(index, received_at, episode),
                }
                self.groups.entry(home).and_modify(|concern| concern.ignored = Some(why));
            }
            // The rules repeat and resolve only what is known.
            (Decision::Repeat(_) | Decision::Resolve(_), None) => {}
        }
    }

    fn begin(
        &mut self,
        source: &AlertSource,
        signal: &Signal,
        received_at: DateTime<Utc>,
        episode: Episode,
    ) -> AlertId {
        let id = AlertId::new();
        let (status, ends_at) = status(&episode);
        self.latest.insert(signal.fingerprint.clone(), self.alerts.len());
        self.changed.push(true);
        self.alerts.push(Alert {
            id,
            source: source.id,
            group: self.own,
            fingerprint: signal.fingerprint.clone(),
            status,
            severity: signal.severity.clone(),
            title: signal.title.clone(),
            description: signal.description.clone(),
            labels: signal.labels.clone(),
            source_url: signal.source_url.clone(),
            starts_at: signal.starts_at,
            latest_start_at: episode.latest_start_at,
            firing_received_at: episode.firing_received_at,
            ends_at,
            latest_end: episode.end,
            received_count: 1,
            first_received_at: received_at,
            last_received_at: received_at,
            incident: None,
        });
        id
    }

    fn touch(&mut self, index: usize, received_at: DateTime<Utc>, episode: Episode) {
        let alert = &mut self.alerts[index];
        (alert.status, alert.ends_at) = status(&episode);
        alert.latest_start_at = episode.latest_start_at;
        alert.firing_received_at = episode.firing_received_at;
        alert.latest_end = episode.end;
        alert.received_count += 1;
        alert.last_received_at = alert.last_received_at.max(received_at);
        self.changed[index] = true;
    }

    /// Moves the incidents that are there.
    async fn settle(
        self,
        tx: &mut Tx,
        actor: &Actor,
        source: &AlertSource,
        payload: &Payload<'_>,
    ) -> Result<Settled<'a>> {
        let mut moves = Vec::with_capacity(self.groups.len());
        for (group, concern) in self.groups {
            let firing =
                self.alerts.iter().filter(|a| a.group == group && a.status == AlertStatus::Firing).count();
            // What a payload leaves out belongs to the group that it is about.
            let unnamed = if group == self.own && source.grouping == Grouping::Group {
                payload.notification.has_unnamed()
            } else {
                concern.group.has_unnamed
            };
            let rest = Rest { firing, unnamed };
            let moved = incident::settle(tx, actor, source, payload, &concern, rest).await?;
            if unnamed != concern.group.has_unnamed {
                store::alerts::set_unnamed(tx, group, unnamed).await?;
            }
            moves.push((concern, moved));
        }
        Ok(Settled { moves, alerts: self.alerts, changed: self.changed })
    }
}

impl Settled<'_> {
    /// The alerts to be written, and the incidents that groups have from now on.
    fn finish(mut self, changed: &mut Vec<Alert>, incidents: &mut Vec<(Uuid, TicketId)>) -> Vec<Ingested> {
        let mut done = Vec::new();
        for (concern, moved) in self.moves {
            let Move::Done(moved) = moved else { continue };
            let started: Vec<AlertId> = concern.started.iter().map(|(id, _)| *id).collect();
            // What began and was over in one payload belongs to no incident.
            if matches!(moved.outcome, Outcome::Opened | Outcome::Reopened | Outcome::Joined) {
                for alert in self.alerts.iter_mut().filter(|alert| started.contains(&alert.id)) {
                    alert.incident = moved.incident;
                }
            }
            if moved.incident != concern.group.incident
                && let Some(incident) = moved.incident
            {
                incidents.push((concern.group.id, incident));
            }
            if concern.is_concerned() {
                done.push(moved);
            }
        }
        let alerts = self.alerts.into_iter().zip(self.changed);
        changed.extend(alerts.filter(|(_, changed)| *changed).map(|(alert, _)| alert));
        done
    }
}

impl Concern<'_> {
    fn grade(&mut self, grading: Grading) {
        self.change.worst = Some(self.change.worst.map_or(grading, |worst| worst.worse(grading)));
    }

    /// The payload named this group, or an alert in it.
    fn is_concerned(&self) -> bool {
        self.repeated || self.ignored.is_some() || !self.started.is_empty() || !self.ended.is_empty()
    }
}

fn status(episode: &Episode) -> (AlertStatus, Option<DateTime<Utc>>) {
    match episode.end.filter(|_| !episode.fires()) {
        Some(end) => (AlertStatus::Resolved, Some(end.at)),
        None => (AlertStatus::Firing, None),
    }
}

/// The other groups in which alerts of the payload fire.
fn elsewhere(alerts: &[Alert], own: Uuid) -> Vec<Uuid> {
    alerts
        .iter()
        .filter(|alert| alert.group != own && alert.status == AlertStatus::Firing)
        .map(|alert| alert.group)
        .collect()
}

fn worst<'b>(source: &AlertSource, alerts: impl Iterator<Item = &'b Alert>) -> Option<Grading> {
    alerts
        .filter(|alert| alert.status == AlertStatus::Firing)
        .map(|alert| source.severity_map.grade(&alert.severity))
        .reduce(Grading::worse)
}
