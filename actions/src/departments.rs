//! Departments: made, moved, renamed, dissolved.

use crate::{Error, Result, check, events};
use domain::{Actor, DepartmentId, Permission, UserId, permission};
use serde_json::json;
use store::Tx;
use store::departments::Department;

#[derive(Clone, Debug)]
pub struct DepartmentFields {
    pub name: String,
    pub parent: Option<DepartmentId>,
    pub manager: Option<UserId>,
}

const WORDS: [(&str, &str, &str); 3] = [
    ("departments_name_key", check::CONFLICT, "there is a department of that name already"),
    ("departments_parent_fkey", "/parent", "there is no such department"),
    ("departments_manager_fkey", "/manager", "there is no such user"),
];

pub async fn create(tx: &mut Tx, actor: &Actor, fields: DepartmentFields) -> Result<Department> {
    permission::check(actor, Permission::TeamsManage)?;
    let (id, now) = (DepartmentId::new(), tx.now());
    let name = check::name(&fields.name)?;
    let (parent, manager) = (fields.parent, fields.manager);
    let department = Department { id, name, parent, manager, created_at: now, updated_at: now };
    check::constraints(store::departments::insert(tx, &department).await, &WORDS)?;
    events::record(tx, actor, "department.created", None, json!({"department": id})).await?;
    Ok(department)
}

/// Writes all fields; `before` is the locked row.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    before: Department,
    fields: DepartmentFields,
) -> Result<Department> {
    permission::check(actor, Permission::TeamsManage)?;
    if let Some(parent) = fields.parent
        && store::departments::is_within(tx, parent, before.id).await?
    {
        return Err(Error::invalid("/parent", "must not be the department itself or one below it"));
    }
    let name = check::name(&fields.name)?;
    let department = Department { name, parent: fields.parent, manager: fields.manager, ..before };
    check::constraints(store::departments::update(tx, &department).await, &WORDS)?;
    events::record(tx, actor, "department.updated", None, json!({"department": department.id})).await?;
    Ok(store::departments::get(tx, department.id).await?)
}

/// Only when nothing hangs on it.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: DepartmentId) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    store::departments::delete(tx, id).await.map_err(|error| match error.constraint() {
        Some(_) => Error::conflict("people, teams or departments belong to this department: move them first"),
        None => error.into(),
    })?;
    events::record(tx, actor, "department.deleted", None, json!({"department": id})).await?;
    Ok(())
}
