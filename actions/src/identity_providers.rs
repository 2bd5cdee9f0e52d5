//! Identity providers: where people log in besides here, and what they get by it.
//!
//! Who configures one decides who logs in as whom, so it takes all rights of an admin. Issuer and client never change: subjects belong to them,
//! and a secret goes to no other server than the one that it was entered for. Which roles and teams people get is decided at their login
//! ([`crate::sign_in`]).

use crate::{Error, FieldError, Result, check, events};
use domain::permission::covers;
use domain::{
    Actor, EmailAddress, ExternalIdentityId, IdentityProviderId, Permission, Role, TeamId, UserId, permission,
};
use queue::KeyRing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::Tx;
use store::identity_providers::{self as providers, Group, Meaning, Provider, Sealed};
use uuid::Uuid;

/// What client secrets are sealed as.
const SEALED_AS: &str = "oidc client secret";
/// More buttons than anybody reads.
const MOST: i64 = 20;
const MOST_GROUPS: usize = 500;
const MOST_DOMAINS: usize = 100;
const MOST_SCOPES: usize = 20;
const LONGEST_TEXT: usize = 500;
const LONGEST_SECRET: usize = 1000;

const WORDS: [(&str, &str, &str); 3] = [
    ("identity_providers_name_key", check::CONFLICT, "there is a provider of that name already"),
    (
        "identity_providers_client_key",
        check::CONFLICT,
        "there is a provider with this issuer and client already",
    ),
    ("identity_provider_groups_team_fkey", "/groups", "there is no such team"),
];

#[derive(Clone, Debug)]
pub struct NewProvider {
    /// Checked by `connectors::oidc::check_issuer`.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    pub settings: Settings,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub scopes: Vec<String>,
    pub email_domains: Vec<String>,
    pub assumes_verified_email: bool,
    pub links_accounts: bool,
    pub creates_users: bool,
    pub default_role: Role,
    pub groups_claim: Option<String>,
    pub groups: Vec<GroupMeaning>,
    pub trusts_mfa: bool,
    pub trusts_reauthentication: bool,
    pub login_hours: i32,
    pub is_enabled: bool,
}

/// A role or a team.
#[derive(Clone, Debug)]
pub struct GroupMeaning {
    pub group: String,
    pub role: Option<Role>,
    pub team: Option<TeamId>,
}

fn may(actor: &Actor) -> Result<()> {
    permission::check(actor, Permission::IdentityProvidersManage)?;
    Ok(covers(actor, &Role::Admin.permissions())?)
}

pub async fn create(tx: &mut Tx, actor: &Actor, ring: &KeyRing, new: NewProvider) -> Result<Provider> {
    may(actor)?;
    let now = tx.now();
    // One after the other, so that there are not more than the most.
    let organization = store::organizations::lock(tx).await?;
    if providers::count(tx).await? >= MOST {
        return Err(Error::conflict(format!("an organization has at most {MOST} identity providers")));
    }
    let provider = Provider {
        id: IdentityProviderId::new(),
        name: String::new(),
        issuer: new.issuer,
        client_id: check::text("/client_id", &new.client_id, LONGEST_TEXT)?,
        secret: new.client_secret.map(|secret| sealed(ring, &secret)).transpose()?,
        scopes: Vec::new(),
        email_domains: Vec::new(),
        assumes_verified_email: false,
        links_accounts: false,
        creates_users: false,
        default_role: Role::EndUser,
        groups_claim: None,
        groups: Vec::new(),
        trusts_mfa: false,
        trusts_reauthentication: false,
        login_hours: 1,
        is_enabled: false,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let provider = set(tx, provider, new.settings, organization.is_operator).await?;
    check::constraints(providers::insert(tx, &provider).await, &WORDS)?;
    tell(tx, actor, "identity_provider.created", &provider).await?;
    Ok(providers::get(tx, provider.id).await?)
}

/// The settings as they stand, for changing some of them.
pub fn settings(provider: &Provider) -> Settings {
    let groups = provider.groups.iter().map(|group| GroupMeaning {
        group: group.name.clone(),
        role: if let Meaning::Role(role) = group.meaning { Some(role) } else { None },
        team: if let Meaning::Team(team) = group.meaning { Some(team) } else { None },
    });
    Settings {
        name: provider.name.clone(),
        scopes: provider.scopes.clone(),
        email_domains: provider.email_domains.clone(),
        assumes_verified_email: provider.assumes_verified_email,
        links_accounts: provider.links_accounts,
        creates_users: provider.creates_users,
        default_role: provider.default_role,
        groups_claim: provider.groups_claim.clone(),
        groups: groups.collect(),
        trusts_mfa: provider.trusts_mfa,
        trusts_reauthentication: provider.trusts_reauthentication,
        login_hours: provider.login_hours,
        is_enabled: provider.is_enabled,
    }
}

/// `before` is the locked row. `secret`: `None` leaves it, `Some(None)` takes it away. Switched off, its logins end.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
    before: Provider,
    secret: Option<Option<SecretString>>,
    settings: Settings,
) -> Result<Provider> {
    may(actor)?;
    let organization = store::organizations::current(tx).await?;
    let was_enabled = before.is_enabled;
    let mut provider = set(tx, before, settings, organization.is_operator).await?;
    if let Some(secret) = secret {
        provider.secret = secret.map(|secret| sealed(ring, &secret)).transpose()?;
    }
    check::constraints(providers::update(tx, &provider).await, &WORDS)?;
    check::constraints(providers::replace_groups(tx, &provider).await, &WORDS)?;
    if was_enabled && !provider.is_enabled {
        store::sessions::revoke_provider(tx, provider.id).await?;
    }
    tell(tx, actor, "identity_provider.updated", &provider).await?;
    Ok(providers::get(tx, provider.id).await?)
}

