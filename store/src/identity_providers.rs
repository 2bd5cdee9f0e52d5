//! Where people of an organization may log in besides here: OpenID Connect providers, and what their groups mean.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{IdentityProviderId, OrganizationId, Role, TeamId};
use sqlx::FromRow;
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Provider {
    pub id: IdentityProviderId,
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client.
    pub secret: Option<Sealed>,
    pub scopes: Vec<String>,
    pub email_domains: Vec<String>,
    pub assumes_verified_email: bool,
    pub links_accounts: bool,
    pub creates_users: bool,
    pub default_role: Role,
    /// `None`: roles and teams are not its business.
    pub groups_claim: Option<String>,
    pub groups: Vec<Group>,
    pub trusts_mfa: bool,
    /// It asks again when it is told to, though its tokens do not say when.
    pub trusts_reauthentication: bool,
    pub login_hours: i32,
    pub is_enabled: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub struct Sealed {
    pub id: Uuid,
    pub key_name: String,
    pub bytes: Vec<u8>,
}

/// What being in a group of the provider means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Role(Role),
    Team(TeamId),
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    issuer: String,
    client_id: String,
    secret_id: Option<Uuid>,
    key_name: Option<String>,
    sealed_secret: Option<Vec<u8>>,
    scopes: Vec<String>,
    email_domains: Vec<String>,
    assumes_verified_email: bool,
    links_accounts: bool,
    creates_users: bool,
    default_role: String,
    groups_claim: Option<String>,
    trusts_mfa: bool,
    trusts_reauthentication: bool,
    login_hours: i32,
    is_enabled: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// With their groups, in the order of the rows.
async fn whole(tx: &mut Tx, rows: Vec<Row>) -> Result<Vec<Provider>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut groups = groups(tx, &ids).await?;
    rows.into_iter()
        .map(|row| {
            let secret = row.secret_id.zip(row.key_name).zip(row.sealed_secret);
            Ok(Provider {
                id: row.id.into(),
                name: row.name,
                issuer: row.issuer,
                client_id: row.client_id,
                secret: secret.map(|((id, key_name), bytes)| Sealed { id, key_name, bytes }),
                scopes: row.scopes,
                email_domains: row.email_domains,
                assumes_verified_email: row.assumes_verified_email,
                links_accounts: row.links_accounts,
                creates_users: row.creates_users,
                default_role: row.default_role.parse().map_err(Error::Corrupt)?,
                groups_claim: row.groups_claim,
                groups: groups.remove(&row.id).unwrap_or_default(),
                trusts_mfa: row.trusts_mfa,
                trusts_reauthentication: row.trusts_reauthentication,
                login_hours: row.login_hours,
                is_enabled: row.is_enabled,
                version: row.version,
                created_at: row.created_at,
                updated_at: row.updated_at,
            })
        })
        .collect()
}

