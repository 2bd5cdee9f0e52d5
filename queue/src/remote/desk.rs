//! Who waits for which answer. Decides which station may begin a request, and which answers count.

use super::seal::{About, opened};
use super::{WORDS, answer, is_of, is_too_large};
use crate::messages::{Fate, Message, NotNow, Receive};
use crate::{KeyRing, metrics};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    keys: KeyRing,
    /// The queue of this process.
    pub queue: String,
    waiting: Arc<Mutex<HashMap<Uuid, Waiting>>>,
    /// Stations that are to stop, and at which request.
    stops: mpsc::UnboundedSender<(Uuid, About)>,
}

#[derive(Debug)]
struct Waiting {
    job: Uuid,
    run: i64,
    /// The queue of the station that asked first. No other one begins.
    station: Option<String>,
    tell: mpsc::UnboundedSender<Said>,
}

/// By the station that has the request.
#[derive(Debug)]
pub(super) struct Said {
    pub kind: String,
    pub about: About,
    pub body: Vec<u8>,
}

/// The place of a request at the desk. When it goes, its run is over: a station that is at it is told to stop.
pub(super) struct Place {
    desk: Desk,
    id: Uuid,
    pub told: mpsc::UnboundedReceiver<Said>,
}

impl Place {
    /// The station vanished before it could be told to go: another may have the request.
    pub fn open_again(&self) {
        if let Some(waiting) = self.desk.lock().get_mut(&self.id) {
            waiting.station = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(Waiting { job, run, station: Some(station), .. }) = self.desk.lock().remove(&self.id) {
            self.desk.stop(self.id, (job, run), station);
        }
    }
}

impl Desk {
    pub fn new(keys: KeyRing, queue: String, stops: mpsc::UnboundedSender<(Uuid, About)>) -> Desk {
        Desk { keys, queue, waiting: Arc::default(), stops }
    }

    pub fn place(&self, id: Uuid, (job, run): (Uuid, i64)) -> Place {
        let (tell, told) = mpsc::unbounded_channel();
        self.lock().insert(id, Waiting { job, run, station: None, tell });
        Place { desk: self.clone(), id, told }
    }

    pub fn about(&self, (job, run): (Uuid, i64), to: String) -> About {
        About { version: super::seal::VERSION, job, run, from: self.queue.clone(), to }
    }

