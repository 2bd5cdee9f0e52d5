//! Second factors: enrolled, asked for at the login, taken away.
//!
//! A code is used up by comparing and setting the last time step in one statement, so that of a hundred at once one counts. Tries are counted
//! per account before a code is looked at ([`throttle::code`]): only who knows the password gets that far.

use crate::access::Keys;
use crate::auth::{self, Origin, Tokens, Way};
use crate::{Error, Result, credentials, events, organizations, passwords, roles, sign_in, throttle, totp};
use chrono::TimeDelta;
use domain::{Actor, OrganizationId, Permission, UserId, permission};
use queue::KeyRing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use store::login_challenges::{self, FirstStep, Purpose};
use store::second_factors::SecondFactor;
use store::users::User;
use store::{Db, Tx};
use uuid::Uuid;

/// What the token of a half login begins with.
pub const PREFIX: &str = "rdm_";
/// Time to find the telephone.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// What secrets are sealed as.
const SEALED_AS: &str = "totp";
const RECOVERY_CODES: usize = 10;

/// The password was right; what is left to do.
#[derive(Debug)]
pub struct Challenge {
    pub token: SecretString,
    /// There is no second factor yet, and there must be one.
    pub must_enrol: bool,
    pub organization: OrganizationId,
    pub user: UserId,
}

/// What stands between a right password, or a login at a provider (`first`), and a login here.
pub(crate) async fn needed(tx: &mut Tx, user: &User, first: Option<FirstStep>) -> Result<Option<Challenge>> {
    let has_one = confirmed(tx, user.id).await?.is_some();
    let purpose = if has_one {
        Purpose::Verify
    } else if is_required(tx, user).await? {
        Purpose::Enrol
    } else {
        return Ok(None);
    };
    let token = credentials::new_token(PREFIX);
    let (hash, expires_at) = (credentials::hash_token(token.expose_secret()), tx.now() + LIFETIME);
    login_challenges::insert(tx, user.id, &hash, purpose, expires_at, first).await?;
    let (must_enrol, organization) = (purpose == Purpose::Enrol, tx.organization());
    Ok(Some(Challenge { token, must_enrol, organization, user: user.id }))
}

/// Whether the organization asks people of this role for a second factor.
pub async fn is_required(tx: &mut Tx, user: &User) -> Result<bool> {
    let organization = store::organizations::current(tx).await?;
    Ok(organization.mfa_required_roles.iter().any(|role| role == user.role.as_str()))
}

pub(crate) async fn is_missing(tx: &mut Tx, user: &User) -> Result<bool> {
    Ok(is_required(tx, user).await? && confirmed(tx, user.id).await?.is_none())
}

pub(crate) async fn is_enabled(tx: &mut Tx, user: UserId) -> Result<bool> {
    Ok(confirmed(tx, user).await?.is_some())
}

/// A code, or a recovery code, of somebody who is logged in and shows again who they are.
pub(crate) async fn confirm_again(
    db: &Db,
    ring: &KeyRing,
    organization: OrganizationId,
    user: UserId,
    code: &str,
    origin: &Origin,
) -> Result<()> {
    throttle::code(db, user).await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    let factor = confirmed(&mut tx, user).await?.ok_or_else(none_there)?;
    let is_right = is_right(&mut tx, ring, user, &factor, code).await?
        || use_recovery_code(&mut tx, &person, code, origin).await?;
    if !is_right {
        return Err(tell_wrong(tx, user, "reauthentication", origin).await);
    }
    tx.commit().await?;
    throttle::code_was_right(db, user).await
}

/// A wrong code is on record, whatever it was shown for. There are five in a quarter of an hour at most, so nobody fills the log with them.
async fn tell_wrong(mut tx: Tx, user: UserId, at: &str, origin: &Origin) -> Error {
    let payload = json!({"user": user, "at": at, "address": origin.ip});
    let actor = Actor::system(tx.organization(), "login");
    match events::record(&mut tx, &actor, "auth.mfa_failed", None, payload).await {
        Err(error) => error,
        Ok(_) => match tx.commit().await {
            Ok(()) => wrong_code(),
            Err(error) => error.into(),
        },
    }
}

async fn confirmed(tx: &mut Tx, user: UserId) -> Result<Option<SecondFactor>> {
    Ok(store::second_factors::find(tx, user).await?.filter(|factor| factor.confirmed_at.is_some()))
}