/// Its logins end, and nobody is known by it any more; the people stay.
pub async fn delete(tx: &mut Tx, actor: &Actor, provider: &Provider) -> Result<()> {
    may(actor)?;
    store::sessions::revoke_provider(tx, provider.id).await?;
    providers::delete(tx, provider.id).await?;
    tell(tx, actor, "identity_provider.deleted", provider).await
}

async fn tell(tx: &mut Tx, actor: &Actor, kind: &str, provider: &Provider) -> Result<()> {
    let payload =
        json!({"identity_provider": provider.id, "name": provider.name, "is_enabled": provider.is_enabled});
    events::record(tx, actor, kind, None, payload).await?;
    Ok(())
}

/// Somebody is no longer known by a provider; their logins by way of it end.
pub async fn unlink(tx: &mut Tx, actor: &Actor, user: UserId, id: ExternalIdentityId) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    store::users::lock(tx, user).await?;
    crate::roles::may_govern(tx, actor, user).await?;
    let provider = store::external_identities::delete(tx, user, id).await?;
    store::sessions::revoke_user_of(tx, user, provider).await?;
    let payload = json!({"user": user, "provider": provider});
    events::record(tx, actor, "user.identity_unlinked", None, payload).await?;
    Ok(())
}

fn sealed(ring: &KeyRing, secret: &SecretString) -> Result<Sealed> {
    let clear = secret.expose_secret();
    if clear.is_empty() || clear.len() > LONGEST_SECRET || clear.chars().any(char::is_control) {
        let detail = format!("must be 1 to {LONGEST_SECRET} characters without control characters");
        return Err(Error::invalid("/client_secret", detail));
    }
    let id = Uuid::now_v7();
    crate::mfa::can_be_kept(ring)?;
    let (key_name, bytes) = ring
        .seal_secret(SEALED_AS, id, clear.as_bytes())
        .ok_or_else(|| Error::Busy("the secret could not be sealed".into()))?;
    Ok(Sealed { id, key_name, bytes })
}

/// The secret, for the provider itself.
pub(crate) fn opened(ring: &KeyRing, provider: &Provider) -> Result<Option<SecretString>> {
    let Some(secret) = &provider.secret else { return Ok(None) };
    let opened = ring.open_secret(&secret.key_name, SEALED_AS, secret.id, secret.bytes.clone());
    let clear = opened.map_err(|error| {
        tracing::error!(identity_provider.id = %provider.id, %error, "a client secret cannot be opened");
        Error::Busy("logins of this provider do not work for now: the operator of this installation must look into the log".into())
    })?;
    let clear = String::from_utf8(clear).map_err(|_| Error::Busy("a client secret is no text".into()))?;
    Ok(Some(clear.into()))
}

