//! What a payload does to the incident of its group.

use super::Grading;
use crate::ticket::Status;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// The incident that the group has now, and what fires in it *after* the payload was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState {
    pub incident: Option<Status>,
    /// When the incident was resolved, if it is.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The worst of what fired before the payload, as monitoring saw it: a person may have graded the ticket otherwise, and
    /// a repetition does not argue with that.
    pub graded: Option<Grading>,
    pub firing: usize,
    /// More may fire than we are told of (`Notification::has_unnamed`): now, and after the payload before.
    pub unnamed: bool,
    pub was_unnamed: bool,
}

/// What the payload brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupChange {
    /// Episodes that began.
    pub started: usize,
    /// Episodes that ended.
    pub ended: usize,
    /// The worst grading of all that fires in the payload.
    pub worst: Option<Grading>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentMove {
    Open,
    /// It was resolved a short time ago: the same trouble again.
    Reopen,
    /// More alerts in an open incident, or worse ones; `Some` when impact or urgency rise.
    Join {
        raise: Option<Grading>,
    },
    Resolve,
    /// Some, but not all, are over; or all that we know of; or all are, and the source does not resolve.
    NoteEnd,
    Nothing,
}

/// `reopen_within`: how long after its resolution an incident is taken up again instead of opening a new one.
pub fn judge_group(
    state: &GroupState,
    change: &GroupChange,
    auto_resolve: bool,
    reopen_within: TimeDelta,
    now: DateTime<Utc>,
) -> IncidentMove {
    let open = state.incident.is_some_and(Status::is_open);
    let raise = match (state.graded, change.worst) {
        (Some(old), Some(new)) if old.worse(new) != old => Some(old.worse(new)),
        _ => None,
    };
    if change.started > 0 {
        return match state.incident {
            Some(_) if open => IncidentMove::Join { raise },
            Some(Status::Resolved) if state.resolved_at.is_some_and(|at| now - at < reopen_within) => {
                IncidentMove::Reopen
            }
            // What began and was over in the same payload needs nobody.
            _ if state.firing == 0 => IncidentMove::Nothing,
            _ => IncidentMove::Open,
        };
    }
    if !open {
        return IncidentMove::Nothing;
    }
    // The end of what was never named shows only in that nothing is unnamed any more.
    let unnamed_ended = state.was_unnamed && !state.unnamed;
    if (change.ended > 0 || unnamed_ended) && state.firing == 0 && !state.unnamed && auto_resolve {
        return IncidentMove::Resolve;
    }
    if change.ended > 0 {
        return IncidentMove::NoteEnd;
    }
    match raise {
        Some(_) => IncidentMove::Join { raise },
        None => IncidentMove::Nothing,
    }
}

/// A key that fits an index entry and says what it is: long ones keep their beginning and get a hash.
pub(super) fn storable_key(prefix: &str, key: &str) -> String {
    const KEEP: usize = 500;
    if key.chars().count() <= KEEP {
        return format!("{prefix}:{key}");
    }
    let start: String = key.chars().take(KEEP).collect();
    format!("{prefix}:{start}#{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::Level;

    const LOW: Grading = Grading { impact: Level::Low, urgency: Level::Low };
    const HIGH: Grading = Grading { impact: Level::High, urgency: Level::High };

    fn judge(incident: Option<Status>, firing: usize, change: GroupChange) -> IncidentMove {
        let resolved_at = (incident == Some(Status::Resolved)).then_some(DateTime::UNIX_EPOCH);
        let graded = incident.map(|_| LOW);
        let state = GroupState { incident, resolved_at, graded, firing, unnamed: false, was_unnamed: false };
        let now = DateTime::UNIX_EPOCH + TimeDelta::minutes(10);
        judge_group(&state, &change, true, TimeDelta::minutes(5), now)
    }

    const STARTED: GroupChange = GroupChange { started: 1, ended: 0, worst: Some(LOW) };
    const ENDED: GroupChange = GroupChange { started: 0, ended: 1, worst: None };
    const REPEATED: GroupChange = GroupChange { started: 0, ended: 0, worst: Some(LOW) };

    #[test]
    fn the_table() {
        use IncidentMove::{Join, NoteEnd, Nothing, Open, Resolve};
        assert_eq!(judge(None, 1, STARTED), Open);
        assert_eq!(judge(Some(Status::InProgress), 2, STARTED), Join { raise: None });
        assert_eq!(judge(Some(Status::Resolved), 1, STARTED), Open);
        assert_eq!(judge(Some(Status::Closed), 1, STARTED), Open);
        assert_eq!(judge(Some(Status::New), 1, ENDED), NoteEnd);
        assert_eq!(judge(Some(Status::New), 0, ENDED), Resolve);
        assert_eq!(judge(Some(Status::Closed), 0, ENDED), Nothing);
        assert_eq!(judge(None, 0, ENDED), Nothing);
        assert_eq!(judge(Some(Status::New), 1, REPEATED), Nothing);
        // A person resolved it while it still fires: repetitions do not argue.
        assert_eq!(judge(Some(Status::Resolved), 1, REPEATED), Nothing);
        let worse = GroupChange { worst: Some(HIGH), ..REPEATED };
        assert_eq!(judge(Some(Status::New), 1, worse), Join { raise: Some(HIGH) });
    }

    #[test]
    fn reopening_and_resolving_are_settings() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::minutes(10);
        let state = GroupState {
            incident: Some(Status::Resolved),
            resolved_at: Some(DateTime::UNIX_EPOCH),
            graded: Some(LOW),
            firing: 1,
            unnamed: false,
            was_unnamed: false,
        };
        let judged = judge_group(&state, &STARTED, true, TimeDelta::minutes(11), now);
        assert_eq!(judged, IncidentMove::Reopen);
        let state = GroupState { incident: Some(Status::New), resolved_at: None, firing: 0, ..state };
        assert_eq!(judge_group(&state, &ENDED, false, TimeDelta::zero(), now), IncidentMove::NoteEnd);
    }

    #[test]
    fn while_more_fires_than_is_named_nothing_is_resolved() {
        let state = GroupState {
            incident: Some(Status::New),
            resolved_at: None,
            graded: Some(LOW),
            firing: 0,
            unnamed: true,
            was_unnamed: false,
        };
        let judge = |state: &GroupState, change| {
            judge_group(state, &change, true, TimeDelta::zero(), DateTime::UNIX_EPOCH)
        };
        assert_eq!(judge(&state, ENDED), IncidentMove::NoteEnd);
        // The next payload leaves nothing out: what it names was over before, and so is the rest.
        let nothing = GroupChange::default();
        let state = GroupState { unnamed: false, was_unnamed: true, ..state };
        assert_eq!(judge(&state, nothing), IncidentMove::Resolve);
        assert_eq!(judge(&GroupState { firing: 1, ..state }, nothing), IncidentMove::Nothing);
        let state = GroupState { was_unnamed: false, ..state };
        assert_eq!(judge(&state, nothing), IncidentMove::Nothing);
    }

    #[test]
    fn long_keys_stay_different() {
        let (a, b) = ("x".repeat(5000) + "a", "x".repeat(5000) + "b");
        assert_ne!(storable_key("group", &a), storable_key("group", &b));
        assert!(storable_key("group", &"\u{1F525}".repeat(5000)).chars().count() <= 1000);
        assert_ne!(storable_key("group", "a"), storable_key("alert", "a"));
    }
}