/// How somebody stands with their second factor.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub is_enabled: bool,
    pub is_required: bool,
    pub recovery_codes_left: i64,
}

pub async fn state(tx: &mut Tx, user: UserId) -> Result<State> {
    let person = store::users::get(tx, user).await?;
    Ok(State {
        is_enabled: confirmed(tx, user).await?.is_some(),
        is_required: is_required(tx, &person).await?,
        recovery_codes_left: store::second_factors::recovery_codes_left(tx, user).await?,
    })
}

/// Who enrols: somebody who is logged in, and knows the password; or somebody halfway, who has just shown it.
#[derive(Clone, Debug)]
pub enum Enrolling {
    LoggedIn { organization: OrganizationId, user: UserId, password: SecretString },
    Halfway { token: SecretString },
}

/// What goes into the authenticator. It is not asked for before it was shown to work.
#[derive(Debug)]
pub struct Enrolment {
    /// Base32, for typing.
    pub secret: SecretString,
    /// For a QR code.
    pub uri: SecretString,
}

pub async fn enrol(db: &Db, ring: &KeyRing, who: Enrolling) -> Result<Enrolment> {
    let (organization, user) = match who {
        Enrolling::LoggedIn { organization, user, password } => {
            passwords::confirm(db, organization, user, &password, "/password").await?;
            (organization, user)
        }
        Enrolling::Halfway { token } => {
            let found = presented(db, &token).await?;
            if found.purpose != Purpose::Enrol {
                return Err(Error::forbidden("there is a second factor already: show a code of it"));
            }
            (found.organization, found.user)
        }
    };
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    let (secret, id): ([u8; totp::SECRET_BYTES], _) = (rand::random(), Uuid::now_v7());
    let (key, sealed) = ring.seal_secret(SEALED_AS, id, &secret).ok_or_else(no_keys)?;
    if !store::second_factors::begin(&mut tx, user, id, &key, &sealed).await? {
        return Err(Error::conflict("there is a second factor already: disable it first"));
    }
    let organization = store::organizations::current(&mut tx).await?;
    tx.commit().await?;
    let issuer = format!("Relaydesk {}", organization.name);
    Ok(Enrolment {
        secret: totp::base32(&secret).into(),
        uri: totp::uri(&secret, &issuer, &person.email).into(),
    })
}

/// Whether an organization can ask for second factors at all.
pub fn can_be_kept(ring: &KeyRing) -> Result<()> {
    if ring.is_empty() { Err(no_keys()) } else { Ok(()) }
}

pub(crate) fn no_keys() -> Error {
    Error::conflict(
        "this installation has no keys to keep secrets with: its operator has to set RELAYDESK_JOB_KEYS",
    )
}

/// Shows that the authenticator works: from now on its codes are asked for. The recovery codes are in the answer and nowhere else.
pub async fn confirm(
    db: &Db,
    ring: &KeyRing,
    organization: OrganizationId,
    user: UserId,
    code: &str,
    origin: &Origin,
) -> Result<Vec<SecretString>> {
    throttle::code(db, user).await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    let Some(codes) = confirm_in(&mut tx, ring, &person, code).await? else {
        return Err(tell_wrong(tx, user, "enrolment", origin).await);
    };
    tx.commit().await?;
    throttle::code_was_right(db, user).await?;
    Ok(codes)
}

/// `None`: the code is wrong.
async fn confirm_in(
    tx: &mut Tx,
    ring: &KeyRing,
    person: &User,
    code: &str,
) -> Result<Option<Vec<SecretString>>> {
    let factor = store::second_factors::find(tx, person.id).await?;
    let factor =
        factor.ok_or_else(|| Error::conflict("nothing is being enrolled: begin with auth/mfa/enable"))?;
    if factor.confirmed_at.is_some() {
        return Err(Error::conflict("the second factor is enabled already"));
    }
    if !is_right(tx, ring, person.id, &factor, code).await? {
        return Ok(None);
    }
    store::second_factors::confirm(tx, person.id).await?;
    let codes = new_recovery_codes(tx, person.id).await?;
    let actor = auth::actor_of(tx, person);
    events::record(tx, &actor, "auth.mfa_enrolled", None, json!({"user": person.id})).await?;
    Ok(Some(codes))
}