/// The provider with these settings, or all that is wrong with them.
async fn set(tx: &mut Tx, mut provider: Provider, settings: Settings, is_operator: bool) -> Result<Provider> {
    let mut wrong = Vec::new();
    let mut say =
        |pointer: String, detail: &str| wrong.push(FieldError { pointer, detail: detail.to_owned() });
    let mut scopes = settings.scopes;
    scopes.dedup();
    let is_scope = |scope: &String| {
        (1..=100).contains(&scope.len())
            && scope.bytes().all(|c| c.is_ascii_graphic() && c != b'"' && c != b'\\')
    };
    if let Some(at) = scopes.iter().position(|scope| !is_scope(scope)) {
        say(format!("/scopes/{at}"), "is no scope (RFC 6749, 3.3)");
    } else if !scopes.iter().any(|scope| scope == "openid") || scopes.len() > MOST_SCOPES {
        say("/scopes".into(), "must have openid among them, and be 20 at most");
    }
    let mut domains = Vec::new();
    for (at, domain) in settings.email_domains.iter().enumerate() {
        match EmailAddress::parse(&format!("x@{}", domain.trim())) {
            Ok(address) => domains.push(address.host().to_owned()),
            Err(_) => say(format!("/email_domains/{at}"), "must be a domain, for example acme.example"),
        }
    }
    domains.sort();
    domains.dedup();
    if domains.len() > MOST_DOMAINS {
        say("/email_domains".into(), "must be 100 at most");
    }
    let claim = settings.groups_claim.map(|claim| claim.trim().to_owned()).filter(|claim| !claim.is_empty());
    if claim.as_ref().is_some_and(|claim| claim.len() > 200 || claim.chars().any(char::is_control)) {
        say("/groups_claim".into(), "must be at most 200 characters long, without control characters");
    }
    if claim.is_none() && !settings.groups.is_empty() {
        say("/groups_claim".into(), "must be given, so that groups mean something");
    }
    if settings.groups.len() > MOST_GROUPS {
        say("/groups".into(), "must be 500 at most");
    }
    let not_here = "a provider makes no admins in the organization that operates this installation: they administrate all of it";
    if is_operator && settings.default_role == Role::Admin {
        say("/default_role".into(), not_here);
    }
    let mut groups = Vec::with_capacity(settings.groups.len());
    for (at, group) in settings.groups.into_iter().enumerate() {
        let name = group.group.trim().to_owned();
        if name.is_empty() || name.chars().count() > LONGEST_TEXT || name.chars().any(char::is_control) {
            say(format!("/groups/{at}/group"), "must be the name of a group: 1 to 500 characters");
        }
        let meaning = match (group.role, group.team) {
            (Some(role), None) => {
                if is_operator && role == Role::Admin {
                    say(format!("/groups/{at}/role"), not_here);
                }
                Meaning::Role(role)
            }
            (None, Some(team)) => Meaning::Team(team),
            _ => {
                say(format!("/groups/{at}"), "must have either a role or a team");
                continue;
            }
        };
        groups.push(Group { name, meaning });
    }
    if !(1..=720).contains(&settings.login_hours) {
        say("/login_hours".into(), "must be a number from 1 to 720");
    }
    let mut name = settings.name;
    check::name_among(&mut wrong, &mut name);
    let teams = groups.iter().enumerate().filter_map(|(at, group)| match group.meaning {
        Meaning::Team(team) => Some((at, team)),
        Meaning::Role(_) => None,
    });
    let teams: Vec<_> = teams.collect();
    let ids: Vec<TeamId> = teams.iter().map(|(_, team)| *team).collect();
    check::teams(tx, &ids, |at| format!("/groups/{}/team", teams[at].0), &mut wrong).await?;
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    provider.name = name;
    provider.scopes = scopes;
    provider.email_domains = domains;
    provider.assumes_verified_email = settings.assumes_verified_email;
    provider.links_accounts = settings.links_accounts;
    provider.creates_users = settings.creates_users;
    provider.default_role = settings.default_role;
    provider.groups_claim = claim;
    provider.groups = groups;
    provider.trusts_mfa = settings.trusts_mfa;
    provider.trusts_reauthentication = settings.trusts_reauthentication;
    provider.login_hours = settings.login_hours;
    provider.is_enabled = settings.is_enabled;
    Ok(provider)
}
