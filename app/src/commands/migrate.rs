//! `relaydesk migrate`: the one command that connects as the owner.

use crate::config::Config;
use crate::say;
use anyhow::{Context, bail, ensure};
use secrecy::ExposeSecret;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::str::FromStr;

const THROUGH_A_POOLER: &str = "DATABASE_URL leads to a pooler (PgBouncer): migrations need the server itself, so give this command \
                                the owner's address there";

pub async fn run(config: &Config) -> anyhow::Result<()> {
    let applied = migrate(config.require_database()?.expose_secret()).await?;
    say!("the schema is up to date ({applied} migrations)");
    Ok(())
}

/// Brings the schema up to date and answers how many migrations it consists of. Two at once wait for each other.
pub async fn migrate(owner_url: &str) -> anyhow::Result<usize> {
    let options = PgConnectOptions::from_str(owner_url)?.options([store::guard::MARK]);
    let mut connection = match PgConnection::connect_with(&options).await {
        Err(error) if store::guard::says_pooler(&error.to_string()) => bail!(THROUGH_A_POOLER),
        connected => connected.context("cannot connect to the database as its owner")?,
    };
    ensure!(store::guard::is_marked(&mut connection).await?, THROUGH_A_POOLER);
    store::MIGRATOR.run(&mut connection).await.context("a migration failed; nothing of it was kept")?;
    connection.close().await?;
    Ok(store::MIGRATOR.iter().count())
}
