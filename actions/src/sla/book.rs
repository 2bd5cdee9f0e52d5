//! Policies and calendars as one transaction needs them, read once.

use crate::Result;
use domain::calendar::Calendar;
use domain::sla_policy::Facts;
use domain::{CalendarId, SlaPolicyId};
use std::collections::HashMap;
use std::sync::Arc;
use store::Tx;
use store::sla_policies::Policy;
use store::tickets::Ticket;

#[derive(Default)]
pub(super) struct Book {
    in_force: Vec<Policy>,
    rules: HashMap<Option<CalendarId>, Arc<Calendar>>,
}

impl Book {
    pub async fn load(tx: &mut Tx) -> Result<Self> {
        Ok(Book { in_force: store::sla_policies::in_force(tx).await?, rules: HashMap::new() })
    }

    /// The policy that holds for the ticket.
    pub fn choose(&self, ticket: &Ticket) -> Option<Policy> {
        let facts = Facts {
            kind: ticket.kind,
            priority: ticket.priority,
            impact: ticket.impact,
            urgency: ticket.urgency,
            source: ticket.source,
            team: ticket.team,
            requester: ticket.requester,
        };
        self.in_force.iter().find(|policy| policy.conditions.fit(&facts)).cloned()
    }

    /// Also one that is not in force any more; `None` if it was deleted.
    pub async fn policy(&self, tx: &mut Tx, id: SlaPolicyId) -> Result<Option<Policy>> {
        if let Some(policy) = self.in_force.iter().find(|policy| policy.id == id) {
            return Ok(Some(policy.clone()));
        }
        match store::sla_policies::get(tx, id).await {
            Ok(policy) => Ok(Some(policy)),
            Err(store::Error::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `None`: round the clock.
    pub async fn rules(&mut self, tx: &mut Tx, id: Option<CalendarId>) -> Result<Arc<Calendar>> {
        if let Some(rules) = self.rules.get(&id) {
            return Ok(rules.clone());
        }
        let rules = Arc::new(match id {
            None => Calendar::always(),
            Some(id) => store::calendars::get(tx, id).await?.rules()?,
        });
        self.rules.insert(id, rules.clone());
        Ok(rules)
    }
}
