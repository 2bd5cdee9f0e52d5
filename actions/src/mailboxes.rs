//! The addresses under which an organization takes mail.

use crate::credentials::{hash_token, new_token};
use crate::{Error, Result, check, events};
use domain::permission::{self, Permission};
use domain::{Actor, EmailAddress, MailboxId, TeamId};
use secrecy::ExposeSecret;
use serde_json::json;
use store::Tx;
use store::mailboxes::Mailbox;

#[derive(Clone, Debug)]
pub struct NewMailbox {
    pub address: EmailAddress,
    pub name: String,
    pub team: Option<TeamId>,
}

#[derive(Clone, Debug, Default)]
pub struct MailboxPatch {
    pub address: Option<EmailAddress>,
    pub name: Option<String>,
    pub team: Option<Option<TeamId>>,
    pub is_active: Option<bool>,
}

/// The mailbox, and the token of its hook: shown once, kept as a hash.
pub async fn create(tx: &mut Tx, actor: &Actor, new: NewMailbox) -> Result<(Mailbox, String)> {
    permission::check(actor, Permission::MailboxesManage)?;
    check::living_team(tx, "/team", new.team).await?;
    let token = hook_token();
    let now = tx.now();
    let mailbox = Mailbox {
        id: MailboxId::new(),
        address: new.address,
        name: check::name(&new.name)?,
        team: new.team,
        hook_token_prefix: prefix(&token),
        is_active: true,
        created_at: now,
        updated_at: now,
    };
    store::mailboxes::insert(tx, &mailbox, &hash_token(&token)).await.map_err(explain)?;
    events::record(tx, actor, "mailbox.created", None, json!({"mailbox": mailbox.id, "name": mailbox.name}))
        .await?;
    Ok((mailbox, token))
}

pub async fn update(tx: &mut Tx, actor: &Actor, id: MailboxId, patch: MailboxPatch) -> Result<Mailbox> {
    permission::check(actor, Permission::MailboxesManage)?;
    let mut mailbox = store::mailboxes::get(tx, id).await?;
    if let Some(address) = patch.address {
        mailbox.address = address;
    }
    if let Some(text) = patch.name {
        mailbox.name = check::name(&text)?;
    }
    if let Some(team) = patch.team {
        check::living_team(tx, "/team", team).await?;
        mailbox.team = team;
    }
    if let Some(is_active) = patch.is_active {
        mailbox.is_active = is_active;
    }
    store::mailboxes::update(tx, &mailbox).await.map_err(explain)?;
    events::record(tx, actor, "mailbox.updated", None, json!({"mailbox": id, "name": mailbox.name})).await?;
    Ok(store::mailboxes::get(tx, id).await?)
}

/// A new token for the hook; the old one is worth nothing from now on.
pub async fn rotate_hook_token(tx: &mut Tx, actor: &Actor, id: MailboxId) -> Result<(Mailbox, String)> {
    permission::check(actor, Permission::MailboxesManage)?;
    let token = hook_token();
    store::mailboxes::set_hook_token(tx, id, &hash_token(&token), &prefix(&token)).await?;
    events::record(tx, actor, "mailbox.token_rotated", None, json!({"mailbox": id})).await?;
    Ok((store::mailboxes::get(tx, id).await?, token))
}

/// What came through it stays.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: MailboxId) -> Result<()> {
    permission::check(actor, Permission::MailboxesManage)?;
    store::mailboxes::delete(tx, id).await?;
    events::record(tx, actor, "mailbox.deleted", None, json!({"mailbox": id})).await?;
    Ok(())
}

fn explain(error: store::Error) -> Error {
    match error.constraint() {
        Some("mailboxes_address_key") => Error::conflict("that address is a mailbox already"),
        Some("mailboxes_team_fkey") => Error::invalid("/team", "there is no such team"),
        _ => error.into(),
    }
}

fn hook_token() -> String {
    new_token("rdm_").expose_secret().to_owned()
}

/// Enough to tell tokens apart, too little to use one.
fn prefix(token: &str) -> String {
    token.chars().take(10).collect()
}
