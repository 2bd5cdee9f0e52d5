//! `relaydesk migrate`: the one command that connects as the owner.

use crate::config::Config;
use crate::say;
use anyhow::Context;
use secrecy::ExposeSecret;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

pub async fn run(config: &Config) -> anyhow::Result<()> {
    let applied = migrate(config.require_direct_database()?.expose_secret()).await?;
    say!("the schema is up to date ({applied} migrations)");
    Ok(())
}

/// Brings the schema up to date and answers how many migrations it consists of. Two at once wait for each other.
pub async fn migrate(owner_url: &str) -> anyhow::Result<usize> {
    let mut connection =
        PgConnection::connect(owner_url).await.context("cannot connect to the database as its owner")?;
    store::MIGRATOR.run(&mut connection).await.context("a migration failed; nothing of it was kept")?;
    connection.close().await?;
    Ok(store::MIGRATOR.iter().count())
}
