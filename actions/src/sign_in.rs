//! Logging in at an identity provider (docs/single-sign-on.md): begun, come back from, and exchanged for the tokens of a login like any other.
//!
//! What is asked of the provider in between is for `api` to do; no transaction is open meanwhile. State and code are used once, within minutes,
//! and only in the browser that began: it keeps one half of what nonce and PKCE verifier are made of, and the database the other.

use crate::access::Keys;
use crate::auth::{self, LoggedIn, Origin, Way};
use crate::users::{self, NewPerson, PersonChanges};
use crate::{Error, Result, credentials, events, identity_providers, mfa, organizations, teams, throttle};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::sign_in::{Entitled, Identity, Refusal, entitled, is_local_path};
use domain::{Actor, EmailAddress, IdentityProviderId, Permission, SignInId, TeamId, UserId};
use queue::KeyRing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use store::identity_providers::{Meaning, Provider};
use store::listing::Is;
use store::login_challenges::FirstStep;
use store::sessions::Bounds;
use store::users::User;
use store::{Db, Tx, external_identities, sign_ins};

/// What the code begins with that a page exchanges for tokens.
const PREFIX: &str = "rdc_";
/// Time to log in at the provider.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// How far a provider's clock may be behind.
const CLOCKS: TimeDelta = TimeDelta::minutes(2);
/// A page exchanges its code at once.
const CODE_LIFETIME: TimeDelta = TimeDelta::minutes(1);
/// What only the organization that operates the installation has.
const OF_THE_PLATFORM: [Permission; 2] = [Permission::PlatformManage, Permission::LanesManage];

/// Nobody is logged in.
#[derive(Debug)]
pub enum Failed {
    /// For a reason that the person is told.
    Refused(Refusal),
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Error(error)
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Failed::Error(error.into())
    }
}

/// What makes this login this one: sent to the provider, and asked for when it answers.
#[derive(Debug)]
pub struct Secrets {
    pub nonce: String,
    pub verifier: SecretString,
}

fn secrets(half: &[u8], browser: &str) -> Secrets {
    let of = |purpose: &[u8]| {
        let digest =
            Sha256::new().chain_update(purpose).chain_update([0]).chain_update(half).chain_update(browser);
        URL_SAFE_NO_PAD.encode(digest.finalize())
    };
    Secrets { nonce: of(b"nonce"), verifier: of(b"verifier").into() }
}

/// The provider, with what it knows us by.
#[derive(Debug)]
pub struct Peer {
    pub provider: Provider,
    pub client_secret: Option<SecretString>,
}

#[derive(Debug)]
pub struct Begun {
    pub peer: Peer,
    pub state: SecretString,
    /// For the browser to keep.
    pub browser: SecretString,
    pub secrets: Secrets,
}

/// Begins a login, for who is not logged in; or for who is, and is to show again who they are (`asks_again`).
pub async fn begin(
    db: &Db,
    ring: &KeyRing,
    id: IdentityProviderId,
    return_to: &str,
    asks_again: bool,
    origin: &Origin,
) -> Result<Begun> {
    if !is_local_path(return_to) {
        return Err(Error::invalid("/return_to", "must be a path of this installation: /…"));
    }
    let mut tx = db.begin_presenting(&id.to_string()).await?;
    let organization = store::identity_providers::organization_presented(&mut tx, id).await?;
    tx.rollback().await?;
    let organization = organization.ok_or(Error::NotFound)?;
    throttle::sign_in(db, origin.ip.as_deref()).await?;
    let mut tx = db.begin(organization).await?;
    organizations::must_go_on(&mut tx).await?;
    let provider = enabled(&mut tx, id).await?.ok_or(Error::NotFound)?;
    let (state, browser) = (credentials::new_token(""), credentials::new_token(""));
    let half: [u8; 32] = rand::random();
    let new = sign_ins::NewSignIn {
        provider: id,
        state_hash: &credentials::hash_token(state.expose_secret()),
        browser_hash: &credentials::hash_token(browser.expose_secret()),
        half: &half,
        return_to,
        asks_again,
        expires_at: tx.now() + LIFETIME,
    };
    sign_ins::insert(&mut tx, &new).await?;
    tx.commit().await?;
    let secrets = secrets(&half, browser.expose_secret());
    let client_secret = identity_providers::opened(ring, &provider)?;
    Ok(Begun { peer: Peer { provider, client_secret }, state, browser, secrets })
}