/// Of each of these providers, without those that stand for a team that is deleted: they mean something again when it is restored.
async fn groups(tx: &mut Tx, providers: &[Uuid]) -> Result<HashMap<Uuid, Vec<Group>>> {
    let organization = tx.organization();
    let rows = sqlx::query!(
        "select provider_id, group_name, role, team_id from identity_provider_groups
          where organization_id = $1 and provider_id = any($2)
            and (team_id is null or team_id in (select id from teams where deleted_at is null))
          order by provider_id, position",
        organization.0,
        providers
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut groups: HashMap<Uuid, Vec<Group>> = HashMap::new();
    for row in rows {
        let meaning = match (row.role, row.team_id) {
            (Some(role), _) => Meaning::Role(role.parse().map_err(Error::Corrupt)?),
            (None, Some(team)) => Meaning::Team(team.into()),
            (None, None) => return Err(Error::Corrupt("a group that means nothing".into())),
        };
        groups.entry(row.provider_id).or_default().push(Group { name: row.group_name, meaning });
    }
    Ok(groups)
}

async fn set_groups(tx: &mut Tx, provider: &Provider) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!("delete from identity_provider_groups where provider_id = $1", provider.id.0)
        .execute(&mut **tx)
        .await?;
    for (position, group) in (0i32..).zip(&provider.groups) {
        let (role, team) = match group.meaning {
            Meaning::Role(role) => (Some(role.as_str()), None),
            Meaning::Team(team) => (None, Some(team.0)),
        };
        sqlx::query!(
            "insert into identity_provider_groups (id, organization_id, provider_id, position, group_name, role, team_id)
             values ($1, $2, $3, $4, $5, $6, $7)",
            Uuid::now_v7(),
            organization.0,
            provider.id.0,
            position,
            group.name,
            role,
            team,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Writes all columns as they stand in `provider`, except version and times.
pub async fn insert(tx: &mut Tx, provider: &Provider) -> Result<()> {
    let (organization, now, secret) = (tx.organization(), tx.now(), provider.secret.as_ref());
    sqlx::query!(
        "insert into identity_providers (id, organization_id, name, issuer, client_id, secret_id, key_name, sealed_secret, scopes,
                                         email_domains, assumes_verified_email, links_accounts, creates_users, default_role,
                                         groups_claim, trusts_mfa, login_hours, is_enabled, created_at, updated_at,
                                         trusts_reauthentication)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19, $20)",
        provider.id.0,
        organization.0,
        provider.name,
        provider.issuer,
        provider.client_id,
        secret.map(|secret| secret.id),
        secret.map(|secret| secret.key_name.as_str()),
        secret.map(|secret| secret.bytes.as_slice()),
        &provider.scopes,
        &provider.email_domains,
        provider.assumes_verified_email,
        provider.links_accounts,
        provider.creates_users,
        provider.default_role.as_str(),
        provider.groups_claim.as_deref(),
        provider.trusts_mfa,
        provider.login_hours,
        provider.is_enabled,
        now,
        provider.trusts_reauthentication,
    )
    .execute(&mut **tx)
    .await?;
    set_groups(tx, provider).await
}

/// Changes the row if it still has its version. Issuer and client stay what they are.
pub async fn update(tx: &mut Tx, provider: &Provider) -> Result<()> {
    let (now, secret) = (tx.now(), provider.secret.as_ref());
    let done = sqlx::query!(
        "update identity_providers
            set name = $3, secret_id = $4, key_name = $5, sealed_secret = $6, scopes = $7, email_domains = $8,
                assumes_verified_email = $9, links_accounts = $10, creates_users = $11, default_role = $12, groups_claim = $13,
                trusts_mfa = $14, login_hours = $15, is_enabled = $16, trusts_reauthentication = $18, version = version + 1, updated_at = $17
          where id = $1 and version = $2",
        provider.id.0,
        provider.version,
        provider.name,
        secret.map(|secret| secret.id),
        secret.map(|secret| secret.key_name.as_str()),
        secret.map(|secret| secret.bytes.as_slice()),
        &provider.scopes,
        &provider.email_domains,
        provider.assumes_verified_email,
        provider.links_accounts,
        provider.creates_users,
        provider.default_role.as_str(),
        provider.groups_claim.as_deref(),
        provider.trusts_mfa,
        provider.login_hours,
        provider.is_enabled,
        now,
        provider.trusts_reauthentication,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

/// In place of the groups before, if these are others.
pub async fn replace_groups(tx: &mut Tx, provider: &Provider) -> Result<()> {
    if groups(tx, &[provider.id.0]).await?.remove(&provider.id.0).unwrap_or_default() == provider.groups {
        return Ok(());
    }
    set_groups(tx, provider).await
}

/// Who logged in there is known to it no longer; their logins are to be ended before.
pub async fn delete(tx: &mut Tx, id: IdentityProviderId) -> Result<()> {
    let done = sqlx::query!("delete from identity_providers where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

pub async fn find(tx: &mut Tx, id: IdentityProviderId) -> Result<Option<Provider>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, issuer, client_id, secret_id, key_name, sealed_secret, scopes, email_domains, assumes_verified_email,
                links_accounts, creates_users, default_role, groups_claim, trusts_mfa, login_hours, is_enabled, version, created_at,
                updated_at, trusts_reauthentication
           from identity_providers where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(whole(tx, Vec::from_iter(row)).await?.pop())
}

pub async fn get(tx: &mut Tx, id: IdentityProviderId) -> Result<Provider> {
    find(tx, id).await?.ok_or(Error::NotFound)
}

lock!(IdentityProviderId => Provider, "select id from identity_providers where id = $1 for no key update");

/// Whose provider that is, in a transaction that presents the id: how somebody who is not logged in finds the organization.
pub async fn organization_presented(tx: &mut Tx, id: IdentityProviderId) -> Result<Option<OrganizationId>> {
    let organization = sqlx::query_scalar!(
        "select organization_id from identity_providers where id = $1 and is_enabled",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(organization.map(Into::into))
}

pub async fn count(tx: &mut Tx) -> Result<i64> {
    let organization = tx.organization();
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from identity_providers where organization_id = $1"#,
        organization.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// What providers can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "p.id"),
    field("name", Kind::LowerText, "lower(p.name)").by("lower(p.name)", "text"),
    field("issuer", Kind::Text, "p.issuer"),
    field("client_id", Kind::Text, "p.client_id"),
    field("links_accounts", Kind::Flag, "p.links_accounts"),
    field("creates_users", Kind::Flag, "p.creates_users"),
    field("default_role", Kind::Words(&["admin", "manager", "agent", "end_user"]), "p.default_role"),
    field("trusts_mfa", Kind::Flag, "p.trusts_mfa"),
    field("trusts_reauthentication", Kind::Flag, "p.trusts_reauthentication"),
    field("login_hours", Kind::Number, "p.login_hours"),
    field("is_enabled", Kind::Flag, "p.is_enabled"),
    field("created_at", Kind::Time, "p.created_at").by("p.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "p.updated_at").by("p.updated_at", "timestamptz"),
];

pub const LIST: List =
    List { from: "identity_providers p", fields: FIELDS, usual: "name", id: Key::uuid("p.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Provider>>> {
    let columns = "select p.id, p.name, p.issuer, p.client_id, p.secret_id, p.key_name, p.sealed_secret, p.scopes, p.email_domains, \
                   p.assumes_verified_email, p.links_accounts, p.creates_users, p.default_role, p.groups_claim, p.trusts_mfa, \
                   p.login_hours, p.is_enabled, p.version, p.created_at, p.updated_at, \
                   p.trusts_reauthentication";
    let rows = LIST.rows::<Row, Row>(tx, wanted, columns, |_| {}).await?;
    let (rows, places): (Vec<Row>, Vec<_>) = rows.into_iter().map(|row| (row.item, row.place)).unzip();
    let providers = whole(tx, rows).await?;
    Ok(providers.into_iter().zip(places).map(|(item, place)| Placed { item, place }).collect())
}
