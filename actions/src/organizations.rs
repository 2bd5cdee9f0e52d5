//! Tenants: made by administration (the command line, or [`crate::tenants`]), changed by their admins.

use crate::{Error, Result, check, events};
use domain::mail::{SenderPolicy, senders};
use domain::{Actor, OrganizationId, Permission, Role, permission};
use serde_json::json;
use std::collections::BTreeSet;
use store::Tx;
use store::organizations::{Changes, NewOrganization, Organization};

/// A year at most.
const LOGIN_HOURS: std::ops::RangeInclusive<i32> = 1..=8760;

#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Names it in URLs and at login: lower-case letters, digits and hyphens.
    pub slug: String,
    pub name: String,
    pub time_zone: String,
}

/// Makes an organization with the default priority matrix. `tx` is a system transaction and goes on in the new
/// organization. The first one of an installation is its operator's.
pub async fn create(tx: &mut Tx, new: &NewTenant) -> Result<OrganizationId> {
    let name = check::name(&new.name)?;
    let time_zone = check::time_zone("/time_zone", &new.time_zone)?;
    let row = NewOrganization { slug: &new.slug, name: &name, time_zone: &time_zone };
    let id = check::constraints(
        store::organizations::insert(tx, &row).await,
        &[
            ("organizations_slug_key", check::CONFLICT, "there is an organization with that slug already"),
            (
                "organizations_slug_check",
                "/slug",
                "must be 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends",
            ),
        ],
    )?;
    crate::priority_matrix::seed(tx).await?;
    Ok(id)
}

#[derive(Clone, Debug, Default)]
pub struct TenantChanges {
    pub name: Option<String>,
    pub time_zone: Option<String>,
    /// Whose people must have a second factor.
    pub mfa_required_roles: Option<Vec<Role>>,
    /// How long a login lasts at most, and how long unless it is refreshed.
    pub login_hours: Option<i32>,
    pub login_idle_hours: Option<i32>,
    /// Who becomes an end user by writing a mail.
    pub sender_policy: Option<SenderPolicy>,
    pub sender_domains: Option<Vec<String>>,
}

/// Changes the actor's own organization.
pub async fn update(tx: &mut Tx, actor: &Actor, changes: &TenantChanges) -> Result<Organization> {
    permission::check(actor, Permission::OrganizationManage)?;
    let name = changes.name.as_deref().map(check::name).transpose()?;
    let time_zone =
        changes.time_zone.as_deref().map(|zone| check::time_zone("/time_zone", zone)).transpose()?;
    let roles = changes.mfa_required_roles.as_ref().map(|roles| {
        let distinct: BTreeSet<String> = roles.iter().map(|role| role.as_str().to_owned()).collect();
        distinct.into_iter().collect::<Vec<_>>()
    });
    let domains = changes.sender_domains.as_deref().map(sender_domains).transpose()?;
    for (pointer, hours) in
        [("/login_hours", changes.login_hours), ("/login_idle_hours", changes.login_idle_hours)]
    {
        if hours.is_some_and(|hours| !LOGIN_HOURS.contains(&hours)) {
            return Err(Error::invalid(pointer, "must be a number of hours from 1 to 8760"));
        }
    }
    let row = Changes {
        name: name.as_deref(),
        time_zone: time_zone.as_deref(),
        mfa_required_roles: roles.as_deref(),
        login_hours: changes.login_hours,
        login_idle_hours: changes.login_idle_hours,
        sender_policy: changes.sender_policy,
        sender_domains: domains.as_deref(),
    };
    store::organizations::update(tx, &row).await?;
    let after = store::organizations::current(tx).await?;
    if after.sender_policy == SenderPolicy::KnownDomains && after.sender_domains.is_empty() {
        return Err(Error::invalid("/sender_domains", "name the domains, or close it for everybody"));
    }
    let payload = json!({"mfa_required_roles": roles, "login_hours": changes.login_hours, "login_idle_hours": changes.login_idle_hours,
                         "sender_policy": changes.sender_policy, "sender_domains": domains});
    events::record(tx, actor, "organization.updated", None, payload).await?;
    Ok(after)
}

/// Each once, as they are compared.
fn sender_domains(given: &[String]) -> Result<Vec<String>> {
    if given.len() > senders::MOST_DOMAINS {
        let detail = format!("at most {} domains", senders::MOST_DOMAINS);
        return Err(Error::invalid("/sender_domains", detail));
    }
    let mut domains = BTreeSet::new();
    for (index, text) in given.iter().enumerate() {
        let domain = senders::domain(text).ok_or_else(|| {
            let detail =
                "must be a domain, for example example.org, or *.example.org for all that is below it";
            Error::invalid(format!("/sender_domains/{index}"), detail)
        })?;
        domains.insert(domain);
    }
    Ok(domains.into_iter().collect())
}

/// What everybody of a suspended organization is told.
pub fn suspended(reason: &str) -> Error {
    Error::forbidden(format!("this organization is suspended by those who run this installation: {reason}"))
}

/// Refuses when the organization of the transaction is suspended.
pub async fn must_go_on(tx: &mut Tx) -> Result<()> {
    match store::organizations::suspended_for(tx).await? {
        Some(reason) => Err(suspended(&reason)),
        None => Ok(()),
    }
}

/// Lanes, workers and other things that all tenants share are touched by the operator's organization only.
pub async fn require_operator(tx: &mut Tx) -> Result<()> {
    let organization = tx.organization();
    require_operator_of(tx, organization).await
}

/// The same in a system transaction.
pub(crate) async fn require_operator_of(tx: &mut Tx, organization: OrganizationId) -> Result<()> {
    let found = store::organizations::find(tx, organization).await?;
    if found.is_some_and(|organization| organization.is_operator) {
        Ok(())
    } else {
        Err(Error::forbidden(
            "all organizations share this: only the organization that operates this installation may",
        ))
    }
}
