//! Tickets over the API: lists, reads and creations per second with many tickets of many organizations there already.

mod isolation;
mod seed;

use crate::memory::megabytes;
use anyhow::{Context, Result, bail, ensure};
use embedded::{Cluster, Options};
use reqwest::{Client, Method};
use seed::Tenant;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[derive(clap::Args)]
pub struct Args {
    /// How many tickets there are at first
    #[arg(long, default_value_t = 100_000)]
    tickets: u32,
    /// In how many organizations
    #[arg(long, default_value_t = 20)]
    tenants: u32,
    /// Connections that ask at the same time, each for the next request as soon as it has its answer
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// How long each kind of request is measured, after two seconds that are not
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// `shared_buffers` of PostgreSQL
    #[arg(long, default_value = "512MB")]
    shared_buffers: String,
    /// Hundreds of statements with and without row level security; 0 leaves that out
    #[arg(long, default_value_t = 100)]
    isolation: u32,
}

pub async fn run(args: Args) -> Result<Value> {
    let dir = std::env::temp_dir().join(format!("relaydesk-bench-tickets-{}", std::process::id()));
    let settings = [
        ("shared_buffers", args.shared_buffers.as_str()),
        ("max_wal_size", "4GB"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options {
        fresh: true,
        settings: settings.into(),
        packs: embedded::usual_packs(),
        ..Options::new(dir.join("postgres"))
    };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(options)).await??;
    let figures = measure(&cluster, &dir, &args).await;
    let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
    let _ = std::fs::remove_dir_all(dir);
    figures
}

async fn measure(cluster: &Cluster, dir: &Path, args: &Args) -> Result<Value> {
    let (owner, app) = (cluster.owner_url("relaydesk"), cluster.app_url("relaydesk"));
    let filling = Instant::now();
    let tenants = Arc::new(seed::seed(&owner, args.tenants, args.tickets).await?);
    let filled =
        json!({"seconds": filling.elapsed().as_secs(), "database_mb": seed::megabytes(&owner).await?});
    let isolation = isolation::compare(&owner, &app, &tenants, args.isolation).await?;
    let (mut server, base) = serve(&app, dir).await?;
    let pid = server.id().context("a running server")?;
    let resident = || megabytes(Some(pid), "VmRSS").map(f64::round);
    let idle = resident();
    let mut figures = json!({
        "bench": "tickets", "tickets": args.tickets, "tenants": args.tenants, "connections": args.connections,
        "shared_buffers": args.shared_buffers, "filled": filled, "row_level_security": isolation, "resident_mb_at_first": idle,
    });
    for (name, ask) in
        [("read", read as Ask), ("list", list as Ask), ("search", search as Ask), ("create", create as Ask)]
    {
        figures[name] =
            load(&base, &tenants, args, ask).await.with_context(|| format!("while measuring {name}"))?;
    }
    figures["resident_mb_at_last"] = json!(resident());
    server.kill().await?;
    Ok(figures)
}

/// `relaydesk serve` with all its workers, as a small installation runs it.
async fn serve(url: &str, dir: &Path) -> Result<(Child, String)> {
    let program = std::env::current_exe()?.with_file_name("relaydesk");
    if !program.exists() {
        bail!("{} is not there: run `cargo build --release -p app` first", program.display());
    }
    let mut server = Command::new(program)
        .arg("serve")
        .env("DATABASE_URL", url)
        .env("RELAYDESK_HTTP_LISTEN", "127.0.0.1:0")
        .env("RELAYDESK_SMTP_LISTEN", "")
        .env("RELAYDESK_DATA_DIR", dir.join("data"))
        .env("RELAYDESK_JWT_SECRET", "a secret for measurements that is long enough")
        .env("RELAYDESK_RATE_LIMITS", "")
        .env("RELAYDESK_LOG", "warn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().context("no standard output")?).lines();
    loop {
        let line = lines.next_line().await?.context("the server ended before it was ready")?;
        if let Some(base) = line.strip_prefix("ready: ") {
            let base = base.trim_end_matches('/').to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((server, base));
        }
    }
}

/// What to ask for: method, path, body.
type Ask = fn(&Tenant, u64) -> (Method, String, Option<Value>);

fn read(tenant: &Tenant, n: u64) -> (Method, String, Option<Value>) {
    let ticket = tenant.tickets[n as usize * 7919 % tenant.tickets.len()];
    (Method::GET, format!("/api/v1/incidents/{ticket}"), None)
}

/// What a service desk looks at all day, 25 tickets each.
fn list(_: &Tenant, n: u64) -> (Method, String, Option<Value>) {
    let what = [
        "",
        "&open=true",
        "&status=new,assigned&ordering=-updated_at",
        "&assignee=none&ordering=-updated_at",
    ];
    (Method::GET, format!("/api/v1/incidents?page_size=25{}", what[n as usize % what.len()]), None)
}

fn search(_: &Tenant, n: u64) -> (Method, String, Option<Value>) {
    (Method::GET, format!("/api/v1/incidents?page_size=25&q=printer%20{}", n * 5 % 997), None)
}

fn create(_: &Tenant, n: u64) -> (Method, String, Option<Value>) {
    let body = json!({
        "title": format!("The printer of room {n} does not answer"), "impact": "medium", "urgency": "low",
        "description": "Since this morning it says that it has no paper, and it has. Others print. ".repeat(5),
    });
    (Method::POST, "/api/v1/incidents".to_owned(), Some(body))
}

async fn load(base: &str, tenants: &Arc<Vec<Tenant>>, args: &Args, ask: Ask) -> Result<Value> {
    #[expect(clippy::disallowed_methods, reason = "a load generator talks to its own loopback server")]
    let client = Client::builder().pool_max_idle_per_host(args.connections as usize).build()?;
    let began = Instant::now();
    let (from, until) = (began + Duration::from_secs(2), began + Duration::from_secs(2 + args.seconds));
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..args.connections)
        .map(|_| {
            let (client, base, tenants, next) =
                (client.clone(), base.to_owned(), tenants.clone(), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let tenant = &tenants[n as usize % tenants.len()];
                    let (method, path, body) = ask(tenant, n / tenants.len() as u64);
                    let mut request =
                        client.request(method, format!("{base}{path}")).bearer_auth(&tenant.token);
                    if let Some(body) = body {
                        request = request.json(&body);
                    }
                    let asked = Instant::now();
                    let answer = request.send().await?;
                    let status = answer.status();
                    let text = answer.bytes().await?;
                    ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&text));
                    if asked >= from {
                        times.push(asked.elapsed());
                    }
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    times.sort_unstable();
    ensure!(!times.is_empty(), "no request was answered");
    let at = |share: f64| {
        let time = times[((times.len() - 1) as f64 * share) as usize];
        (time.as_secs_f64() * 1e4).round() / 10.0
    };
    let rate = (times.len() as f64 / args.seconds as f64).round();
    Ok(json!({"per_s": rate, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}))
}