async fn enabled(tx: &mut Tx, id: IdentityProviderId) -> Result<Option<Provider>> {
    Ok(store::identity_providers::find(tx, id).await?.filter(|provider| provider.is_enabled))
}

/// A login that came back from its provider, in the browser that began it.
#[derive(Debug)]
pub struct Returned {
    id: SignInId,
    pub peer: Peer,
    pub secrets: Secrets,
    pub return_to: String,
    /// The database's clock.
    pub now: DateTime<Utc>,
    asked_again_at: Option<DateTime<Utc>>,
    actor: Actor,
}

/// Uses the state up. `None`: it is unknown, expired, used, of another provider, or of a browser that has none of `kept`.
pub async fn returned(
    db: &Db,
    ring: &KeyRing,
    id: IdentityProviderId,
    state: &str,
    kept: &[String],
) -> Result<Option<Returned>> {
    let hash = credentials::hash_token(state);
    let mut tx = db.begin_presenting(&hash).await?;
    let Some(found) = sign_ins::find_by_state(&mut tx, &hash).await? else { return Ok(None) };
    let Some(browser) = of_this_browser(kept, &found.browser_hash) else { return Ok(None) };
    if found.provider != id {
        return Ok(None);
    }
    tx.enter(found.organization).await?;
    let Some(provider) = enabled(&mut tx, id).await? else { return Ok(None) };
    if !sign_ins::use_state(&mut tx, found.id).await? {
        return Ok(None);
    }
    let now = tx.now();
    tx.commit().await?;
    let client_secret = identity_providers::opened(ring, &provider)?;
    Ok(Some(Returned {
        id: found.id,
        peer: Peer { provider, client_secret },
        secrets: secrets(&found.half, browser),
        return_to: found.return_to,
        now,
        asked_again_at: found.asked_again_at,
        actor: Actor::system(found.organization, "sign_in"),
    }))
}

fn of_this_browser<'a>(kept: &'a [String], hash: &str) -> Option<&'a str> {
    kept.iter().find(|value| credentials::hash_token(value) == hash).map(String::as_str)
}

/// Tells the organization that a login failed, and why.
pub async fn refused(db: &Db, returned: &Returned, refusal: Refusal, origin: &Origin) -> Result<()> {
    let provider = returned.peer.provider.id;
    tracing::info!(identity_provider.id = %provider, reason = %refusal, "a login at a provider was refused");
    let mut tx = db.begin(returned.actor.organization).await?;
    let payload = json!({"provider": provider, "reason": refusal.as_str(), "address": origin.ip});
    events::record(&mut tx, &returned.actor, "auth.login_failed", None, payload).await?;
    Ok(tx.commit().await?)
}

/// Finds, links or makes the person, gives them what their groups come to, and answers the code that a page exchanges for tokens.
pub async fn admit(
    db: &Db,
    returned: &Returned,
    identity: &Identity,
) -> std::result::Result<SecretString, Failed> {
    let mut tx = db.begin(returned.actor.organization).await?;
    let organization = store::organizations::current(&mut tx).await?;
    if organization.suspended_at.is_some() {
        return Err(Failed::Refused(Refusal::Suspended));
    }
    // As it is now: it may have been changed meanwhile.
    let provider =
        enabled(&mut tx, returned.peer.provider.id).await?.ok_or(Failed::Refused(Refusal::Denied))?;
    let proven_at = proven_at(returned.asked_again_at, identity.proven_at, provider.trusts_reauthentication)
        .map_err(Failed::Refused)?;
    let mut desk = Desk {
        tx: &mut tx,
        actor: &returned.actor,
        provider: &provider,
        is_operator: organization.is_operator,
    };
    let email = desk.address(identity)?;
    let found = match desk.known(identity).await? {
        Some(user) => Found { user, is_new: false },
        None => desk.meet(identity, email).await?,
    };
    desk.bring_up_to_date(&found, identity).await?;
    let user = found.user;
    external_identities::note_login(&mut tx, provider.id, user).await?;
    let code = credentials::new_token(PREFIX);
    let until = tx.now() + CODE_LIFETIME;
    let hash = credentials::hash_token(code.expose_secret());
    sign_ins::admit(&mut tx, returned.id, user, proven_at, &hash, until).await?;
    tx.commit().await?;
    Ok(code)
}

