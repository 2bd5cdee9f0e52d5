//! The ticket core: what incidents, service requests, problems and changes have in common.

mod change;
pub mod file_type;
mod number;
mod priority;
mod status;
pub mod text;

pub use change::{Change, Changes};
pub use number::{NotANumber, TicketNumber};
pub use priority::{Level, Priority, PriorityMatrix};
pub use status::{IllegalMove, Status};

use crate::words::words;

words! {
    /// What kind of ticket it is. Decides the number's prefix and the table of allowed status moves.
    TicketKind("ticket kind") {
        Incident => "incident",
        ServiceRequest => "service_request",
        Problem => "problem",
        Change => "change",
    }
}

impl TicketKind {
    /// The letters in front of the number: `INC0000123`.
    pub fn prefix(self) -> &'static str {
        match self {
            TicketKind::Incident => "INC",
            TicketKind::ServiceRequest => "REQ",
            TicketKind::Problem => "PRB",
            TicketKind::Change => "CHG",
        }
    }
}

words! {
    /// By which way a ticket or comment came in.
    Source("source") {
        Api => "api",
        Email => "email",
        Alert => "alert",
        Console => "console",
        Chat => "chat",
        System => "system",
    }
}

words! {
    /// Who may read a comment: everybody who sees the ticket, or only those who work on tickets.
    Visibility("visibility") {
        Public => "public",
        Internal => "internal",
    }
}

words! {
    /// How one ticket relates to another, read from the first to the second.
    LinkKind("link kind") {
        RelatesTo => "relates_to",
        Duplicates => "duplicates",
        Blocks => "blocks",
        CausedBy => "caused_by",
        ParentOf => "parent_of",
    }
}
