//! The life of a ticket as a table: which move is allowed from where.

use super::TicketKind;
use crate::words::words;

words! {
    Status("status") {
        /// Nobody works on it yet.
        New => "new",
        /// Somebody is named, but has not begun.
        Assigned => "assigned",
        InProgress => "in_progress",
        /// Waiting for somebody else; SLA clocks stand still.
        Pending => "pending",
        /// Solved in the eyes of those who worked on it; the requester may still object.
        Resolved => "resolved",
        Closed => "closed",
        /// Withdrawn, or never a case.
        Cancelled => "cancelled",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ticket that is {from} cannot become {to}: {}", allowed(.kind, .from))]
pub struct IllegalMove {
    pub kind: TicketKind,
    pub from: Status,
    pub to: Status,
}

fn allowed(kind: &TicketKind, from: &Status) -> String {
    let words: Vec<_> = from.moves(*kind).iter().map(|status| status.as_str()).collect();
    if words.is_empty() {
        "this status is final".to_owned()
    } else {
        format!("allowed are {}", words.join(", "))
    }
}

use Status::{Assigned, Cancelled, Closed, InProgress, New, Pending, Resolved};

/// Incidents. From `resolved` and `closed` back to work is a reopening; `cancelled` is final.
const INCIDENT: &[(Status, &[Status])] = &[
    (New, &[Assigned, InProgress, Pending, Resolved, Cancelled]),
    (Assigned, &[New, InProgress, Pending, Resolved, Cancelled]),
    (InProgress, &[New, Assigned, Pending, Resolved, Cancelled]),
    (Pending, &[New, Assigned, InProgress, Resolved, Cancelled]),
    (Resolved, &[New, Assigned, InProgress, Closed]),
    (Closed, &[New, Assigned, InProgress]),
    (Cancelled, &[]),
];

impl Status {
    /// The statuses that a ticket of this kind may move to from here.
    pub fn moves(self, kind: TicketKind) -> &'static [Status] {
        let table = match kind {
            // Requests, problems and changes live by the incident's table until they bring their own.
            TicketKind::Incident | TicketKind::ServiceRequest | TicketKind::Problem | TicketKind::Change => {
                INCIDENT
            }
        };
        table.iter().find(|(from, _)| *from == self).map_or(&[], |(_, to)| to)
    }

    /// `Ok` when the move is in the table.
    pub fn check_move(self, kind: TicketKind, to: Status) -> Result<(), IllegalMove> {
        if self.moves(kind).contains(&to) { Ok(()) } else { Err(IllegalMove { kind, from: self, to }) }
    }

    /// Somebody still has to do something about it.
    pub fn is_open(self) -> bool {
        matches!(self, New | Assigned | InProgress | Pending)
    }

    /// True where SLA clocks stand still.
    pub fn pauses_clocks(self) -> bool {
        self == Pending
    }

    /// From done (`resolved`, `closed`) back to open.
    pub fn is_reopening(self, to: Status) -> bool {
        matches!(self, Resolved | Closed) && to.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_status_stands_in_the_table() {
        for status in Status::ALL {
            assert!(INCIDENT.iter().any(|(from, _)| from == status), "{status} has no row");
            assert!(!status.moves(TicketKind::Incident).contains(status), "{status} moves to itself");
        }
    }

    #[test]
    fn an_illegal_move_says_what_is_allowed() {
        let error = Status::New.check_move(TicketKind::Incident, Status::Closed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a ticket that is new cannot become closed: allowed are assigned, in_progress, pending, resolved, cancelled"
        );
        let error = Status::Cancelled.check_move(TicketKind::Incident, Status::New).unwrap_err();
        assert!(error.to_string().ends_with("this status is final"));
    }

    proptest! {
        /// Whatever moves are tried one after the other, a ticket is closed only after it was resolved, never leaves
        /// `cancelled`, and becomes open again only by what counts as a reopening.
        #[test]
        fn any_walk_keeps_the_rules(tries in proptest::collection::vec(0usize..Status::ALL.len(), 0..60)) {
            let kind = TicketKind::Incident;
            let (mut status, mut resolved_before) = (Status::New, false);
            for index in tries {
                let to = Status::ALL[index];
                if status.check_move(kind, to).is_err() {
                    continue;
                }
                prop_assert_ne!(status, Status::Cancelled);
                prop_assert_ne!(status, to);
                if to == Status::Closed {
                    prop_assert!(resolved_before);
                }
                if !status.is_open() && to.is_open() {
                    prop_assert!(status.is_reopening(to));
                }
                resolved_before |= to == Status::Resolved;
                status = to;
            }
        }

        /// From every open status a ticket can be finished at once.
        #[test]
        fn open_work_can_always_be_resolved(index in 0usize..Status::ALL.len()) {
            let status = Status::ALL[index];
            prop_assert_eq!(status.is_open(), status.check_move(TicketKind::Incident, Status::Resolved).is_ok());
        }
    }
}
