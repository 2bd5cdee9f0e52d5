//! Workers without a database. A handler prepares what is to be done outside (in its own transactions), hands it to
//! [`Remote::perform`], and applies the answer (fenced by its run, as always). In between the job runs as any other: its
//! lease is held by the platform's process, while the work is done by a [`Station`] that took the [`Request`] out of the broker.
//!
//! ```text
//! platform ── request ──▶ queue of the lane ──▶ station
//!          ◀─ taken, beat, done … ── queue of the platform's process
//!          ── go, stop ──▶ queue of the station
//! ```
//!
//! A station begins nothing before the platform has told it to go, and the platform tells that once, while the run is alive. So a request
//! that comes twice, late, or to a station that was cut off is not begun again, whatever the clocks say; and a run that is over
//! stops what is done for it. All of it is sealed with a key that both sides have ([`KeyRing`](crate::KeyRing)).

mod desk;
mod performers;
mod platform;
mod seal;
mod station;
mod wait;

pub use performers::{Performers, Request};
pub use platform::{NotPerformed, Remote};
pub use station::Station;

use crate::messages::{Holder, MESSAGES, Message, QueueSpec};
use std::time::Duration;

/// A request that no station has taken after so long is void.
const PICK: Duration = Duration::from_secs(20);
/// Until a station asks once more whether it may begin.
const ASK: Duration = Duration::from_secs(1);
/// How often a station says that it is at it.
const BEAT: Duration = Duration::from_secs(4);
/// A station that was not heard of for so long, while the broker was there, is lost.
const LOST: Duration = Duration::from_secs(15);
/// Half-open connections are noticed after twice this time: before the silence on them is taken for the loss of a station.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Of a request and of an answer, in clear. RabbitMQ 4 takes messages of 16 MiB.
const LARGEST: usize = 12 << 20;
/// What sealing adds to it, and more.
const OVERHEAD: usize = 4 << 10;
/// So many answers at a time, each of which may be as large as the broker lets it.
const ANSWERS: u16 = 8;
/// So many words at a time.
const HEARD: u16 = 50;

/// Of stations, the platform's processes, and the words of these for one station. Exchanges of their own: a station may be given the right
/// to answer without that to write anything else.
const ANSWERING: &str = "remote.answers";
const WORDS: &str = "remote.words";

/// What stations say.
mod answer {
    /// It has the request, and waits for the word.
    pub const TAKEN: &str = "taken";
    pub const BEAT: &str = "beat";
    pub const DONE: &str = "done";
    /// It will not begin: why.
    pub const REFUSED: &str = "refused";
    /// It began, and came to no end: why.
    pub const FAILED: &str = "failed";
    /// It was done, and its answer does not go through the broker: why.
    pub const TOO_LARGE: &str = "too_large";
}

/// What they are told.
mod word {
    pub const GO: &str = "go";
    pub const STOP: &str = "stop";
}

fn requests(lane: &str, at_a_time: u16) -> QueueSpec {
    QueueSpec::new(format!("remote.{lane}"), at_a_time).newest_dead_letters("remote.dead")
}

/// As a station sees it.
fn foreign_requests(lane: &str, at_a_time: u16) -> QueueSpec {
    requests(lane, at_a_time).by(MESSAGES, Holder::Others)
}

/// Outlives a restart of the broker. Without its process it is of no use.
fn answers(process: &str) -> QueueSpec {
    let queue = QueueSpec::new(format!("{ANSWERING}/{process}"), ANSWERS);
    queue.by(ANSWERING, Holder::All).expires(Duration::from_secs(120))
}

fn words(station: &str) -> QueueSpec {
    QueueSpec::new(format!("{WORDS}/{station}"), HEARD).by(WORDS, Holder::Connection)
}

/// Whether a message came from where such messages come from. Answers go there, so it must be a name that the broker takes, and no other queue.
fn is_of(family: &str, queue: &str) -> bool {
    let name = queue.strip_prefix(family).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| {
        (1..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn is_too_large(message: &Message) -> bool {
    message.body.len() > LARGEST + OVERHEAD || message.about.len() > OVERHEAD
}
