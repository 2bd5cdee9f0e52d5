//! Organizations as the platform's administrators manage them: those with `platform.manage` in the organization that operates the
//! installation (docs/adr/0071-operator-organization.md). They see that there are organizations and nothing of what is in them.
//!
//! All take a system transaction, which goes on in the actor's organization: what was done stands in its log.

use crate::organizations::{self, NewTenant, require_operator_of};
use crate::users::{self, NewPerson};
use crate::{Error, Result, check, events};
use domain::{Actor, OrganizationId, Permission, permission};
use serde_json::{Value, json};
use store::Tx;
use store::organizations::{Changes, Organization};

/// Longest reason of a suspension, in characters: everybody who is locked out reads it.
const LONGEST_REASON: usize = 500;

/// Whether the actor is an administrator of the platform.
pub async fn may(tx: &mut Tx, actor: &Actor) -> Result<()> {
    permission::check(actor, Permission::PlatformManage)?;
    match actor.rights() {
        Some(_) => require_operator_of(tx, actor.organization).await,
        None => Ok(()),
    }
}

/// The organization, kept from changing; `tx` is in it now.
async fn lock(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<Organization> {
    may(tx, actor).await?;
    let id = store::organizations::find_by_slug(tx, slug).await?.ok_or(Error::NotFound)?;
    tx.enter(id).await?;
    Ok(store::organizations::lock(tx).await?)
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    kind: &str,
    about: (OrganizationId, &str),
    more: Value,
) -> Result<()> {
    tx.enter(actor.organization).await?;
    let mut fact = json!({"organization": about.0, "slug": about.1});
    if let (Value::Object(fact), Value::Object(more)) = (&mut fact, more) {
        fact.extend(more);
    }
    events::record(tx, actor, kind, None, fact).await?;
    Ok(())
}

/// With its first admin, if one is named: without one nobody can get in.
pub async fn create(
    tx: &mut Tx,
    actor: &Actor,
    new: &NewTenant,
    admin: Option<NewPerson>,
) -> Result<OrganizationId> {
    may(tx, actor).await?;
    let id = organizations::create(tx, new).await?;
    if let Some(admin) = admin {
        let under_admin = |error| match error {
            Error::Invalid(mut fields) => {
                fields.iter_mut().for_each(|field| field.pointer = format!("/admin{}", field.pointer));
                Error::Invalid(fields)
            }
            other => other,
        };
        users::create(tx, &Actor::system(id, "tenants"), admin).await.map_err(under_admin)?;
    }
    record(tx, actor, "tenant.created", (id, &new.slug), json!({"name": new.name})).await?;
    Ok(id)
}

pub async fn rename(tx: &mut Tx, actor: &Actor, slug: &str, name: &str) -> Result<()> {
    let name = check::name(name)?;
    let found = lock(tx, actor, slug).await?;
    store::organizations::update(tx, &Changes { name: Some(&name), ..Changes::default() }).await?;
    record(tx, actor, "tenant.renamed", (found.id, slug), json!({"from": found.name, "to": name})).await
}

/// From the next request on nobody gets in: logins, sessions, tokens. What arrives (mail, alerts) is kept until it goes on.
pub async fn suspend(tx: &mut Tx, actor: &Actor, slug: &str, reason: &str) -> Result<()> {
    let reason = check::text("/reason", reason, LONGEST_REASON)?;
    let found = lock(tx, actor, slug).await?;
    not_ones_own(actor, &found)?;
    if found.suspended_at.is_some() {
        return Err(Error::conflict("the organization is suspended already"));
    }
    store::organizations::suspend(tx, &reason).await?;
    record(tx, actor, "tenant.suspended", (found.id, slug), json!({"reason": reason})).await
}

/// A suspended or deleted organization goes on as it was.
pub async fn resume(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<()> {
    let found = lock(tx, actor, slug).await?;
    if found.suspended_at.is_none() {
        return Err(Error::conflict("the organization is not suspended"));
    }
    store::organizations::resume(tx).await?;
    let was = json!({"was_deleted": found.deleted_at.is_some()});
    record(tx, actor, "tenant.resumed", (found.id, slug), was).await
}

/// Suspends it for good; everything in it stays until somebody takes it away by hand, and [`resume`] brings it back.
pub async fn delete(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<()> {
    let found = lock(tx, actor, slug).await?;
    not_ones_own(actor, &found)?;
    if found.deleted_at.is_some() {
        return Err(Error::NotFound);
    }
    if found.suspended_at.is_none() {
        store::organizations::suspend(tx, "deleted").await?;
    }
    store::organizations::delete(tx).await?;
    record(tx, actor, "tenant.deleted", (found.id, slug), json!({})).await
}

fn not_ones_own(actor: &Actor, organization: &Organization) -> Result<()> {
    if organization.is_operator || organization.id == actor.organization {
        return Err(Error::conflict(
            "this organization operates the installation: nobody could bring it back",
        ));
    }
    Ok(())
}
