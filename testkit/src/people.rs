//! An organization to act in.

use crate::TestDb;
use domain::{Actor, OrganizationId, Rights, Role, UserId};

/// An organization with one person of each kind that most tests need.
#[derive(Clone, Debug)]
pub struct Organization {
    pub id: OrganizationId,
    pub admin: Actor,
    pub agent: Actor,
    pub end_user: Actor,
}

/// A new organization, `slug` being also its name and the domain of its people (`admin@SLUG.example`).
/// Written with plain SQL, so that tests of any room can use it.
pub async fn organization(db: &TestDb, slug: &str) -> Organization {
    let id = OrganizationId::new();
    let mut owner = db.owner().await;
    sqlx::query("insert into organizations (id, slug, name) values ($1, $2, $2)")
        .bind(id.0)
        .bind(slug)
        .execute(&mut owner)
        .await
        .expect("a new organization");
    let mut people = Vec::new();
    for role in [Role::Admin, Role::Agent, Role::EndUser] {
        let user = UserId::new();
        let name = role.as_str().replace('_', "-");
        sqlx::query("insert into users (id, organization_id, email, name, role) values ($1, $2, $3, $4, $5)")
            .bind(user.0)
            .bind(id.0)
            .bind(format!("{name}@{slug}.example"))
            .bind(&name)
            .bind(role.as_str())
            .execute(&mut owner)
            .await
            .expect("a new user");
        people.push(Actor::user(id, user, name, Rights::of_role(user, role)));
    }
    let [admin, agent, end_user] = people.try_into().expect("three people");
    Organization { id, admin, agent, end_user }
}

/// An API token of that person, written as the application would have: its SHA-256 only.
pub async fn token(db: &TestDb, actor: &Actor) -> String {
    let token = format!("rd_test_{}", uuid::Uuid::new_v4().simple());
    let user = actor.user_id().expect("a person");
    sqlx::query(
        "insert into api_tokens (id, organization_id, user_id, name, token_hash, token_prefix)
         values ($1, $2, $3, 'test', encode(sha256($4::bytea), 'hex'), 'rd_test')",
    )
    .bind(uuid::Uuid::now_v7())
    .bind(actor.organization.0)
    .bind(user.0)
    .bind(token.as_bytes())
    .execute(&mut db.owner().await)
    .await
    .expect("a new token");
    token
}
