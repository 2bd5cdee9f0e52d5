//! The organization's priority matrix.

use crate::{Result, events};
use domain::Actor;
use domain::permission::{self, Permission};
use domain::ticket::PriorityMatrix;
use serde_json::json;
use store::Tx;

/// Tickets keep the priority that they have; it is computed anew when their impact or urgency is named anew.
pub async fn set(tx: &mut Tx, actor: &Actor, matrix: &PriorityMatrix) -> Result<()> {
    permission::check(actor, Permission::OrganizationManage)?;
    store::priority_matrix::put(tx, matrix).await?;
    events::record(tx, actor, "priority_matrix.updated", None, json!({})).await?;
    Ok(())
}

/// Gives a new organization the usual matrix.
pub async fn seed(tx: &mut Tx) -> Result<()> {
    Ok(store::priority_matrix::put(tx, &PriorityMatrix::default()).await?)
}
