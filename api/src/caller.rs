//! Who calls: an access token of a login, or an API token. Both are checked against the database at every request, so a
//! logout, a revoked token, a changed role or a deactivated user counts from the next request on.

use crate::{ApiResult, AppState, Problem};
use actions::credentials::hash_token;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use domain::{Actor, ApiTokenId, OrganizationId, Permission, Role, UserId, Who, permission};
use store::Tx;
use uuid::Uuid;

/// The authenticated caller of a handler. Anonymous requests get 401 before the handler runs.
#[derive(Clone, Debug)]
pub struct Caller {
    actor: Actor,
    user: UserId,
    role: Role,
    credential: Credential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// For reads; writes are checked by their verb.
    pub fn require(&self, permission: Permission) -> ApiResult<()> {
        Ok(permission::check(&self.actor, permission)?)
    }

    /// A transaction in the caller's organization.
    pub async fn begin(&self, state: &AppState) -> ApiResult<Tx> {
        Ok(state.db.begin(self.organization()).await?)
    }

    /// Looks the bearer token up. `Problem::unauthorized` says the same for all that is wrong with it.
    pub(crate) async fn of_token(state: &AppState, token: &str) -> ApiResult<Caller> {
        if token.starts_with(actions::api_tokens::PREFIX) {
            Caller::of_api_token(state, token).await
        } else {
            Caller::of_access_token(state, token).await
        }
    }

    async fn of_access_token(state: &AppState, token: &str) -> ApiResult<Caller> {
        let claims = state.keys.check(token).map_err(|_| refused())?;
        let mut tx = state.db.begin(claims.org).await?;
        if !claims.is_current(tx.now()) || !store::sessions::is_alive(&mut tx, claims.sid, claims.sub).await?
        {
            return Err(refused());
        }
        Caller::of_user(&mut tx, claims.sub, Credential::Login(claims.sid)).await
    }

    async fn of_api_token(state: &AppState, token: &str) -> ApiResult<Caller> {
        let hash = hash_token(token);
        let mut tx = state.db.begin_presenting(&hash).await?;
        let found = store::api_tokens::find_presented(&mut tx, &hash).await?;
        let (organization, id, user) = found.ok_or_else(refused)?;
        tx.enter(organization).await?;
        let caller = Caller::of_user(&mut tx, user, Credential::ApiToken(id)).await?;
        if store::api_tokens::touch(&mut tx, id).await? {
            tx.commit().await?;
        }
        Ok(caller)
    }

    async fn of_user(tx: &mut Tx, id: UserId, credential: Credential) -> ApiResult<Caller> {
        let user = store::users::find(tx, id).await?.filter(|user| user.is_active).ok_or_else(refused)?;
        let who = Who::User { id, role: user.role, name: user.name };
        let actor = Actor { organization: tx.organization(), who };
        Ok(Caller { actor, user: id, role: user.role, credential })
    }
}

fn refused() -> Problem {
    Problem::unauthorized("the token is not valid, expired or revoked: log in again")
}

/// The token of the Authorization header (RFC 6750, 2.1), if there is one.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let missing = || Problem::unauthorized("send an access token or API token: Authorization: Bearer …");
        let caller = Caller::of_token(state, bearer(parts).ok_or_else(missing)?).await?;
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}
