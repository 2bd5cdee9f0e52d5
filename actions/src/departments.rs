//! Departments: made, moved, renamed, dissolved and brought back.

use crate::{Error, Result, check, events, roles};
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
    check::living_department(tx, "/parent", parent).await?;
    check::living_user(tx, "/manager", manager).await?;
    let department =
        Department { id, name, parent, manager, created_at: now, updated_at: now, deleted_at: None };
    check::constraints(store::departments::insert(tx, &department).await, &WORDS)?;
    events::record(tx, actor, "department.created", None, json!({"department": id})).await?;
    Ok(department)
}

/// As it is, locked for a change. Who moves it waits for other moves: two at once could make a circle of which neither knows.
pub async fn lock(tx: &mut Tx, id: DepartmentId, moves: bool) -> Result<Department> {
    if moves {
        store::departments::lock_tree(tx).await?;
    }
    Ok(store::departments::lock(tx, id).await?)
}

/// Writes all fields; `before` comes from [`lock`].
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    before: Department,
    fields: DepartmentFields,
) -> Result<Department> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(before.deleted_at)?;
    if fields.parent != before.parent {
        roles::may_restructure(actor)?;
        check::living_department(tx, "/parent", fields.parent).await?;
    }
    if fields.manager != before.manager {
        check::living_user(tx, "/manager", fields.manager).await?;
    }
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

/// As it is, locked for its deletion: nobody begins to name it.
pub async fn lock_whole(tx: &mut Tx, id: DepartmentId) -> Result<Department> {
    store::departments::lock_tree(tx).await?;
    Ok(store::departments::lock_whole(tx, id).await?)
}

/// Only when nobody and nothing belongs to it any more. `before` comes from [`lock_whole`].
pub async fn delete(tx: &mut Tx, actor: &Actor, before: Department) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(before.deleted_at)?;
    if store::departments::is_in_use(tx, before.id).await? {
        return Err(Error::conflict(
            "people, teams or departments belong to this department: move them first",
        ));
    }
    store::departments::delete(tx, before.id).await?;
    events::record(tx, actor, "department.deleted", None, json!({"department": before.id})).await?;
    Ok(())
}

/// Where it was, with the name that it had.
pub async fn restore(tx: &mut Tx, actor: &Actor, before: Department) -> Result<Department> {
    permission::check(actor, Permission::TeamsManage)?;
    roles::may_restructure(actor)?;
    if before.deleted_at.is_none() {
        return Err(Error::conflict("it is not deleted"));
    }
    if let Some(parent) = before.parent
        && !store::removals::has_department(tx, parent).await?
    {
        return Err(Error::conflict("the department that it belongs to is deleted: restore that one first"));
    }
    check::constraints(store::departments::restore(tx, before.id).await, &WORDS)?;
    events::record(tx, actor, "department.restored", None, json!({"department": before.id})).await?;
    Ok(store::departments::get(tx, before.id).await?)
}