/// When they showed at the provider who they are, if that is known. A provider that was to ask has to say when it did (Core 2: `auth_time` is
/// required then); one that does not say is believed by who has set that it does what it is told. Its clock may be behind ours by a little.
fn proven_at(
    asked_again: Option<DateTime<Utc>>,
    said: Option<DateTime<Utc>>,
    is_trusted: bool,
) -> std::result::Result<Option<DateTime<Utc>>, Refusal> {
    match (asked_again, said) {
        (None, said) => Ok(said),
        (Some(asked), Some(said)) if said >= asked - CLOCKS => Ok(Some(said)),
        (Some(_), Some(_)) => Err(Refusal::NotAskedAgain),
        // Not before it was asked to.
        (Some(asked), None) if is_trusted => Ok(Some(asked)),
        (Some(_), None) => Err(Refusal::AuthTimeMissing),
    }
}

struct Found {
    user: UserId,
    /// Made just now.
    is_new: bool,
}

/// One person at the door.
struct Desk<'a> {
    tx: &'a mut Tx,
    actor: &'a Actor,
    provider: &'a Provider,
    is_operator: bool,
}

impl Desk<'_> {
    /// Their verified address, which must be of a domain that gets in: asked at each login.
    fn address<'i>(&self, identity: &'i Identity) -> std::result::Result<Option<&'i EmailAddress>, Failed> {
        let email = identity.verified_email(self.provider.assumes_verified_email);
        let domains = &self.provider.email_domains;
        match email {
            _ if domains.is_empty() => Ok(email),
            None => Err(Failed::Refused(Refusal::EmailNotVerified)),
            Some(email) if domains.iter().any(|domain| domain == email.host()) => Ok(Some(email)),
            Some(_) => Err(Failed::Refused(Refusal::DomainNotAllowed)),
        }
    }

    async fn known(&mut self, identity: &Identity) -> Result<Option<UserId>> {
        Ok(external_identities::user_of(self.tx, self.provider.id, &identity.subject).await?)
    }

    /// The first time: by their verified address, or as somebody new.
    async fn meet(
        &mut self,
        identity: &Identity,
        email: Option<&EmailAddress>,
    ) -> std::result::Result<Found, Failed> {
        // First logins by way of a provider are one after the other: the same person may come twice at once.
        store::identity_providers::lock(self.tx, self.provider.id).await?;
        if let Some(user) = self.known(identity).await? {
            return Ok(Found { user, is_new: false });
        }
        let email = email.ok_or(Failed::Refused(Refusal::EmailNotVerified))?;
        let found = match store::users::find_by_email(self.tx, email).await? {
            Some(user) => Found { user: self.linkable(&user).await?, is_new: false },
            // Nobody who was deleted comes back as somebody new.
            None if store::users::is_deleted_address(self.tx, email).await? => {
                return Err(Failed::Refused(Refusal::AccountClosed));
            }
            None if self.provider.creates_users => {
                Found { user: self.create(identity, email).await?, is_new: true }
            }
            None => return Err(Failed::Refused(Refusal::NoAccount)),
        };
        if !external_identities::insert(self.tx, self.provider.id, &identity.subject, found.user).await? {
            return Err(Failed::Refused(Refusal::AccountExists));
        }
        let payload = json!({"user": found.user, "provider": self.provider.id});
        events::record(self.tx, self.actor, "user.identity_linked", None, payload).await?;
        Ok(found)
    }

    async fn linkable(&mut self, user: &User) -> std::result::Result<UserId, Failed> {
        if !self.provider.links_accounts {
            return Err(Failed::Refused(Refusal::AccountExists));
        }
        if user.owner.is_some() || !user.may_enter() {
            return Err(Failed::Refused(Refusal::AccountClosed));
        }
        if self.administrates_the_platform(user.id).await? {
            return Err(Failed::Refused(Refusal::NotByProvider));
        }
        Ok(user.id)
    }

    async fn create(
        &mut self,
        identity: &Identity,
        email: &EmailAddress,
    ) -> std::result::Result<UserId, Failed> {
        let name = identity.name.as_deref().map(|name| name.chars().take(200).collect::<String>());
        let name = name.filter(|name| crate::check::name(name).is_ok());
        let role = self.entitled(identity).map_or(self.provider.default_role, |entitled| entitled.role);
        let new = NewPerson {
            email: email.as_str().to_owned(),
            name: name.unwrap_or_else(|| email.local_part().to_owned()),
            role,
            password_hash: None,
            department: None,
            manager: None,
            time_zone: None,
            locale: None,
            phone: None,
        };
        Ok(users::create(self.tx, self.actor, new).await?.id)
    }

    /// What the groups come to; `None`: roles and teams are not the provider's business.
    fn entitled(&self, identity: &Identity) -> Option<Entitled> {
        self.provider.groups_claim.as_ref()?;
        let matching = || self.provider.groups.iter().filter(|group| identity.groups.contains(&group.name));
        let roles = matching().filter_map(|group| match group.meaning {
            Meaning::Role(role) => Some(role),
            Meaning::Team(_) => None,
        });
        let teams = matching().filter_map(|group| match group.meaning {
            Meaning::Team(team) => Some(team),
            Meaning::Role(_) => None,
        });
        Some(entitled(roles, teams, self.provider.default_role))
    }

    /// The role is what the groups come to, whoever gave another one. Of teams, those that some group stands for; others are left alone. Who
    /// administrates the platform is left alone altogether, and nobody comes to do so by way of a provider.
    async fn bring_up_to_date(
        &mut self,
        found: &Found,
        identity: &Identity,
    ) -> std::result::Result<(), Failed> {
        let id = found.user;
        let was_above = !found.is_new && self.administrates_the_platform(id).await?;
        let wanted = self.entitled(identity).filter(|_| !was_above);
        let role = store::users::get(self.tx, id).await?.role;
        let change = wanted.as_ref().map(|wanted| wanted.role).filter(|wanted| *wanted != role);
        let changes = PersonChanges { role: change, ..PersonChanges::default() };
        let user = users::lock(self.tx, id, &changes).await?;
        if !user.may_enter() || user.owner.is_some() {
            return Err(Failed::Refused(Refusal::AccountClosed));
        }
        if user.role != role {
            return Err(Error::Busy("the person is being changed just now: log in again".into()).into());
        }
        // Out of teams first: they are for staff.
        let mapped = self.mapped_teams();
        let is_in: BTreeSet<TeamId> = match (&wanted, store::rights::of(self.tx, id).await?) {
            (Some(_), Some(holder)) => holder.rights.teams.into_iter().collect(),
            _ => BTreeSet::new(),
        };
        let wanted_teams = wanted.map(|wanted| wanted.teams).unwrap_or_default();
        for team in mapped.iter().filter(|team| is_in.contains(*team) && !wanted_teams.contains(*team)) {
            teams::remove_member(self.tx, self.actor, *team, id).await?;
        }
        if changes.role.is_some() {
            match users::update(self.tx, self.actor, user, changes).await {
                Err(Error::Conflict(_)) => return Err(Failed::Refused(Refusal::LastAdmin)),
                updated => drop(updated?),
            }
        }
        for team in wanted_teams.difference(&is_in) {
            teams::add_member(self.tx, self.actor, *team, id).await?;
        }
        if !was_above && self.administrates_the_platform(id).await? {
            return Err(Failed::Refused(Refusal::NotByProvider));
        }
        Ok(())
    }

    fn mapped_teams(&self) -> BTreeSet<TeamId> {
        let team = |meaning: &Meaning| if let Meaning::Team(team) = meaning { Some(*team) } else { None };
        self.provider.groups.iter().filter_map(|group| team(&group.meaning)).collect()
    }

    async fn administrates_the_platform(&mut self, user: UserId) -> Result<bool> {
        if !self.is_operator {
            return Ok(false);
        }
        let holder = store::rights::of(self.tx, user).await?.ok_or(Error::NotFound)?;
        Ok(OF_THE_PLATFORM.iter().any(|permission| holder.rights.granted(*permission).is_some()))
    }
}

