//! Tenants: made by administration (never through the API), changed by their admins.

use crate::{Error, Result, check, events};
use domain::{Actor, OrganizationId, Permission, permission};
use serde_json::json;
use store::Tx;
use store::organizations::{Changes, NewOrganization, Organization};

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
}

/// Changes the actor's own organization.
pub async fn update(tx: &mut Tx, actor: &Actor, changes: &TenantChanges) -> Result<Organization> {
    permission::check(actor, Permission::OrganizationManage)?;
    let name = changes.name.as_deref().map(check::name).transpose()?;
    let time_zone =
        changes.time_zone.as_deref().map(|zone| check::time_zone("/time_zone", zone)).transpose()?;
    let row = Changes { name: name.as_deref(), time_zone: time_zone.as_deref() };
    store::organizations::update(tx, &row).await?;
    events::record(tx, actor, "organization.updated", None, json!({})).await?;
    Ok(store::organizations::current(tx).await?)
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
