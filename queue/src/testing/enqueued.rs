//! Asserts that a job was enqueued, and says what is there when it was not.

use super::Memory;
use super::seen::{Seen, jobs};
use crate::Job;
use crate::admin::JobState;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use std::fmt::Write;
use std::panic::Location;
use std::time::Duration;
use uuid::Uuid;

/// By how much a delay may look shorter: what the test itself takes.
const TOLERANCE: TimeDelta = TimeDelta::seconds(30);

/// What a job that is not over yet has to look like. What is not said is not looked at.
///
/// ```no_run
/// # use queue::testing::Enqueued;
/// # use std::time::Duration;
/// # async fn test(tx: &mut sqlx::PgConnection, organization: uuid::Uuid) {
/// Enqueued::kind("send_receipt")
///     .args(serde_json::json!({"order": 7})) // and whatever else they hold
///     .organization(organization)
///     .after(Duration::from_secs(30))
///     .assert_in(tx)
///     .await;
/// Enqueued::kind("send_reminder").times(0).assert_in(tx).await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Enqueued {
    kind: String,
    args: Option<Value>,
    organization: Option<Option<Uuid>>,
    due: Option<Due>,
    lane: Option<String>,
    priority: Option<i16>,
    unique_key: Option<String>,
    times: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Now,
    After(TimeDelta),
    At(DateTime<Utc>),
}

impl Enqueued {
    pub fn of<J: Job>() -> Enqueued {
        Enqueued::kind(J::KIND)
    }

    pub fn kind(kind: impl Into<String>) -> Enqueued {
        Enqueued {
            kind: kind.into(),
            args: None,
            organization: None,
            due: None,
            lane: None,
            priority: None,
            unique_key: None,
            times: None,
        }
    }

    /// The arguments hold at least this: of objects the named fields, everything else as it is.
    pub fn args(mut self, some: Value) -> Enqueued {
        self.args = Some(some);
        self
    }

    pub fn organization(mut self, id: impl Into<Uuid>) -> Enqueued {
        self.organization = Some(Some(id.into()));
        self
    }

    pub fn without_organization(mut self) -> Enqueued {
        self.organization = Some(None);
        self
    }

    /// It waits for no time.
    pub fn now(mut self) -> Enqueued {
        self.due = Some(Due::Now);
        self
    }

