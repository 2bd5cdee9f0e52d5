//! What row level security costs: the statements of the ticket list and of one ticket, by the role of the application under its
//! policies, and by the owner of the tables around them with the organization written into the condition. Both get the same rows.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::time::{Duration, Instant};
use store::Db;
use uuid::Uuid;

use super::seed::Tenant;

const COLUMNS: &str = "t.id, t.kind, t.number, t.title, t.description, t.status, t.impact, t.urgency, t.priority, t.requester_id, \
    t.assignee_id, t.team_id, t.source, t.resolution, t.first_responded_at, t.resolved_at, t.closed_at, t.reopened_count, \
    t.is_confidential, t.version, t.created_by, t.created_at, t.updated_at";

/// Microseconds a statement, in turns of 100.
pub async fn compare(owner_url: &str, app_url: &str, tenants: &[Tenant], turns: u32) -> Result<Value> {
    let mut owner = PgConnection::connect(owner_url).await?;
    let db = Db::new(app_url.parse()?, 1);
    let one = format!("select {COLUMNS} from tickets t where t.id = $1");
    let list =
        format!("select {COLUMNS} from tickets t where t.kind = 'incident' and ($1::uuid is not null)");
    let page = "order by t.created_at desc, t.id desc limit 51";
    let mut figures = json!({});
    for (name, under, around) in [
        ("read", one.clone(), format!("{one} and t.organization_id = $2")),
        ("list", format!("{list} {page}"), format!("{list} and t.organization_id = $2 {page}")),
    ] {
        let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
        for turn in 0..turns {
            let tenant = &tenants[turn as usize % tenants.len()];
            let mut tx = db.begin(tenant.organization.into()).await?;
            let (rows, time) = hundred(&mut tx, &under, tenant, None).await?;
            tx.commit().await?;
            with += time;
            let mut tx = owner.begin().await?;
            let (others, time) = hundred(&mut tx, &around, tenant, Some(tenant.organization)).await?;
            tx.commit().await?;
            without += time;
            ensure!(rows == others, "{name}: {rows} rows under the policies, {others} around them");
        }
        let each = |time: Duration| (time.as_secs_f64() * 1e5 / f64::from(turns)).round() / 10.0;
        figures[name] = json!({"us_with_rls": each(with), "us_without": each(without)});
    }
    db.pool().close().await;
    owner.close().await?;
    Ok(figures)
}

/// A hundred times, and the time for it.
async fn hundred(
    connection: &mut PgConnection,
    sql: &str,
    tenant: &Tenant,
    organization: Option<Uuid>,
) -> Result<(usize, Duration)> {
    let mut rows = 0;
    let started = Instant::now();
    for ticket in tenant.tickets.iter().take(100) {
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(ticket);
        if let Some(organization) = organization {
            query = query.bind(organization);
        }
        rows += query.fetch_all(&mut *connection).await?.len();
    }
    Ok((rows, started.elapsed()))
}
