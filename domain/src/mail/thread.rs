//! Where a mail belongs: a new ticket, a comment on one, or nothing, and why.
//!
//! Senders can be forged, numbers guessed. So a ticket's number in the subject counts only together with a sender who
//! takes part in the ticket, and only the Message-ID of a mail that we sent (its random half is not to be guessed)
//! lets somebody else in, and then as an internal note. A public comment of staff is mailed on in the desk's name and is
//! the first response: so it takes the Message-ID of a mail that we sent to that very address. An id that went to
//! anybody else, or a number, proves nothing about a member of staff.

use crate::TicketId;
use crate::mail::Automatic;
use crate::ticket::{Status, Visibility};

/// A ticket that a mail refers to, and how its sender stands to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub ticket: TicketId,
    pub status: Status,
    /// Found by the Message-ID of a mail that we sent (not of one that came in).
    pub ours: bool,
    /// We sent that mail to the very address that writes now.
    pub addressee: bool,
    /// The mail it answers was internal.
    pub internal: bool,
    /// The sender is requester, assignee or watcher, staff, or the very person to whom we sent the mail that is answered.
    pub participant: bool,
    pub staff: bool,
}

/// What the store knows about a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub automatic: Option<Automatic>,
    /// By In-Reply-To and References, the nearest first.
    pub referenced: Vec<Hit>,
    /// By the number in the subject.
    pub numbered: Option<Hit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    Loop(&'static str),
    Bounce,
    AutomaticReply(&'static str),
}

impl Ignored {
    /// For `mail_ingest_total{outcome}`.
    pub fn outcome(self) -> &'static str {
        match self {
            Ignored::Loop(_) => "loop",
            Ignored::Bounce => "bounce",
            Ignored::AutomaticReply(_) => "auto_reply",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Ignored::Loop(why) | Ignored::AutomaticReply(why) => why,
            Ignored::Bounce => "it is a delivery report",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A new ticket; linked to the closed one that the mail answers, if any.
    Open { follows: Option<TicketId> },
    Comment {
        ticket: TicketId,
        visibility: Visibility,
        /// Written by somebody who is not part of the ticket.
        stranger: bool,
    },
    /// Nothing is opened or written; the mail stays in the inbox, with the ticket that it is about.
    Ignore { why: Ignored, about: Option<TicketId> },
}

pub fn decide(facts: &Facts) -> Decision {
    // A bounce's own reference may be to a mail that came in: good enough to link it, not to write.
    let about = facts
        .referenced
        .first()
        .or(facts.numbered.as_ref().filter(|hit| hit.participant))
        .map(|hit| hit.ticket);
    match facts.automatic {
        Some(Automatic::Loop(why)) => {
            return Decision::Ignore { why: Ignored::Loop(why), about };
        }
        Some(Automatic::Bounce) => {
            return Decision::Ignore { why: Ignored::Bounce, about };
        }
        Some(Automatic::Reply(why)) => {
            return Decision::Ignore { why: Ignored::AutomaticReply(why), about };
        }
        Some(Automatic::Machine(_)) | None => {}
    }
    let referenced = facts.referenced.iter().find(|hit| hit.ours || hit.participant);
    let numbered = facts.numbered.as_ref().filter(|hit| hit.participant);
    match (referenced, numbered) {
        (Some(hit), _) => answer(hit, true),
        (None, Some(hit)) => answer(hit, false),
        (None, None) => Decision::Open { follows: None },
    }
}

fn answer(hit: &Hit, by_reference: bool) -> Decision {
    let over = matches!(hit.status, Status::Closed | Status::Cancelled);
    if over && !hit.staff && hit.participant {
        return Decision::Open { follows: Some(hit.ticket) };
    }
    if over && !hit.participant {
        return Decision::Open { follows: None };
    }
    let proven = by_reference && hit.ours && hit.addressee;
    let public = hit.participant && !hit.internal && (!hit.staff || proven);
    Decision::Comment {
        ticket: hit.ticket,
        visibility: if public { Visibility::Public } else { Visibility::Internal },
        stranger: !hit.participant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hit(status: Status) -> Hit {
        let ticket = TicketId(uuid::Uuid::from_u128(1));
        Hit { ticket, status, ours: true, addressee: true, internal: false, participant: true, staff: false }
    }

    fn referenced(hit: Hit) -> Decision {
        decide(&Facts { referenced: vec![hit], ..Facts::default() })
    }

    fn numbered(hit: Hit) -> Decision {
        decide(&Facts { numbered: Some(Hit { ours: false, ..hit }), ..Facts::default() })
    }

    fn comment(visibility: Visibility, stranger: bool) -> Decision {
        Decision::Comment { ticket: hit(Status::New).ticket, visibility, stranger }
    }

    #[test]
    fn the_requester_answers() {
        use Visibility::*;
        let ticket = hit(Status::New).ticket;
        assert_eq!(decide(&Facts::default()), Decision::Open { follows: None });
        assert_eq!(referenced(hit(Status::New)), comment(Public, false));
        assert_eq!(numbered(hit(Status::New)), comment(Public, false));
        assert_eq!(referenced(hit(Status::Resolved)), comment(Public, false));
        assert_eq!(referenced(hit(Status::Closed)), Decision::Open { follows: Some(ticket) });
        assert_eq!(referenced(Hit { internal: true, ..hit(Status::New) }), comment(Internal, false));
    }

    #[test]
    fn strangers_open_tickets_or_leave_notes() {
        let stranger = Hit { participant: false, ..hit(Status::New) };
        assert_eq!(numbered(stranger), Decision::Open { follows: None });
        assert_eq!(referenced(Hit { ours: false, ..stranger }), Decision::Open { follows: None });
        assert_eq!(referenced(stranger), comment(Visibility::Internal, true));
        let closed = Hit { status: Status::Closed, ..stranger };
        assert_eq!(referenced(closed), Decision::Open { follows: None });
    }

    #[test]
    fn staff_are_public_only_when_they_answer_our_mail() {
        let staff = Hit { staff: true, ..hit(Status::Resolved) };
        assert_eq!(referenced(staff), comment(Visibility::Public, false));
        assert_eq!(numbered(staff), comment(Visibility::Internal, false));
        assert_eq!(referenced(Hit { ours: false, ..staff }), comment(Visibility::Internal, false));
    }

    #[test]
    fn a_mail_that_we_sent_to_somebody_else_proves_nothing_about_staff() {
        // The receipt went to a stranger, who now writes as an agent.
        let forged = Hit { staff: true, addressee: false, ..hit(Status::New) };
        assert_eq!(referenced(forged), comment(Visibility::Internal, false));
        // An end user who takes part is not mailed on: the ticket's number would do as well.
        assert_eq!(referenced(Hit { staff: false, ..forged }), comment(Visibility::Public, false));
    }

    #[test]
    fn the_nearest_acceptable_reference_wins() {
        let near = Hit {
            ticket: TicketId(uuid::Uuid::from_u128(2)),
            ours: false,
            participant: false,
            ..hit(Status::New)
        };
        let facts = Facts { referenced: vec![near, hit(Status::New)], ..Facts::default() };
        assert_eq!(decide(&facts), comment(Visibility::Public, false));
    }

    fn any_hit() -> impl Strategy<Value = Hit> {
        let status = prop::sample::select(vec![
            Status::New,
            Status::Assigned,
            Status::InProgress,
            Status::Pending,
            Status::Resolved,
            Status::Closed,
            Status::Cancelled,
        ]);
        (1u128..4, status, any::<[bool; 5]>()).prop_map(
            |(ticket, status, [ours, addressee, internal, participant, staff])| Hit {
                ticket: TicketId(uuid::Uuid::from_u128(ticket)),
                status,
                ours,
                addressee: ours && addressee,
                internal,
                participant: participant || staff || (ours && addressee),
                staff,
            },
        )
    }

    proptest! {
        #[test]
        fn rules(referenced in prop::collection::vec(any_hit(), 0..4), numbered in prop::option::of(any_hit()), kind in 0..5) {
            let automatic = match kind {
                0 => Some(Automatic::Loop("x")),
                1 => Some(Automatic::Bounce),
                2 => Some(Automatic::Reply("x")),
                3 => Some(Automatic::Machine("x")),
                _ => None,
            };
            let facts = Facts { automatic, referenced, numbered: numbered.map(|hit| Hit { ours: false, ..hit }) };
            let decision = decide(&facts);
            match decision {
                // Automatic answers never change a ticket.
                Decision::Ignore { .. } => prop_assert!(kind < 3),
                Decision::Open { .. } => prop_assert!(kind >= 3),
                Decision::Comment { ticket, visibility, stranger } => {
                    prop_assert!(kind >= 3);
                    let hits: Vec<&Hit> = facts.referenced.iter().chain(&facts.numbered).filter(|h| h.ticket == ticket).collect();
                    // Nothing public without a participant, nothing at all without a participant or our own secret id.
                    prop_assert!(hits.iter().any(|h| h.participant || h.ours));
                    if visibility == Visibility::Public {
                        prop_assert!(hits.iter().any(|h| h.participant && !h.internal && (!h.staff || h.addressee)));
                        prop_assert!(!stranger);
                    }
                }
            }
        }
    }
}
