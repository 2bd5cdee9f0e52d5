//! Who calls: an access token of a login, or an API token. Both are checked against the database at every request, so a
//! logout, a revoked token, a changed role or a deactivated user counts from the next request on.

use crate::refusals::Asked;
use crate::{ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use domain::permission::{Limits, Reach};
use domain::{Actor, ApiTokenId, OrganizationId, Permission, Rights, Role, UserId, Who, permission};
use std::sync::Arc;
use store::Tx;
use store::rights::Holder;
use uuid::Uuid;

/// The authenticated caller of a handler. Anonymous requests get 401 before the handler runs.
#[derive(Clone, Debug)]
pub struct Caller {
    actor: Actor,
    rights: Arc<Rights>,
    user: UserId,
    credential: Credential,
    /// A login that began a moment ago ([`actions::access::RECENT`]).
    is_recent: bool,
    /// Somebody else knows the password that the login was made with.
    must_change_password: bool,
}

/// What a login is good for whose password somebody else knows.
const BEFORE_THE_CHANGE: [&str; 2] = ["/auth/change-password", "/auth/logout"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// An access token; names the login (family of sessions).
    Login(Uuid),
    ApiToken(ApiTokenId),
}

impl Caller {
    pub fn actor(&self) -> Actor {
        self.actor.clone()
    }

    pub fn organization(&self) -> OrganizationId {
        self.actor.organization
    }

    pub fn user_id(&self) -> UserId {
        self.user
    }

    /// The shipped one.
    pub fn role(&self) -> Role {
        self.rights.role
    }

    /// All that they may with this credential.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Which tickets they see, for lists.
    pub fn reach(&self) -> Reach {
        permission::reach(&self.actor)
    }

    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// What belongs to a login (second factors, other logins) is not for API tokens.
    pub fn require_login(&self) -> ApiResult<Uuid> {
        match self.credential {
            Credential::Login(family) => Ok(family),
            Credential::ApiToken(_) => {
                Err(Problem::forbidden("this is for people who are logged in, not for API tokens"))
            }
        }
    }

    /// What would outlive a token that somebody has got hold of is for who has shown a moment ago who they are.
    pub fn require_recent_login(&self) -> ApiResult<Uuid> {
        let family = self.require_login()?;
        if self.is_recent { Ok(family) } else { Err(Problem::reauthentication_required()) }
    }

    /// One's account itself (password, logins) is not for API tokens with scopes. Answers the login, if it is one.
    pub fn require_whole(&self) -> ApiResult<Option<Uuid>> {
        match self.credential {
            Credential::Login(family) => Ok(Some(family)),
            Credential::ApiToken(_) if self.rights.limits.is_none() => Ok(None),
            Credential::ApiToken(_) => Err(Problem::forbidden("this is not for API tokens with scopes")),
        }
    }

    /// For reads; writes are checked by their verb.
    pub fn require(&self, permission: Permission) -> ApiResult<()> {
        Ok(permission::check(&self.actor, permission)?)
    }

    /// For what tells of all tickets at once: who does not see those does not get it.
    pub fn require_wide(&self, permission: Permission) -> ApiResult<()> {
        Ok(permission::check_wide(&self.actor, permission)?)
    }

    /// A transaction in the caller's organization.
    pub async fn begin(&self, state: &AppState) -> ApiResult<Tx> {
        Ok(state.db.begin(self.organization()).await?)
    }

    /// Looks the token of a request up; from now on the request is the caller's.
    pub(crate) async fn enter(state: &AppState, token: &str, parts: &Parts) -> ApiResult<Caller> {
        let caller = Caller::entered(state, token, parts).await?.0;
        if caller.must_change_first() { Err(Problem::password_change_required()) } else { Ok(caller) }
    }

    /// The same for who may be held to change their password first.
    async fn entered(state: &AppState, token: &str, parts: &Parts) -> ApiResult<(Caller, Option<Tx>)> {
        let (caller, tx) = Caller::entering(state, token).await?;
        if let Some(asked) = parts.extensions.get::<Asked>() {
            asked.by(&caller.actor);
        }
        state.limiter.learn(token, &caller);
        store::context::act_as(&caller.actor);
        tracing::Span::current().record("user.id", tracing::field::display(caller.user));
        Ok((caller, tx))
    }

    fn must_change_first(&self) -> bool {
        self.must_change_password && matches!(self.credential, Credential::Login(_))
    }

    /// Looks the bearer token up. `Problem::unauthorized` says the same for all that is wrong with it.
    pub(crate) async fn of_token(state: &AppState, token: &str) -> ApiResult<Caller> {
        Ok(Caller::entering(state, token).await?.0)
    }

    /// The same with the transaction in their organization in which they were looked up, if it is still open.
    async fn entering(state: &AppState, token: &str) -> ApiResult<(Caller, Option<Tx>)> {
        if token.starts_with(actions::api_tokens::PREFIX) {
            Caller::of_api_token(state, token).await
        } else {
            Caller::of_access_token(state, token).await
        }
    }

    async fn of_access_token(state: &AppState, token: &str) -> ApiResult<(Caller, Option<Tx>)> {
        let claims = state.keys.check(token).map_err(|_| refused())?;
        let mut tx = state.db.begin(claims.org).await?;
        if !claims.is_current(tx.now()) {
            return Err(refused());
        }
        let found = store::rights::of_login(&mut tx, claims.sid, claims.sub).await?;
        let (used, person) = found.ok_or_else(refused)?;
        let is_recent = tx.now() < used.proven_at + actions::access::RECENT;
        let caller = Caller::of_person(&tx, person, Credential::Login(claims.sid), None)?;
        // Who came by way of a provider has not used the password that somebody else knows.
        let must_change_password = caller.must_change_password && !used.is_external;
        let caller = Caller { is_recent, must_change_password, ..caller };
        if !used.is_noted && store::sessions::touch(&mut tx, used.session).await? {
            tx.commit().await?;
            return Ok((caller, None));
        }
        Ok((caller, Some(tx)))
    }

    async fn of_api_token(state: &AppState, token: &str) -> ApiResult<(Caller, Option<Tx>)> {
        let hash = hash_token(token);
        // Whose it is stays so; whether it still counts is asked each time.
        let mut tx = match state.limiter.organization_of(&hash) {
            Some(organization) => state.db.begin(organization).await?,
            None => {
                let mut tx = state.db.begin_presenting(&hash).await?;
                let organization = store::api_tokens::organization_of(&mut tx, &hash).await?;
                tx.enter(organization.ok_or_else(refused)?).await?;
                tx
            }
        };
        let (token, person) = store::rights::of_token(&mut tx, &hash).await?.ok_or_else(refused)?;
        let limits = actions::api_tokens::limits(token.scopes.as_deref());
        let caller = Caller::of_person(&tx, person, Credential::ApiToken(token.id), limits)?;
        if !token.is_noted && store::api_tokens::touch(&mut tx, token.id).await? {
            tx.commit().await?;
            return Ok((caller, None));
        }
        Ok((caller, Some(tx)))
    }

    /// `limits` are those of the credential.
    fn of_person(
        tx: &Tx,
        person: Holder,
        credential: Credential,
        limits: Option<Limits>,
    ) -> ApiResult<Caller> {
        if !person.may_enter {
            return Err(refused());
        }
        if let Some(reason) = person.suspended_for {
            return Err(actions::organizations::suspended(&reason).into());
        }
        let rights = Arc::new(person.rights.limited(limits));
        let who = Who::User { id: person.id, name: person.name, rights: rights.clone() };
        let actor = Actor { organization: tx.organization(), who };
        let must_change_password = person.must_change_password;
        Ok(Caller { actor, rights, user: person.id, credential, is_recent: false, must_change_password })
    }
}

fn refused() -> Problem {
    Problem::unauthorized("the token is not valid, expired or revoked: log in again")
}

/// The token of the Authorization header (RFC 6750, 2.1), if there is one.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    bearer_of(&parts.headers)
}