    fn stop(&self, id: Uuid, whose: (Uuid, i64), station: String) {
        // Nobody there: the process ends, and the station will hear of nobody.
        let _ = self.stops.send((id, self.about(whose, station)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what became of it, as the value of a metric.
    fn take(&self, message: &Message) -> &'static str {
        if is_too_large(message) {
            tracing::warn!(
                kind = message.kind,
                bytes = message.body.len(),
                "a message of a remote worker is too large"
            );
            return "oversized";
        }
        let mut message = message.clone();
        let (about, body) = match opened(&self.keys, &self.queue, &mut message) {
            Ok(opened) => opened,
            Err(why) => {
                tracing::warn!(%why, kind = message.kind, "a message of a remote worker was refused");
                return "unopened";
            }
        };
        if !is_of(WORDS, &about.from) {
            tracing::warn!(
                kind = message.kind,
                "a message of a remote worker without a queue of its own was refused"
            );
            return "unopened";
        }
        let kind = message.kind.as_str();
        let is_last = match kind {
            answer::TAKEN | answer::BEAT => false,
            answer::DONE | answer::REFUSED | answer::FAILED | answer::TOO_LARGE => true,
            _ => return "unknown",
        };
        let mut all = self.lock();
        let waiting = all.get_mut(&message.id).filter(|who| (who.job, who.run) == (about.job, about.run));
        let Some(waiting) = waiting else {
            if !is_last {
                self.stop(message.id, (about.job, about.run), about.from);
                return "late";
            }
            tracing::info!(job.id = %about.job, run = about.run, station = about.from, "an answer for which nobody waits was refused");
            return "stale";
        };
        match &waiting.station {
            Some(station) if *station == about.from => {}
            None if kind == answer::TAKEN => waiting.station = Some(about.from.clone()),
            None if kind == answer::REFUSED => {}
            _ if is_last => return "stale",
            // It asks until its request is void. Should the other one turn out to be lost, the job makes a new request.
            _ => return "second",
        }
        let tell = waiting.tell.clone();
        if is_last {
            // Another one comes too late.
            all.remove(&message.id);
        }
        let outcome = if is_last {
            "answer"
        } else if kind == answer::TAKEN {
            "taken"
        } else {
            "beat"
        };
        let body = if is_last { body } else { Vec::new() };
        match tell.send(Said { kind: message.kind, about, body }) {
            Ok(()) => outcome,
            Err(_) => "stale",
        }
    }
}

impl Receive for Desk {
    async fn receive(&self, batch: &[Message]) -> Result<Vec<Fate>, NotNow> {
        let fates = batch.iter().map(|message| {
            let outcome = self.take(message);
            metrics::REMOTE_ANSWERS.with_label_values(&[outcome]).inc();
            Fate::Taken(outcome)
        });
        Ok(fates.collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::answer::*;
    use super::super::seal::sealed;
    use super::*;
    use base64::Engine;

    fn keys(byte: u8) -> KeyRing {
        let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        format!("a:{key}").parse().unwrap()
    }

    pub(in super::super) struct World {
        desk: Desk,
        stops: mpsc::UnboundedReceiver<(Uuid, About)>,
        job: Uuid,
    }

    fn words(station: &str) -> String {
        format!("{WORDS}/{station}")
    }

    impl World {
        pub fn new() -> World {
            let (tell, stops) = mpsc::unbounded_channel();
            World { desk: Desk::new(keys(1), "here".into(), tell), stops, job: Uuid::now_v7() }
        }

        /// Of a request of the first run.
        pub fn place(&self, id: Uuid) -> Place {
            self.desk.place(id, (self.job, 1))
        }

        pub fn says(&self, station: &str, id: Uuid, kind: &str) -> &'static str {
            self.says_of(station, id, 1, kind)
        }

        fn says_of(&self, station: &str, id: Uuid, run: i64, kind: &str) -> &'static str {
            self.desk.take(&self.message(&words(station), id, run, kind))
        }

        fn message(&self, from: &str, id: Uuid, run: i64, kind: &str) -> Message {
            let about = self.desk.about((self.job, run), String::new());
            let about = About { from: from.into(), to: "here".into(), ..about };
            sealed(&keys(1), id, kind, &about, b"42").unwrap()
        }

        fn stopped(&mut self) -> Option<String> {
            let (_, about) = self.stops.try_recv().ok()?;
            Some(about.to.strip_prefix(&words("")).unwrap().to_owned())
        }
    }

    #[test]
    fn who_has_no_queue_of_its_own_is_neither_told_nor_believed() {
        let mut world = World::new();
        let id = Uuid::now_v7();
        let _place = world.place(id);
        let long = words(&"x".repeat(300));
        for from in ["", "a", "remote.words/", "remote.wordsa", "remote.lane", "remote.words/a b", &long] {
            for kind in [TAKEN, BEAT, DONE] {
                assert_eq!(world.desk.take(&world.message(from, id, 1, kind)), "unopened", "{from}");
                let over = world.message(from, Uuid::now_v7(), 1, kind);
                assert_eq!(world.desk.take(&over), "unopened", "{from}");
            }
        }
        assert!(world.stops.try_recv().is_err());
        assert_eq!(world.says("a", id, TAKEN), "taken");
    }

    #[test]
    fn what_is_too_large_is_not_looked_at() {
        let world = World::new();
        let id = Uuid::now_v7();
        let mut place = world.place(id);
        let mut large = world.message(&words("a"), id, 1, TAKEN);
        large.body.resize(super::super::LARGEST + super::super::OVERHEAD + 1, 0);
        assert_eq!(world.desk.take(&large), "oversized");
        let mut long = world.message(&words("a"), id, 1, TAKEN);
        long.about.push_str(&" ".repeat(super::super::OVERHEAD));
        assert_eq!(world.desk.take(&long), "oversized");
        assert_eq!(world.says("a", id, TAKEN), "taken");
        assert!(place.told.try_recv().unwrap().body.is_empty(), "it has nothing to say");
    }

    #[test]
    fn one_station_has_a_request_and_its_first_answer_counts() {
        let mut world = World::new();
        let id = Uuid::now_v7();
        let mut place = world.desk.place(id, (world.job, 3));
        assert_eq!(world.says_of("a", id, 3, DONE), "stale", "who has not asked");
        assert_eq!(world.says_of("a", id, 2, TAKEN), "late", "an earlier run");
        assert_eq!(world.stopped().as_deref(), Some("a"));
        assert_eq!(world.says_of("a", id, 3, TAKEN), "taken");
        assert_eq!(world.says_of("b", id, 3, TAKEN), "second");
        assert_eq!(world.says_of("b", id, 3, REFUSED), "stale");
        assert_eq!(world.says_of("b", id, 3, BEAT), "second");
        assert_eq!(world.says_of("a", id, 3, TAKEN), "taken", "it has not heard that it may");
        assert_eq!(world.says_of("a", id, 3, BEAT), "beat");
        assert_eq!(world.says_of("a", id, 3, "news"), "unknown", "of a later version");
        assert_eq!(world.says_of("a", id, 3, DONE), "answer");
        assert_eq!(world.says_of("a", id, 3, DONE), "stale", "doubled");
        assert_eq!(world.says_of("a", Uuid::now_v7(), 3, DONE), "stale", "another request");
        let told: Vec<_> = std::iter::from_fn(|| place.told.try_recv().ok().map(|said| said.kind)).collect();
        assert_eq!(told, [TAKEN, TAKEN, BEAT, DONE]);
        drop(place);
        assert_eq!(world.stopped(), None, "it has ended by itself");
    }

    #[test]
    fn what_is_over_is_stopped() {
        let mut world = World::new();
        let (taken, untaken) = (Uuid::now_v7(), Uuid::now_v7());
        let places = [taken, untaken].map(|id| world.desk.place(id, (world.job, 1)));
        assert_eq!(world.says_of("a", taken, 1, TAKEN), "taken");
        drop(places);
        assert_eq!(world.stopped().as_deref(), Some("a"));
        assert_eq!(world.stopped(), None);
        assert_eq!(world.says_of("b", untaken, 1, TAKEN), "late", "it may not begin");
        assert_eq!(world.stopped().as_deref(), Some("b"));
        assert_eq!(world.says_of("a", taken, 1, DONE), "stale");
    }

    #[test]
    fn a_station_that_vanished_leaves_the_request_to_another() {
        let world = World::new();
        let id = Uuid::now_v7();
        let place = world.desk.place(id, (world.job, 1));
        assert_eq!(world.says_of("a", id, 1, TAKEN), "taken");
        place.open_again();
        assert_eq!(world.says_of("b", id, 1, TAKEN), "taken");
        assert_eq!(world.says_of("a", id, 1, DONE), "stale");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let world = World::new();
        let id = Uuid::now_v7();
        let _place = world.desk.place(id, (world.job, 1));
        let about = world.desk.about((world.job, 1), String::new());
        let about = About { from: words("a"), to: "here".into(), ..about };
        let mut forged = sealed(&keys(2), id, TAKEN, &about, b"").unwrap();
        assert_eq!(world.desk.take(&forged), "unopened", "another key");
        forged.about = "{}".into();
        assert_eq!(world.desk.take(&forged), "unopened");
        let mut changed = sealed(&keys(1), id, BEAT, &about, b"").unwrap();
        changed.kind = DONE.into();
        assert_eq!(world.desk.take(&changed), "unopened", "the kind is sealed, too");
        // A word of our own that comes back is no answer.
        let word = sealed(&keys(1), id, super::super::word::GO, &about, b"").unwrap();
        assert_eq!(world.desk.take(&word), "unknown");
    }
}
