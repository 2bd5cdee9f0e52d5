//! Escalation chains: who may edit them. A chain that runs keeps the steps it was started with.

use crate::{Error, FieldError, Result, check, events};
use domain::escalation::{Action, MOST_STEPS, Step};
use domain::permission::{self, Permission};
use domain::{Actor, ChainId};
use serde_json::json;
use store::Tx;
use store::escalation_chains::Chain;

#[derive(Clone, Debug, PartialEq)]
pub struct NewChain {
    pub name: String,
    pub steps: Vec<Step>,
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewChain) -> Result<Chain> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(tx, new).await?;
    let now = tx.now();
    let chain = Chain {
        id: ChainId::new(),
        name: new.name,
        steps: new.steps,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::escalation_chains::insert(tx, &chain).await.map_err(named)?;
    events::record(
        tx,
        actor,
        "escalation_chain.created",
        None,
        json!({"escalation_chain": chain.id, "name": chain.name}),
    )
    .await?;
    Ok(chain)
}

/// `version`: only if it still has this one.
pub async fn replace(
    tx: &mut Tx,
    actor: &Actor,
    id: ChainId,
    version: Option<i64>,
    new: NewChain,
) -> Result<Chain> {
    permission::check(actor, Permission::SlaManage)?;
    let new = checked(tx, new).await?;
    let mut chain = store::escalation_chains::get(tx, id).await?;
    if version.is_some_and(|version| version != chain.version) {
        return Err(Error::Stale);
    }
    (chain.name, chain.steps, chain.updated_at) = (new.name, new.steps, tx.now());
    store::escalation_chains::update(tx, &chain).await.map_err(named)?;
    events::record(
        tx,
        actor,
        "escalation_chain.updated",
        None,
        json!({"escalation_chain": id, "name": chain.name}),
    )
    .await?;
    chain.version += 1;
    Ok(chain)
}

/// Refused while a policy names it.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: ChainId) -> Result<()> {
    permission::check(actor, Permission::SlaManage)?;
    store::escalation_chains::delete(tx, id).await.map_err(named)?;
    events::record(tx, actor, "escalation_chain.deleted", None, json!({"escalation_chain": id})).await?;
    Ok(())
}

async fn checked(tx: &mut Tx, mut new: NewChain) -> Result<NewChain> {
    let mut wrong = Vec::new();
    check::name_among(&mut wrong, &mut new.name);
    let mut field = |pointer: String, detail: String| wrong.push(FieldError { pointer, detail });
    if new.steps.is_empty() || new.steps.len() > MOST_STEPS {
        field("/steps".into(), format!("must have 1 to {MOST_STEPS} entries"));
    }
    for (index, step) in new.steps.iter().enumerate() {
        match step.action {
            Action::AssignTeam { team } if !store::removals::has_team(tx, team).await? => {
                field(format!("/steps/{index}/team"), "there is no such team".into());
            }
            Action::NotifyChannel { channel } if !store::channels::hold(tx, channel).await? => {
                field(format!("/steps/{index}/channel"), "there is no such notification channel".into());
            }
            Action::AssignTeam { .. }
            | Action::NotifyChannel { .. }
            | Action::NotifyManager
            | Action::RaisePriority => {}
        }
    }
    if wrong.is_empty() { Ok(new) } else { Err(Error::Invalid(wrong)) }
}

fn named(error: store::Error) -> Error {
    match error.constraint() {
        Some("escalation_chains_name_key") => {
            Error::conflict("there is an escalation chain of this name already")
        }
        Some("sla_policies_warning_chain_fkey" | "sla_policies_breach_chain_fkey") => {
            Error::conflict("an SLA policy uses this chain: give the policy another one first")
        }
        _ => error.into(),
    }
}
