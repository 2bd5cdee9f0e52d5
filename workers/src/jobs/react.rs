//! Events happened: do what the table of reactions and the organization's rules say, once for each. Events of the same
//! organization that wait go along in one transaction.

use crate::patience::is_passing;
use crate::{Shared, organization_of, reactions};
use actions::jobs::React;
use domain::EventId;
use queue::trace::{TraceContext, scope};
use queue::{Along, JobError, JobResult, Outcome, Run, Running};
use std::collections::HashMap;

/// Events that go along at most.
const MOST: usize = 50;

impl Run<Shared> for React {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut came_along = false;
        match react(&self, job, shared, MOST, &mut came_along).await {
            // One of those that came along may be the cause; each shows by itself.
            Err(JobError::Retry(error)) if came_along && !is_passing(&error) => {
                react(&self, job, shared, 0, &mut false).await
            }
            result => result,
        }
    }
}

async fn react(
    args: &React,
    job: &Running,
    shared: &Shared,
    most: usize,
    came_along: &mut bool,
) -> JobResult {
    let mut tx = shared.db.begin(organization_of(job)?).await?;
    let along: Vec<Along<React>> = job.take_along(&mut tx, most).await?;
    *came_along = !along.is_empty();
    let ids: Vec<EventId> =
        [args.event].into_iter().chain(along.iter().map(|along| along.args.event)).collect();
    let events = store::events::get_all(&mut tx, &ids).await?;
    if along.is_empty() && events.is_empty() {
        return Ok(Outcome::Cancelled("the event is gone".into()));
    }
    let traces: HashMap<EventId, TraceContext> =
        along.iter().map(|along| (along.args.event, along.trace)).collect();
    let trace_of = |event: EventId| traces.get(&event).copied().or_else(queue::trace::current);
    for event in &events {
        for reaction in reactions::to(&event.kind) {
            let reacting = reaction(&mut tx, shared, event);
            match trace_of(event.id) {
                Some(trace) => scope(trace, reacting).await?,
                None => reacting.await?,
            }
        }
    }
    reactions::rules::apply(&mut tx, &events, trace_of).await?;
    actions::webhooks::tell(&mut tx, &events, trace_of).await?;
    job.complete_along(&mut tx, &along).await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}
