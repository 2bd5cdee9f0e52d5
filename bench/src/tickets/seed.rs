//! Organizations with people and a history of tickets, written in bulk by the owner of the tables.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;

pub struct Tenant {
    pub organization: Uuid,
    /// Of an agent, who sees all tickets that are not confidential.
    pub token: String,
    /// A thousand of its tickets, old and new.
    pub tickets: Vec<Uuid>,
}

/// For a connection, while others write for minutes.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Connections that write at the same time.
const WRITERS: u32 = 2;

/// Three people and a team for each organization; tickets of the last two years, every tenth of them open, with a few lines of text,
/// two comments and a tag. Triggers and references rest meanwhile (a history has its audit log elsewhere), and the indexes of what
/// is written come after it: a million tickets take minutes so, not an hour.
pub async fn seed(owner_url: &str, tenants: u32, tickets: u32) -> Result<Vec<Tenant>> {
    let settings = [
        ("session_replication_role", "replica"),
        ("synchronous_commit", "off"),
        ("maintenance_work_mem", "256MB"),
    ];
    let owner = PgPoolOptions::new().max_connections(WRITERS).acquire_timeout(PATIENCE);
    let owner = owner.connect_with(owner_url.parse::<PgConnectOptions>()?.options(settings)).await?;
    let mut migrator = PgConnection::connect(owner_url).await?;
    store::MIGRATOR.run(&mut migrator).await.context("the migrations")?;
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i
          where i.indrelid in ('tickets'::regclass, 'ticket_comments'::regclass, 'ticket_tags'::regclass, 'search.tickets'::regclass)
            and not exists (select from pg_constraint c where c.conindid = i.indexrelid)",
    )
    .fetch_all(&mut migrator)
    .await?;
    migrator.close().await?;
    for (name, _) in &indexes {
        run(&owner, &format!("drop index {name}")).await?;
    }
    let each = |n| {
        let owner = owner.clone();
        async move { tenant(&owner, n, tickets / tenants).await }
    };
    let made = stream::iter(0..tenants).map(each).buffered(WRITERS as usize).try_collect().await?;
    let again = |(_, definition): (String, String)| {
        let owner = owner.clone();
        async move { run(&owner, &definition).await }
    };
    stream::iter(indexes).map(Ok).try_for_each_concurrent(WRITERS as usize, again).await?;
    run(&owner, "vacuum analyze").await?;
    run(&owner, "checkpoint").await?;
    owner.close().await;
    Ok(made)
}

async fn tenant(owner: &PgPool, n: u32, tickets: u32) -> Result<Tenant> {
    let organization = Uuid::now_v7();
    let token = format!("rd_bench_{}", Uuid::new_v4().simple());
    let agent = Uuid::now_v7();
    run(
        owner,
        &format!(
            "insert into organizations (id, slug, name) values ('{organization}', 'tenant{n}', 'Tenant {n}');
             insert into users (id, organization_id, email, name, role)
             values ('{agent}', '{organization}', 'agent@tenant{n}.example', 'Agent', 'agent'),
                    (gen_random_uuid(), '{organization}', 'anna@tenant{n}.example', 'Anna', 'end_user'),
                    (gen_random_uuid(), '{organization}', 'bert@tenant{n}.example', 'Bert', 'end_user');
             insert into teams (id, organization_id, name) values (gen_random_uuid(), '{organization}', 'Service desk');
             insert into api_tokens (id, organization_id, user_id, name, token_hash, token_prefix)
             values (gen_random_uuid(), '{organization}', '{agent}', 'bench', encode(sha256('{token}'::bytea), 'hex'), 'rd_bench');
             insert into ticket_counters (organization_id, kind, last) values ('{organization}', 'incident', {tickets});
             insert into tickets (id, organization_id, kind, number, title, description, status, impact, urgency, priority,
                                  requester_id, assignee_id, team_id, source, resolution, resolved_at, closed_at, created_at, updated_at, search)
             select *, setweight(to_tsvector('simple', number), 'A') || ticket_words(title, description) from (
             select gen_random_uuid(), '{organization}'::uuid, 'incident', 'INC' || lpad(n::text, 7, '0') as number,
                    (array['Printer', 'Mail', 'Network', 'Laptop', 'Payroll'])[1 + n % 5] || ' does not answer in room ' || n % 997 as title,
                    repeat('Since the update of case ' || n % 9973 || ' it says that the service is not available. ', 5) as description,
                    case when n % 10 = 0 then (array['new', 'assigned', 'in_progress', 'pending'])[1 + n / 10 % 4] else 'closed' end,
                    'medium', 'medium', (array['critical', 'high', 'medium', 'low'])[1 + n % 4],
                    (select id from users where organization_id = '{organization}' and role = 'end_user' order by id offset n % 2 limit 1),
                    case when n % 3 > 0 then '{agent}'::uuid end,
                    (select id from teams where organization_id = '{organization}'), 'api',
                    case when n % 10 > 0 then 'Restarted.' end, case when n % 10 > 0 then opened + '1 day'::interval end,
                    case when n % 10 > 0 then opened + '4 days'::interval end, opened, opened + '4 days'::interval
               from generate_series(1, {tickets}) n, lateral (select now() - '2 years'::interval * (1 - n::float8 / {tickets}) as opened) t) made;
             insert into search.tickets (organization_id, ticket_id, words)
             select organization_id, id, search.words(organization_id, search) from tickets where organization_id = '{organization}';
             insert into ticket_comments (id, organization_id, ticket_id, author_id, visibility, body, source, created_at)
             select gen_random_uuid(), t.organization_id, t.id, t.requester_id, 'public', 'It is still so after a restart of it all.', 'api',
                    t.created_at + c * '1 hour'::interval
               from tickets t, generate_series(1, 2) c where t.organization_id = '{organization}';
             insert into ticket_tags (organization_id, ticket_id, tag)
             select organization_id, id, 'vip' from tickets where organization_id = '{organization}' and priority = 'critical'"
        ),
    )
    .await?;
    let sample = "select id from tickets where organization_id = $1 order by md5(id::text) limit 1000";
    let tickets = sqlx::query_scalar(sample).bind(organization).fetch_all(owner).await?;
    Ok(Tenant { organization, token, tickets })
}

/// How much the database takes on disk.
pub async fn megabytes(owner_url: &str) -> Result<i64> {
    let mut owner = PgConnection::connect(owner_url).await?;
    let bytes: i64 =
        sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(&mut owner).await?;
    owner.close().await?;
    Ok(bytes / 1_000_000)
}

async fn run(owner: &PgPool, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(owner).await?;
    Ok(())
}