/// The same, or a token among the subprotocols of a WebSocket: `bearer.` and the token. Pages can send nothing else
/// (`docs/adr/0140-a-websockets-token-comes-among-its-subprotocols.md`).
pub(crate) fn bearer_of_socket(headers: &HeaderMap) -> Option<&str> {
    let among_protocols = || {
        let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let words = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        words.map(str::trim).find_map(|word| word.strip_prefix("bearer."))
    };
    bearer_of(headers).or_else(among_protocols)
}

pub(crate) fn bearer_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        Ok(known(parts, state).await?.0)
    }
}

/// The caller of a handler that only reads, with the transaction in which they were looked up: what is read takes no other. What such a handler
/// wrote would stand in the audit log as nobody's, and a body would be waited for with the transaction open.
#[derive(Debug)]
pub struct Reading {
    pub caller: Caller,
    pub tx: Tx,
}

impl FromRequestParts<AppState> for Reading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let (caller, tx) = match parts.extensions.get::<Caller>() {
            Some(caller) => (caller.clone(), None),
            None => known(parts, state).await?,
        };
        let tx = match tx {
            Some(tx) => tx,
            None => caller.begin(state).await?,
        };
        Ok(Reading { caller, tx })
    }
}

async fn known(parts: &mut Parts, state: &AppState) -> ApiResult<(Caller, Option<Tx>)> {
    let missing = || Problem::unauthorized("send an access token or API token: Authorization: Bearer …");
    let token = bearer(parts).ok_or_else(missing)?;
    let (caller, tx) = Caller::entered(state, token, parts).await?;
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if caller.must_change_first() && !BEFORE_THE_CHANGE.iter().any(|way_out| route.ends_with(way_out)) {
        return Err(Problem::password_change_required());
    }
    parts.extensions.insert(caller.clone());
    Ok((caller, tx))
}
