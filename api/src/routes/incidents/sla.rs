//! The clocks of an incident.

use actions::sla::{ClockView, TicketClocks};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What was promised. A target that the policy does not set is null.
#[derive(Default, Serialize, ToSchema)]
pub struct SlaView {
    /// The policy in force; null: none, or it was deleted.
    policy: Option<Uuid>,
    first_response: Option<SlaClockView>,
    resolution: Option<SlaClockView>,
}

#[derive(Serialize, ToSchema)]
pub struct SlaClockView {
    #[schema(example = "running")]
    state: &'static str,
    target_seconds: i64,
    /// Working time, as the policy's calendar counts it.
    elapsed_seconds: i64,
    /// Negative: late by so much.
    remaining_seconds: i64,
    /// Null while the clock stands still.
    due_at: Option<DateTime<Utc>>,
    warned_at: Option<DateTime<Utc>>,
    breached_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
}

impl From<TicketClocks> for SlaView {
    fn from(clocks: TicketClocks) -> Self {
        SlaView {
            policy: clocks.policy.map(|id| id.0),
            first_response: clocks.first_response.map(SlaClockView::from),
            resolution: clocks.resolution.map(SlaClockView::from),
        }
    }
}

impl From<ClockView> for SlaClockView {
    fn from(clock: ClockView) -> Self {
        SlaClockView {
            state: clock.state.as_str(),
            target_seconds: clock.target_seconds,
            elapsed_seconds: clock.elapsed_seconds,
            remaining_seconds: clock.remaining_seconds,
            due_at: clock.due_at,
            warned_at: clock.warned_at,
            breached_at: clock.breached_at,
            completed_at: clock.completed_at,
        }
    }
}
