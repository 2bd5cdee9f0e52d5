//! `relaydesk admin create-organization|create-user|create-token|import-users|seal-secrets`

use crate::cli::{AdminCommand, Json};
use crate::say;
use actions::passwords::{self, Policy};
use actions::{api_tokens, imports, organizations, seals, users};
use anyhow::{Context, anyhow};
use domain::people_sheet::LARGEST_TABLE;
use domain::{Actor, EmailAddress, OrganizationId, Role, UserId};
use queue::KeyRing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::io::{BufRead, Read};
use std::path::Path;
use store::listing::Is;
use store::{Db, Tx};

const LABEL: &str = "relaydesk admin";

pub async fn run(command: &AdminCommand, db: &Db, policy: &Policy, ring: &KeyRing) -> anyhow::Result<()> {
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
            let id = create_user(&mut tx, policy, email, name, *role, &password).await?;
            // Typed by who it is for; one that is made up here has been on a screen.
            store::users::set_must_change_password(&mut tx, id, made_up).await?;
            tx.commit().await?;
            let mut facts = json!({"id": id, "email": email, "role": role});
            if made_up {
                facts["password"] = password.expose_secret().into();
            }
            show(output, &facts);
        }
        AdminCommand::ImportUsers { organization, dry_run, create_missing, file, output } => {
            import_users(db, organization, *dry_run, *create_missing, file, output).await?;
        }
        AdminCommand::SealSecrets { output } => {
            let counted = seals::seal_all(db, ring).await.map_err(words)?;
            for why in &counted.refused {
                eprintln!("{why}");
            }
            let refused = counted.refused.len();
            show(
                output,
                &json!({"sealed": counted.sealed, "resealed": counted.resealed, "refused": refused}),
            );
            anyhow::ensure!(
                refused == 0,
                "{refused} secrets cannot be opened: set them anew, or put their key back"
            );
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

/// All lines or none, as over the API; also what becomes of it is written down there, unless the file is none.
async fn import_users(
    db: &Db,
    organization: &str,
    is_dry_run: bool,
    creates_missing: bool,
    file: &Path,
    output: &Json,
) -> anyhow::Result<()> {
    let bytes = read_table(file)?;
    let mut tx = in_organization(db, organization).await?;
    let actor = Actor::system(tx.organization(), LABEL);
    let report = match connectors::people_csv::read(&bytes) {
        Err(errors) => imports::Report::refused(errors),
        Ok(rows) => imports::apply(&mut tx, &actor, creates_missing, &rows).await.map_err(words)?,
    };
    if is_dry_run || !report.errors.is_empty() {
        tx.rollback().await?;
        tx = in_organization(db, organization).await?;
    }
    let import =
        imports::record(&mut tx, &actor, is_dry_run, creates_missing, &report).await.map_err(words)?;
    tx.commit().await?;
    let errors = &report.errors[..report.errors.len().min(imports::SHOWN)];
    if !output.json {
        for error in errors {
            let column = error.column.as_ref().map(|column| format!(", {column}")).unwrap_or_default();
            eprintln!("line {}{column}: {}", error.line, error.detail);
        }
    }
    let counts = report.counts;
    let mut facts = json!({"import": import.id, "status": import.status, "rows": counts.rows, "created": counts.created,
                           "changed": counts.changed, "unchanged": counts.unchanged});
    if output.json {
        facts["errors"] = json!(errors);
    }
    if output.json || report.errors.is_empty() {
        show(output, &facts);
    }
    let wrong = report.errors.len();
    anyhow::ensure!(wrong == 0, "{wrong} cells or lines are wrong: nothing was changed");
    Ok(())
}

/// Not more than the API takes.
fn read_table(file: &Path) -> anyhow::Result<Vec<u8>> {
    let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut bytes = Vec::new();
    let read = opened.take(LARGEST_TABLE as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", file.display()))?;
    anyhow::ensure!(
        bytes.len() <= LARGEST_TABLE,
        "{} is larger than {} MiB: cut it in pieces",
        file.display(),
        LARGEST_TABLE >> 20
    );
    Ok(bytes)
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
    policy: &Policy,
    email: &str,
    name: &str,
    role: Role,
    password: &SecretString,
) -> anyhow::Result<UserId> {
    let password_hash = passwords::first_in(tx, policy, email, name, password).await.map_err(words)?;
    let new = users::NewPerson {
        email: email.into(),
        name: name.into(),
        role,
        password_hash: Some(password_hash),
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
    let new = api_tokens::NewToken { name: name.to_owned(), ..api_tokens::NewToken::default() };
    let (_, token) = api_tokens::create(tx, &actor, user.id, &new).await.map_err(words)?;
    Ok(token)
}

/// A token with that name in place of all that the user has under it.
pub async fn renew_token(tx: &mut Tx, email: &str, name: &str) -> anyhow::Result<SecretString> {
    let email_address = EmailAddress::parse(email).map_err(|error| anyhow!("{error}"))?;
    if let Some(user) = store::users::find_by_email(tx, &email_address).await? {
        let theirs = store::api_tokens::LIST.only("user", Is::Id(vec![user.id.0]), 1000);
        for token in store::api_tokens::list(tx, &theirs).await?.into_iter().map(|placed| placed.item) {
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
        let id = create_user(tx, &Policy::default(), email, name, role, password).await?;
        return Ok(store::users::set_must_change_password(tx, id, false).await?);
    };
    let hash = store::users::password_hash(tx, user.id).await?;
    if actions::credentials::verify_password(hash, password).await.map_err(words)? {
        return Ok(());
    }
    let actor = Actor::system(tx.organization(), LABEL);
    passwords::set_in(tx, &Policy::default(), &actor, user.id, password).await.map_err(words)?;
    Ok(store::users::set_must_change_password(tx, user.id, false).await?)
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
