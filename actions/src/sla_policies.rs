//! SLA policies: who may edit them. Every edit is followed by a job that works out the clocks of open tickets anew.

use crate::{Error, FieldError, Result, check, events, sla};
use domain::permission::{self, Permission};
use domain::sla_policy::{Conditions, LONGEST_TARGET};
use domain::{Actor, CalendarId, ChainId, SlaPolicyId};
use serde_json::json;
use store::Tx;
use store::sla_policies::{Policy, Target};

#[derive(Clone, Debug, PartialEq)]
pub struct NewPolicy {
    pub name: String,
    pub description: String,
    pub position: i32,
    pub is_default: bool,
    pub is_active: bool,
    pub conditions: Conditions,
    pub calendar: Option<CalendarId>,
    pub warn_percent: Option<u8>,
    pub warning_chain: Option<ChainId>,
    pub breach_chain: Option<ChainId>,
    pub targets: Vec<Target>,
}

impl Default for NewPolicy {
    fn default() -> Self {
        NewPolicy {
            name: String::new(),
            description: String::new(),
            position: 100,
            is_default: false,
            is_active: true,
            conditions: Conditions::default(),
            calendar: None,
            warn_percent: Some(80),
            warning_chain: None,
            breach_chain: None,
            targets: Vec::new(),
        }
    }
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewPolicy) -> Result<Policy> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(new)?;
    refer(tx, &new.conditions).await?;
    let now = tx.now();
    let policy = Policy {
        id: SlaPolicyId::new(),
        name: new.name,
        description: new.description,
        position: new.position,
        is_default: new.is_default,
        is_active: new.is_active,
        conditions: new.conditions,
        calendar: new.calendar,
        warn_percent: new.warn_percent,
        warning_chain: new.warning_chain,
        breach_chain: new.breach_chain,
        targets: new.targets,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::sla_policies::insert(tx, &policy).await.map_err(named)?;
    events::record(
        tx,
        actor,
        "sla_policy.created",
        None,
        json!({"sla_policy": policy.id, "name": policy.name}),
    )
    .await?;
    sla::request_recompute(tx, actor).await?;
    Ok(policy)
}

/// Replaces everything. `version`: only if it still has this one.
pub async fn replace(
    tx: &mut Tx,
    actor: &Actor,
    id: SlaPolicyId,
    version: Option<i64>,
    new: NewPolicy,
) -> Result<Policy> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(new)?;
    let before = store::sla_policies::get(tx, id).await?;
    if version.is_some_and(|version| version != before.version) {
        return Err(Error::Stale);
    }
    // What was there before may name a team that was deleted since.
    if new.conditions != before.conditions {
        refer(tx, &new.conditions).await?;
    }
    let policy = Policy {
        id,
        name: new.name,
        description: new.description,
        position: new.position,
        is_default: new.is_default,
        is_active: new.is_active,
        conditions: new.conditions,
        calendar: new.calendar,
        warn_percent: new.warn_percent,
        warning_chain: new.warning_chain,
        breach_chain: new.breach_chain,
        targets: new.targets,
        version: before.version,
        created_at: before.created_at,
        updated_at: tx.now(),
    };
    store::sla_policies::update(tx, &policy).await.map_err(named)?;
    events::record(tx, actor, "sla_policy.updated", None, json!({"sla_policy": id, "name": policy.name}))
        .await?;
    sla::request_recompute(tx, actor).await?;
    Ok(Policy { version: policy.version + 1, ..policy })
}

/// Its tickets fall to the next policy that fits; its breaches stay.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: SlaPolicyId) -> Result<()> {
    permission::check(actor, Permission::SlaManage)?;
    store::sla_policies::delete(tx, id).await?;
    events::record(tx, actor, "sla_policy.deleted", None, json!({"sla_policy": id})).await?;
    sla::request_recompute(tx, actor).await
}

fn checked(mut new: NewPolicy) -> Result<NewPolicy> {
    let mut wrong = Vec::new();
    check::name_among(&mut wrong, &mut new.name);
    let mut field = |pointer: String, detail: String| wrong.push(FieldError { pointer, detail });
    if new.description.chars().count() > 10_000 {
        field("/description".into(), "must have at most 10000 characters".into());
    }
    if new.warn_percent.is_some_and(|percent| !(1..=99).contains(&percent)) {
        field("/warn_percent".into(), "must be between 1 and 99, or null for no warnings".into());
    }
    if new.is_default && !new.conditions.is_empty() {
        field("/conditions".into(), "the default policy holds for every ticket: it has no conditions".into());
    }
    if new.targets.is_empty() {
        field("/targets".into(), "promise something: add a target for at least one priority".into());
    }
    for (index, target) in new.targets.iter().enumerate() {
        if new.targets[..index].iter().any(|earlier| earlier.priority == target.priority) {
            field(format!("/targets/{index}/priority"), format!("{} is there twice", target.priority));
        }
        for (name, seconds) in [
            ("first_response_seconds", target.first_response_seconds),
            ("resolution_seconds", target.resolution_seconds),
        ] {
            if seconds.is_some_and(|seconds| !(1..=LONGEST_TARGET).contains(&seconds)) {
                let detail = format!("must be between 1 and {LONGEST_TARGET}, or null for no promise");
                field(format!("/targets/{index}/{name}"), detail);
            }
        }
    }
    if wrong.is_empty() { Ok(new) } else { Err(Error::Invalid(wrong)) }
}

/// Whom conditions name must be there: no foreign key looks into a document.
async fn refer(tx: &mut Tx, conditions: &Conditions) -> Result<()> {
    let mut wrong = Vec::new();
    let place = |field: &'static str| move |index: usize| format!("/conditions/{field}/{index}");
    check::teams(tx, &conditions.team, place("team"), &mut wrong).await?;
    check::users(tx, &conditions.requester, place("requester"), &mut wrong).await?;
    if wrong.is_empty() { Ok(()) } else { Err(Error::Invalid(wrong)) }
}

fn named(error: store::Error) -> Error {
    match error.constraint() {
        Some("sla_policies_name_key") => Error::conflict("there is an SLA policy of this name already"),
        Some("sla_policies_default_key") => {
            Error::conflict("there is a default policy already: only one can be it")
        }
        Some("sla_policies_calendar_fkey") => {
            Error::invalid("/calendar", "there is no such business calendar")
        }
        Some("sla_policies_warning_chain_fkey") => {
            Error::invalid("/warning_chain", "there is no such escalation chain")
        }
        Some("sla_policies_breach_chain_fkey") => {
            Error::invalid("/breach_chain", "there is no such escalation chain")
        }
        _ => error.into(),
    }
}
