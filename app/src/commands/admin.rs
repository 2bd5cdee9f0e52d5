//! `relaydesk admin create-organization|create-user|create-token`

use crate::cli::{AdminCommand, Json};
use crate::say;
use actions::{api_tokens, organizations, users};
use anyhow::{Context, anyhow};
use domain::{Actor, EmailAddress, OrganizationId, Role, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::io::BufRead;
use store::{Db, Tx};

const LABEL: &str = "relaydesk admin";

pub async fn run(command: &AdminCommand, db: &Db) -> anyhow::Result<()> {
    match command {
        AdminCommand::CreateOrganization { name, slug, time_zone, output } => {
            let id = create_organization(db, slug, name, time_zone).await?;
            show(output, &json!({"id": id, "slug": slug}));
        }
        AdminCommand::CreateUser { organization, email, name, role, password_stdin, output } => {
            let given = password_stdin.then(read_password).transpose()?;
            let made_up = given.is_none();
            let password = given.unwrap_or_else(|| crate::demo::secret().into());
            let mut tx = in_organization(db, organization).await?;
            let id = create_user(&mut tx, email, name, *role, &password).await?;
            tx.commit().await?;
            let mut facts = json!({"id": id, "email": email, "role": role});
            if made_up {
                facts["password"] = password.expose_secret().into();
            }
            show(output, &facts);
        }
        AdminCommand::CreateToken { organization, email, name, output } => {
            let mut tx = in_organization(db, organization).await?;
            let token = create_token(&mut tx, email, name).await?;
            tx.commit().await?;
            show(output, &json!({"token": token.expose_secret()}));
        }
    }
    Ok(())
}

pub async fn create_organization(
    db: &Db,
    slug: &str,
    name: &str,
    time_zone: &str,
) -> anyhow::Result<OrganizationId> {
    let mut tx = db.begin_system().await?;
    let new = organizations::NewTenant { slug: slug.into(), name: name.into(), time_zone: time_zone.into() };
    let id = organizations::create(&mut tx, &new).await.map_err(words)?;
    tx.commit().await?;
    Ok(id)
}

pub async fn create_user(
    tx: &mut Tx,
    email: &str,
    name: &str,
    role: Role,
    password: &SecretString,
) -> anyhow::Result<UserId> {
    let new = users::NewPerson {
        email: email.into(),
        name: name.into(),
        role,
        password_hash: users::hashed(Some(password)).await.map_err(words)?,
        department: None,
        manager: None,
        time_zone: None,
        locale: None,
        phone: None,
    };
    let actor = Actor::system(tx.organization(), LABEL);
    Ok(users::create(tx, &actor, new).await.map_err(words)?.id)
}

pub async fn create_token(tx: &mut Tx, email: &str, name: &str) -> anyhow::Result<SecretString> {
    let email = EmailAddress::parse(email).map_err(|error| anyhow!("{error}"))?;
    let user = store::users::find_by_email(tx, &email)
        .await?
        .with_context(|| format!("there is no user {email}"))?;
    let actor = Actor::system(tx.organization(), LABEL);
    let (_, token) = api_tokens::create(tx, &actor, user.id, name, None, None).await.map_err(words)?;
    Ok(token)
}

/// A token with that name in place of all that the user has under it.
pub async fn renew_token(tx: &mut Tx, email: &str, name: &str) -> anyhow::Result<SecretString> {
    let email_address = EmailAddress::parse(email).map_err(|error| anyhow!("{error}"))?;
    if let Some(user) = store::users::find_by_email(tx, &email_address).await? {
        for token in store::api_tokens::list(tx, Some(user.id), None, 1000).await? {
            if token.name == name && token.revoked_at.is_none() {
                store::api_tokens::revoke(tx, token.id).await?;
            }
        }
    }
    create_token(tx, email, name).await
}

/// Gives the person this password, after making them if there is nobody with that address.
pub async fn set_password_or_create(
    tx: &mut Tx,
    email: &str,
    name: &str,
    role: Role,
    password: &SecretString,
) -> anyhow::Result<()> {
    let address = EmailAddress::parse(email).map_err(|error| anyhow!("{error}"))?;
    let Some(user) = store::users::find_by_email(tx, &address).await? else {
        create_user(tx, email, name, role, password).await?;
        return Ok(());
    };
    let actor = Actor::system(tx.organization(), LABEL);
    let hash = actions::credentials::hash_password(password, "/password").await.map_err(words)?;
    users::set_password(tx, &actor, user.id, &hash).await.map_err(words)
}

/// A transaction in the organization with that slug.
pub async fn in_organization(db: &Db, slug: &str) -> anyhow::Result<Tx> {
    let mut tx = db.begin_system().await?;
    let organization = organization(&mut tx, slug).await?;
    tx.enter(organization).await?;
    Ok(tx)
}

/// `tx` is a system transaction.
pub async fn organization(tx: &mut Tx, slug: &str) -> anyhow::Result<OrganizationId> {
    let found = store::organizations::find_by_slug(tx, slug).await?;
    found.with_context(|| format!("there is no organization {slug:?}"))
}

/// An action's error as a line for the shell.
pub fn words(error: actions::Error) -> anyhow::Error {
    match error {
        actions::Error::Invalid(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| format!("{} {}", field.pointer.trim_start_matches('/'), field.detail))
                .collect();
            anyhow!("{}", fields.join("; "))
        }
        other => other.into(),
    }
}

fn read_password() -> anyhow::Result<SecretString> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned().into())
}

fn show(output: &Json, facts: &Value) {
    if output.json {
        say!("{facts:#}");
    } else if let Value::Object(fields) = facts {
        for (name, value) in fields {
            say!("{name}: {}", value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string()));
        }
    }
}
