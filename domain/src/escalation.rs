//! Escalation chains: what is done, step by step, when an SLA clock warns or is breached.

use crate::words::words;
use crate::{ChannelId, TeamId};
use serde::{Deserialize, Serialize};

pub const MOST_STEPS: usize = 20;
/// Thirty days, in seconds.
pub const LONGEST_DELAY: u32 = 30 * 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    AssignTeam {
        team: TeamId,
    },
    /// Mail to the manager of the ticket's team or, where it has none, of the team's department.
    NotifyManager,
    RaisePriority,
    NotifyChannel {
        channel: ChannelId,
    },
}

impl Action {
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::AssignTeam { .. } => "assign_team",
            Action::NotifyManager => "notify_manager",
            Action::RaisePriority => "raise_priority",
            Action::NotifyChannel { .. } => "notify_channel",
        }
    }
}

/// An action and how long after the step before (for the first: after the trigger) it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Step {
    pub action: Action,
    pub after_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("unknown action {0:?}: expected assign_team, notify_manager, raise_priority or notify_channel")]
    Action(String),
    #[error("{0} needs a {1:?}")]
    Missing(&'static str, &'static str),
    #[error("{0} takes no {1:?}")]
    Extra(&'static str, &'static str),
    #[error("after_seconds can be at most {LONGEST_DELAY} (thirty days)")]
    Delay,
}

/// As it is stored and sent: flat, for example `{"action":"assign_team","team":"…","after_seconds":900}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    team: Option<TeamId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelId>,
    #[serde(default)]
    after_seconds: u32,
}

impl TryFrom<Wire> for Step {
    type Error = StepError;

    fn try_from(wire: Wire) -> Result<Self, StepError> {
        if wire.after_seconds > LONGEST_DELAY {
            return Err(StepError::Delay);
        }
        let action = match wire.action.as_str() {
            "assign_team" => {
                Action::AssignTeam { team: wire.team.ok_or(StepError::Missing("assign_team", "team"))? }
            }
            "notify_manager" => Action::NotifyManager,
            "raise_priority" => Action::RaisePriority,
            "notify_channel" => {
                let channel = wire.channel.ok_or(StepError::Missing("notify_channel", "channel"))?;
                Action::NotifyChannel { channel }
            }
            other => return Err(StepError::Action(other.to_owned())),
        };
        if wire.team.is_some() && !matches!(action, Action::AssignTeam { .. }) {
            return Err(StepError::Extra(action.as_str(), "team"));
        }
        if wire.channel.is_some() && !matches!(action, Action::NotifyChannel { .. }) {
            return Err(StepError::Extra(action.as_str(), "channel"));
        }
        Ok(Step { action, after_seconds: wire.after_seconds })
    }
}

impl From<Step> for Wire {
    fn from(step: Step) -> Self {
        let (team, channel) = match step.action {
            Action::AssignTeam { team } => (Some(team), None),
            Action::NotifyChannel { channel } => (None, Some(channel)),
            Action::NotifyManager | Action::RaisePriority => (None, None),
        };
        Wire { action: step.action.as_str().to_owned(), team, channel, after_seconds: step.after_seconds }
    }
}

words! {
    EscalationState("escalation state") {
        Running => "running",
        /// All steps were done.
        Finished => "finished",
        /// The ticket was finished, or answered, before the last step.
        Stopped => "stopped",
    }
}

words! {
    /// How one step ended.
    StepOutcome("step outcome") {
        Done => "done",
        /// There was nothing to do: the priority is critical already, the team is assigned already.
        Skipped => "skipped",
        /// It cannot be done: the team or channel is gone, there is no manager.
        Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_json() {
        let team = TeamId::new();
        let steps = [
            Step { action: Action::AssignTeam { team }, after_seconds: 900 },
            Step { action: Action::NotifyManager, after_seconds: 0 },
            Step { action: Action::RaisePriority, after_seconds: 1 },
            Step { action: Action::NotifyChannel { channel: ChannelId::new() }, after_seconds: 5 },
        ];
        let json = serde_json::to_value(steps).unwrap();
        assert_eq!(json[0], serde_json::json!({"action": "assign_team", "team": team, "after_seconds": 900}));
        assert_eq!(json[1], serde_json::json!({"action": "notify_manager", "after_seconds": 0}));
        assert_eq!(serde_json::from_value::<[Step; 4]>(json).unwrap(), steps);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (text, reason) in [
            (r#"{"action":"page_everybody"}"#, "expected assign_team"),
            (r#"{"action":"assign_team"}"#, "assign_team needs a \"team\""),
            (
                r#"{"action":"notify_manager","channel":"0190a6a0-0000-7000-8000-000000000000"}"#,
                "takes no \"channel\"",
            ),
            (r#"{"action":"notify_manager","after_seconds":2592001}"#, "thirty days"),
            (r#"{"action":"notify_manager","after_seconds":-1}"#, "invalid value"),
            (r#"{"action":"notify_manager","delay":1}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<Step>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