    /// It is due so long from now. Half a minute of that may have passed.
    pub fn after(mut self, delay: Duration) -> Enqueued {
        self.due = Some(Due::After(TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX)));
        self
    }

    /// To the millisecond.
    pub fn due_at(mut self, time: DateTime<Utc>) -> Enqueued {
        self.due = Some(Due::At(time));
        self
    }

    pub fn lane(mut self, lane: impl Into<String>) -> Enqueued {
        self.lane = Some(lane.into());
        self
    }

    pub fn priority(mut self, priority: i16) -> Enqueued {
        self.priority = Some(priority);
        self
    }

    pub fn unique(mut self, key: impl Into<String>) -> Enqueued {
        self.unique_key = Some(key.into());
        self
    }

    /// Exactly so many of them; without it, at least one.
    pub fn times(mut self, jobs: usize) -> Enqueued {
        self.times = Some(jobs);
        self
    }

    /// Answers those that match, in the order in which they were made.
    ///
    /// # Panics
    /// When there are not as many as wanted, and when the database does not answer.
    #[track_caller]
    pub fn assert_in<'c>(
        self,
        connection: &'c mut PgConnection,
    ) -> impl Future<Output = Vec<Seen>> + Send + use<'c> {
        let place = Location::caller();
        async move {
            let all = jobs(connection).await.unwrap_or_else(|error| panic!("{place}: the jobs: {error}"));
            self.among(all).unwrap_or_else(|why| panic!("{place}: {why}"))
        }
    }

    /// # Panics
    /// As [`Enqueued::assert_in`].
    #[track_caller]
    pub fn assert_in_memory(self, memory: &Memory) -> Vec<Seen> {
        self.among(memory.jobs()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn among(&self, mut all: Vec<Seen>) -> Result<Vec<Seen>, String> {
        all.retain(|job| !matches!(job.state, JobState::Done | JobState::Cancelled | JobState::Discarded));
        let found: Vec<Seen> = all.iter().filter(|job| self.differs(job).is_empty()).cloned().collect();
        match self.times {
            Some(times) if found.len() == times => return Ok(found),
            None if !found.is_empty() => return Ok(found),
            _ => {}
        }
        let wanted = self.times.map_or("at least 1".to_owned(), |times| times.to_string());
        let mut why = format!("{} jobs match, not {wanted}: {self:?}\n", found.len());
        let _ = writeln!(why, "there are {} that are not over:", all.len());
        // Those of the kind first, and of each what is wrong with it.
        all.sort_by_key(|job| job.kind != self.kind);
        for job in all.iter().take(20) {
            let _ = writeln!(why, "  {job}");
            let differs = self.differs(job);
            if job.kind == self.kind && !differs.is_empty() {
                let _ = writeln!(why, "    {}", differs.join("; "));
            }
        }
        Err(why)
    }

    /// In which ways it is another job; nothing when it matches.
    fn differs(&self, job: &Seen) -> Vec<String> {
        let mut differs = Vec::new();
        if job.kind != self.kind {
            differs.push(format!("kind {}, not {}", job.kind, self.kind));
        }
        if let Some(args) = &self.args {
            holds(&job.args, args, "args", &mut differs);
        }
        if let Some(organization) = self.organization
            && job.organization != organization
        {
            differs.push(format!("organization {:?}, not {organization:?}", job.organization));
        }
        if let Some(lane) = &self.lane
            && job.lane != *lane
        {
            differs.push(format!("lane {}, not {lane}", job.lane));
        }
        if let Some(priority) = self.priority
            && job.priority != priority
        {
            differs.push(format!("priority {}, not {priority}", job.priority));
        }
        if let Some(key) = &self.unique_key
            && job.unique_key.as_ref() != Some(key)
        {
            differs.push(format!("unique key {:?}, not {key:?}", job.unique_key));
        }
        let waits = job.state == JobState::Scheduled;
        match self.due {
            Some(Due::Now) if waits => {
                differs.push(format!("due in {:.1} s, not now", job.due_in.as_seconds_f64()));
            }
            Some(Due::After(delay)) if !waits || job.due_in > delay || job.due_in < delay - TOLERANCE => {
                let due = if waits {
                    format!("due in {:.1} s", job.due_in.as_seconds_f64())
                } else {
                    "due now".into()
                };
                differs.push(format!("{due}, not in {:.1} s", delay.as_seconds_f64()));
            }
            Some(Due::At(time)) if (job.due_at - time).abs() > TimeDelta::milliseconds(1) => {
                differs.push(format!("due at {}, not at {time}", job.due_at));
            }
            _ => {}
        }
        differs
    }
}

/// Notes where `there` does not hold what `wanted` says.
fn holds(there: &Value, wanted: &Value, path: &str, differs: &mut Vec<String>) {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                match there.get(name) {
                    Some(there) => holds(there, wanted, &format!("{path}.{name}"), differs),
                    None => differs.push(format!("{path}.{name} is not there")),
                }
            }
        }
        _ if there == wanted => {}
        _ => differs.push(format!("{path} is {there}, not {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewJob;
    use serde_json::json;

    fn memory() -> Memory {
        let memory = Memory::new();
        let job = |args| NewJob { args, ..NewJob::of(&Greet {}) };
        memory.enqueue(&[
            job(json!({"name": "Ada", "to": {"city": "London", "zip": 1}})).priority(3),
            job(json!({"name": "Bob"}))
                .after(Duration::from_secs(60))
                .unique("bob", crate::Unique::WhileWaiting),
        ]);
        memory
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Greet {}
    impl Job for Greet {
        const KIND: &'static str = "greet";
        const LANE: &'static str = "mail";
    }

    #[test]
    fn looks_at_what_is_said() {
        let memory = memory();
        let some = json!({"to": {"city": "London"}});
        let ada = Enqueued::of::<Greet>().args(some).now().priority(3).lane("mail").without_organization();
        assert_eq!(ada.assert_in_memory(&memory).len(), 1);
        let bob = Enqueued::of::<Greet>().after(Duration::from_secs(60)).unique("bob").times(1);
        let bob = bob.assert_in_memory(&memory).remove(0);
        Enqueued::kind("greet").due_at(bob.due_at).times(1).assert_in_memory(&memory);
        Enqueued::kind("greet").times(2).assert_in_memory(&memory);
        Enqueued::kind("other").times(0).assert_in_memory(&memory);
    }

    #[test]
    fn says_what_is_there_and_how_it_differs() {
        let why = Enqueued::of::<Greet>()
            .args(json!({"name": "Eve"}))
            .priority(1)
            .among(memory().jobs())
            .unwrap_err();
        for part in [
            "0 jobs match, not at least 1",
            "there are 2 that are not over",
            "ready greet in lane mail, no organization, priority 3, args",
            "args.name is \"Ada\", not \"Eve\"; priority 3, not 1",
            "scheduled greet in lane mail, due in 60.0 s",
        ] {
            assert!(why.contains(part), "{part} is missing in: {why}");
        }
    }
}