/// The tokens of a login for the code of [`admit`], or the question for a second factor, unless the provider asks for one.
pub async fn exchange(
    db: &Db,
    keys: &Keys,
    code: &SecretString,
    kept: &[String],
    origin: &Origin,
) -> Result<LoggedIn> {
    let refused =
        || Error::Unauthenticated("the code is not valid, was used, or has expired: log in again".into());
    let hash = credentials::hash_token(code.expose_secret());
    let mut tx = db.begin_presenting(&hash).await?;
    let found = sign_ins::find_by_code(&mut tx, &hash).await?.ok_or_else(refused)?;
    of_this_browser(kept, &found.browser_hash).ok_or_else(refused)?;
    tx.enter(found.organization).await?;
    if !sign_ins::use_code(&mut tx, found.id).await? {
        return Err(refused());
    }
    let user = store::users::lock(&mut tx, found.user).await?;
    if !user.may_enter() {
        return Err(refused());
    }
    organizations::must_go_on(&mut tx).await?;
    let mut way = way(&mut tx, found.provider, "identity provider").await?.ok_or_else(refused)?;
    // Of whom it is not known when they were asked, nobody knows that it was they: that is long ago.
    let proven_at = Some(found.proven_at.unwrap_or(DateTime::UNIX_EPOCH));
    way.bounds.proven_at = proven_at;
    let first = FirstStep { provider: found.provider, proven_at };
    let challenge = match vouches(&mut tx, Some(found.provider)).await? {
        true => None,
        false => mfa::needed(&mut tx, &user, Some(first)).await?,
    };
    let logged_in = match challenge {
        Some(challenge) => LoggedIn::Halfway(challenge),
        None => LoggedIn::In(auth::begin(&mut tx, keys, &user, origin, way).await?),
    };
    tx.commit().await?;
    throttle::signed_in(db, origin.ip.as_deref()).await?;
    Ok(logged_in)
}

