//! The audit log: what an entry costs those who write, and how fast logs are sealed and verified.

use anyhow::{Context, Result, ensure};
use embedded::{Cluster, Options};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use std::time::{Duration, Instant};
use store::{Db, audit_chain};
use uuid::Uuid;

/// Entries of one seal.
const PIECE: i32 = 1000;

#[derive(clap::Args)]
pub struct Args {
    /// How many entries the log has
    #[arg(long, default_value_t = 200_000)]
    entries: u32,
    /// Tickets written with and without the log, in turns of 100, to see what it costs
    #[arg(long, default_value_t = 2000)]
    tickets: u32,
}

pub async fn run(args: Args) -> Result<Value> {
    let dir = std::env::temp_dir().join(format!("relaydesk-bench-audit-{}", std::process::id()));
    let options = Options { fresh: true, packs: embedded::usual_packs(), ..Options::new(dir.clone()) };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(options)).await??;
    let owner = PgPoolOptions::new().max_connections(1).connect(&cluster.owner_url("relaydesk")).await?;
    store::MIGRATOR.run(&owner).await.context("the migrations")?;
    let db = Db::new(cluster.app_url("relaydesk").parse()?, 2);
    let figures = measure(&owner, &db, &args).await;
    owner.close().await;
    db.pool().close().await;
    let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
    let _ = std::fs::remove_dir_all(dir);
    figures
}

async fn measure(owner: &PgPool, db: &Db, args: &Args) -> Result<Value> {
    let organization = domain_id(owner).await?;
    let mut with = Duration::ZERO;
    let mut without = Duration::ZERO;
    let mut connection = owner.acquire().await?;
    for _ in 0..args.tickets / 100 {
        with += tickets(&mut connection, organization).await?;
        execute(&mut connection, "alter table tickets disable trigger audit_rows").await?;
        without += tickets(&mut connection, organization).await?;
        execute(&mut connection, "alter table tickets enable trigger audit_rows").await?;
    }
    execute(
        &mut connection,
        &format!(
            "insert into ticket_tags (organization_id, ticket_id, tag)
             select '{organization}', t.id, n::text from (select id from tickets limit 1000) t, generate_series(1, {}) n",
            args.entries.div_ceil(1000)
        ),
    )
    .await?;
    drop(connection);

    let started = Instant::now();
    let mut sealed = 0;
    loop {
        let mut tx = db.begin(organization.into()).await?;
        let piece = audit_chain::seal(&mut tx, i64::MAX, PIECE).await?;
        tx.commit().await?;
        sealed += piece;
        if piece < i64::from(PIECE) {
            break;
        }
    }
    let sealing = started.elapsed();
    let started = Instant::now();
    let report = audit_chain::verify(db, organization.into(), None).await?;
    let verifying = started.elapsed();
    ensure!(report.is_whole() && report.sealed == sealed.unsigned_abs(), "{report:?}");
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(args.tickets);
    let bytes: i64 =
        sqlx::query_scalar("select pg_total_relation_size('audit_entries')").fetch_one(owner).await?;
    Ok(json!({
        "bench": "audit",
        "entries": sealed,
        "ticket_us_with_entry": each(with).round(),
        "ticket_us_without": each(without).round(),
        "sealed_per_s": (sealed as f64 / sealing.as_secs_f64()).round(),
        "verified_per_s": (report.sealed as f64 / verifying.as_secs_f64()).round(),
        "bytes_per_entry": bytes / sealed.max(1),
        "debug_build": cfg!(debug_assertions),
    }))
}

async fn domain_id(owner: &PgPool) -> Result<Uuid> {
    let id = Uuid::now_v7();
    sqlx::query("insert into organizations (id, slug, name) values ($1, 'acme', 'Acme')")
        .bind(id)
        .execute(owner)
        .await?;
    Ok(id)
}

/// A hundred rows of tickets, a transaction each, as the API would write them.
async fn tickets(connection: &mut PgConnection, organization: Uuid) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..100 {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into tickets (id, organization_id, kind, number, title, description, status, impact, urgency, priority, source,
                                  created_at, updated_at)
             values ($1, $2, 'incident', $3, 'No paper in the printer', $4, 'new', 'low', 'low', 'low', 'api', now(), now())",
        )
        .bind(id)
        .bind(organization)
        .bind(id.to_string())
        .bind("The printer on the second floor says that it has no paper, and it has. ".repeat(5))
        .execute(&mut *connection)
        .await?;
    }
    Ok(started.elapsed())
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