fn wrong_code() -> Error {
    Error::invalid("/code", "is wrong, or was used before")
}

/// A login that a code finished.
#[derive(Debug)]
pub struct Finished {
    pub tokens: Tokens,
    /// When the second factor was made just now.
    pub recovery_codes: Option<Vec<SecretString>>,
}

/// Finishes a login with a code of the authenticator, or with a recovery code; or an enrolment that the login asked for.
pub async fn finish(
    db: &Db,
    keys: &Keys,
    ring: &KeyRing,
    token: &SecretString,
    code: &str,
    origin: &Origin,
) -> Result<Finished> {
    let challenge = presented(db, token).await?;
    throttle::code(db, challenge.user).await?;
    let mut tx = db.begin(challenge.organization).await?;
    let user = store::users::lock(&mut tx, challenge.user).await?;
    if !user.may_enter() {
        return Err(not_valid());
    }
    organizations::must_go_on(&mut tx).await?;
    let recovery_codes = match challenge.purpose {
        Purpose::Enrol => match confirm_in(&mut tx, ring, &user, code).await? {
            Some(codes) => Some(codes),
            None => return Err(tell_wrong(tx, user.id, "enrolment", origin).await),
        },
        Purpose::Verify => {
            let factor = confirmed(&mut tx, user.id).await?.ok_or_else(not_valid)?;
            if !is_right(&mut tx, ring, user.id, &factor, code).await?
                && !use_recovery_code(&mut tx, &user, code, origin).await?
            {
                return Err(tell_wrong(tx, user.id, "login", origin).await);
            }
            None
        }
    };
    let hash = credentials::hash_token(token.expose_secret());
    if !login_challenges::use_up(&mut tx, &hash).await? {
        return Err(not_valid());
    }
    let way = match challenge.first {
        None => Way::here("second factor"),
        Some(FirstStep { provider, proven_at }) => {
            let way = sign_in::way(&mut tx, provider, "identity provider and second factor").await?;
            let mut way = way.ok_or_else(not_valid)?;
            // A code shows now who somebody is; one of a factor that they have just made shows nothing.
            way.bounds.proven_at = proven_at.filter(|_| challenge.purpose == Purpose::Enrol);
            way
        }
    };
    let tokens = auth::begin(&mut tx, keys, &user, origin, way).await?;
    tx.commit().await?;
    throttle::code_was_right(db, user.id).await?;
    Ok(Finished { tokens, recovery_codes })
}

async fn presented(db: &Db, token: &SecretString) -> Result<login_challenges::Challenge> {
    let hash = credentials::hash_token(token.expose_secret());
    let mut tx = db.begin_presenting(&hash).await?;
    let found = login_challenges::find_presented(&mut tx, &hash).await?;
    tx.rollback().await?;
    found.ok_or_else(not_valid)
}

fn not_valid() -> Error {
    Error::Unauthenticated("the mfa_token is not valid, was used, or has expired: log in again".into())
}

/// Whether it is a code of the authenticator that nobody has used. What was sealed with an old key is sealed with the present one.
async fn is_right(
    tx: &mut Tx,
    ring: &KeyRing,
    user: UserId,
    factor: &SecondFactor,
    code: &str,
) -> Result<bool> {
    let id = factor.secret_id;
    let opened = ring.open_secret(&factor.key_name, SEALED_AS, id, factor.sealed_secret.clone());
    let secret = opened.map_err(|error| {
        tracing::error!(user.id = %user, %error, "the secret of a second factor cannot be opened");
        Error::Busy(
            "codes cannot be checked for now: the operator of this installation must look into the log"
                .into(),
        )
    })?;
    let typed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let Some(step) = totp::step_of(&secret, &typed, tx.now()) else { return Ok(false) };
    if !store::second_factors::use_step(tx, user, id, step).await? {
        return Ok(false);
    }
    if ring.names().next() != Some(&factor.key_name)
        && let Some((key, sealed)) = ring.seal_secret(SEALED_AS, id, &secret)
    {
        store::second_factors::reseal(tx, user, id, &key, &sealed).await?;
    }
    Ok(true)
}