/// How somebody logs in by way of a provider; `None`: it is switched off.
pub(crate) async fn way(tx: &mut Tx, id: IdentityProviderId, by: &'static str) -> Result<Option<Way>> {
    let Some(provider) = enabled(tx, id).await? else { return Ok(None) };
    let ends_at = tx.now() + TimeDelta::hours(provider.login_hours.into());
    Ok(Some(Way { by, bounds: Bounds { provider: Some(id), ends_at: Some(ends_at), proven_at: None } }))
}

/// Whether a second factor is the provider's business.
pub(crate) async fn vouches(tx: &mut Tx, provider: Option<IdentityProviderId>) -> Result<bool> {
    let Some(id) = provider else { return Ok(false) };
    Ok(enabled(tx, id).await?.is_some_and(|provider| provider.trusts_mfa))
}

/// A way to log in, as a sign-in page shows it.
#[derive(Clone, Debug)]
pub struct Choice {
    pub id: IdentityProviderId,
    pub name: String,
}

/// The enabled providers of an organization; without its name, of the only one that there is. Who is unknown has none.
pub async fn choices(db: &Db, slug: Option<&str>) -> Result<Vec<Choice>> {
    let mut tx = db.begin_system().await?;
    let organization = match slug {
        Some(slug) => store::organizations::find_by_slug(&mut tx, slug).await?,
        None => match store::organizations::ids(&mut tx).await?.as_slice() {
            [only] => Some(*only),
            _ => None,
        },
    };
    tx.rollback().await?;
    let Some(organization) = organization else { return Ok(Vec::new()) };
    let mut tx = db.begin(organization).await?;
    let enabled = store::identity_providers::LIST.only("is_enabled", Is::Flag(true), 100);
    let providers = store::identity_providers::list(&mut tx, &enabled).await?;
    let choice = |provider: Provider| Choice { id: provider.id, name: provider.name };
    Ok(providers.into_iter().map(|placed| choice(placed.item)).collect())
}
