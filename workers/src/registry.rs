//! Every kind of job there is, and what runs by the clock.

use crate::Shared;
use actions::jobs;
use queue::Registry;

/// A kind that is not listed here is not worked; a test holds the list against the files.
pub fn registry() -> Registry<Shared> {
    Registry::new().job::<jobs::IngestAlert>().job::<jobs::React>().job::<jobs::NotifyChannel>()
}