async fn use_recovery_code(tx: &mut Tx, user: &User, code: &str, origin: &Origin) -> Result<bool> {
    let hash = recovery_hash(user.id, code);
    if !store::second_factors::use_recovery_code(tx, user.id, &hash).await? {
        return Ok(false);
    }
    let left = store::second_factors::recovery_codes_left(tx, user.id).await?;
    let payload = json!({"user": user.id, "left": left, "address": origin.ip});
    let actor = auth::actor_of(tx, user);
    events::record(tx, &actor, "auth.mfa_recovery_code_used", None, payload).await?;
    Ok(true)
}

/// A hundred and twenty random bits each, so that a fast hash will do (ASVS 5.0, 6.5.2).
async fn new_recovery_codes(tx: &mut Tx, user: UserId) -> Result<Vec<SecretString>> {
    let codes: Vec<String> = (0..RECOVERY_CODES)
        .map(|_| {
            let text = totp::base32(&rand::random::<[u8; 15]>()).to_lowercase();
            let groups: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
            groups.join("-")
        })
        .collect();
    let hashes: Vec<String> = codes.iter().map(|code| recovery_hash(user, code)).collect();
    store::second_factors::set_recovery_codes(tx, user, &hashes).await?;
    Ok(codes.into_iter().map(SecretString::from).collect())
}

/// Written with or without hyphens, in capitals or not.
fn recovery_hash(user: UserId, code: &str) -> String {
    let plain: String =
        code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    hex::encode(Sha256::new().chain_update(user.0.as_bytes()).chain_update(plain).finalize())
}

/// New recovery codes in place of the old ones, for who shows a code of the authenticator.
pub async fn renew_recovery_codes(
    db: &Db,
    ring: &KeyRing,
    actor: &Actor,
    user: UserId,
    code: &str,
    origin: &Origin,
) -> Result<Vec<SecretString>> {
    throttle::code(db, user).await?;
    let mut tx = db.begin(actor.organization).await?;
    store::users::lock(&mut tx, user).await?;
    let factor = confirmed(&mut tx, user).await?.ok_or_else(none_there)?;
    if !is_right(&mut tx, ring, user, &factor, code).await? {
        return Err(tell_wrong(tx, user, "recovery codes", origin).await);
    }
    let codes = new_recovery_codes(&mut tx, user).await?;
    events::record(&mut tx, actor, "auth.mfa_recovery_codes_renewed", None, json!({"user": user})).await?;
    tx.commit().await?;
    throttle::code_was_right(db, user).await?;
    Ok(codes)
}

fn none_there() -> Error {
    Error::conflict("there is no second factor")
}

/// Takes one's own second factor away: for who shows both factors. Not where it must be had.
pub async fn disable(
    db: &Db,
    ring: &KeyRing,
    actor: &Actor,
    user: UserId,
    password: &SecretString,
    code: &str,
    origin: &Origin,
) -> Result<()> {
    passwords::confirm(db, actor.organization, user, password, "/password").await?;
    throttle::code(db, user).await?;
    let mut tx = db.begin(actor.organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    let factor = confirmed(&mut tx, user).await?.ok_or_else(none_there)?;
    if is_required(&mut tx, &person).await? {
        return Err(Error::conflict("your organization asks people of your role for a second factor"));
    }
    if !is_right(&mut tx, ring, user, &factor, code).await?
        && !use_recovery_code(&mut tx, &person, code, origin).await?
    {
        return Err(tell_wrong(tx, user, "disabling", origin).await);
    }
    remove(&mut tx, actor, user).await?;
    tx.commit().await?;
    throttle::code_was_right(db, user).await
}

/// Takes somebody's second factor away whose telephone is lost; ends their logins (administration).
pub async fn take_away(tx: &mut Tx, actor: &Actor, user: UserId) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    if actor.user_id() == Some(user) {
        return Err(Error::conflict(
            "your own second factor goes with auth/mfa/disable, which asks for the password and a code",
        ));
    }
    store::users::lock(tx, user).await?;
    roles::may_govern(tx, actor, user).await?;
    store::sessions::revoke_user(tx, user, None).await?;
    remove(tx, actor, user).await
}

async fn remove(tx: &mut Tx, actor: &Actor, user: UserId) -> Result<()> {
    login_challenges::withdraw(tx, user).await?;
    if store::second_factors::remove(tx, user).await? {
        events::record(tx, actor, "auth.mfa_disabled", None, json!({"user": user})).await?;
    }
    Ok(())
}
