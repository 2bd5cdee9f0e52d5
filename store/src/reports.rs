//! The figures of the "incidents and SLA" report, computed by the database.
//!
//! Confidential incidents are in none of it: a report goes to addresses, whose rights nobody knows.
//!
//! Times to response and resolution are calendar time, from the opening; what the SLA counts as working time shows in
//! met and breached. Figures and lines share their conditions: `was_open` and `sla_outcome` (migrations/0060_reports.sql).

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

/// From (included) and to (not included).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub opened: i64,
    pub resolved: i64,
    pub open_at_end: i64,
    /// Of what was opened in the period, most pressing first.
    pub by_priority: Vec<Count>,
    /// Of what was opened in the period, most first.
    pub by_team: Vec<Count>,
    pub by_source: Vec<Count>,
    pub first_response: Durations,
    pub resolution: Durations,
    pub sla: Vec<SlaLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// `None`: no team.
    pub name: Option<String>,
    pub count: i64,
}

/// Seconds; `None` when there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    pub count: i64,
    pub mean_seconds: Option<f64>,
    pub median_seconds: Option<f64>,
}

/// One metric of one policy: targets that were kept and broken in the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaLine {
    pub policy: String,
    pub metric: String,
    pub met: i64,
    pub breached: i64,
}

/// One incident that was opened or resolved in the period, or was still open at its end.
#[derive(Clone, Debug)]
pub struct Line {
    pub number: String,
    pub title: String,
    pub status: String,
    pub priority: String,
    pub impact: String,
    pub urgency: String,
    pub source: String,
    pub requester: Option<String>,
    pub assignee: Option<String>,
    pub team: Option<String>,
    pub opened_at: DateTime<Utc>,
    pub first_responded_at: Option<DateTime<Utc>>,
    pub resolved_at: Option<DateTime<Utc>>,
    /// `met`, `breached`, `running`, `paused`, or nothing where nothing is promised.
    pub first_response_sla: Option<String>,
    pub resolution_sla: Option<String>,
}

pub async fn incidents_and_sla(tx: &mut Tx, range: Range) -> Result<Summary> {
    let totals = sqlx::query!(
        r#"select count(*) filter (where created_at >= $1 and created_at < $2) as "opened!",
                  count(*) filter (where resolved_at >= $1 and resolved_at < $2) as "resolved!",
                  count(*) filter (where was_open(tickets, $2)) as "open_at_end!"
             from tickets where kind = 'incident' and not is_confidential and created_at < $2"#,
        range.from,
        range.to,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Summary {
        opened: totals.opened,
        resolved: totals.resolved,
        open_at_end: totals.open_at_end,
        by_priority: by_priority(tx, range).await?,
        by_team: by_team(tx, range).await?,
        by_source: by_source(tx, range).await?,
        first_response: first_response(tx, range).await?,
        resolution: resolution(tx, range).await?,
        sla: sla(tx, range).await?,
    })
}

async fn by_priority(tx: &mut Tx, range: Range) -> Result<Vec<Count>> {
    Ok(sqlx::query_as!(
        Count,
        r#"select priority as name, count(*) as "count!" from tickets
            where kind = 'incident' and not is_confidential and created_at >= $1 and created_at < $2
            group by priority order by array_position(array['critical', 'high', 'medium', 'low'], priority)"#,
        range.from,
        range.to,
    )
    .fetch_all(&mut **tx)
    .await?)
}

async fn by_team(tx: &mut Tx, range: Range) -> Result<Vec<Count>> {
    Ok(sqlx::query_as!(
        Count,
        r#"select m.name as "name?", count(*) as "count!" from tickets t left join teams m on m.id = t.team_id
            where t.kind = 'incident' and not t.is_confidential and t.created_at >= $1 and t.created_at < $2
            group by m.name order by count(*) desc, m.name nulls last"#,
        range.from,
        range.to,
    )
    .fetch_all(&mut **tx)
    .await?)
}

async fn by_source(tx: &mut Tx, range: Range) -> Result<Vec<Count>> {
    Ok(sqlx::query_as!(
        Count,
        r#"select source as name, count(*) as "count!" from tickets
            where kind = 'incident' and not is_confidential and created_at >= $1 and created_at < $2
            group by source order by count(*) desc, source"#,
        range.from,
        range.to,
    )
    .fetch_all(&mut **tx)
    .await?)
}

async fn first_response(tx: &mut Tx, range: Range) -> Result<Durations> {
    Ok(sqlx::query_as!(
        Durations,
        r#"select count(*) as "count!", avg(s)::float8 as mean_seconds,
                  percentile_cont(0.5) within group (order by s) as median_seconds
             from (select extract(epoch from first_responded_at - created_at)::float8 as s from tickets
                    where kind = 'incident' and not is_confidential and first_responded_at >= $1 and first_responded_at < $2) as measured"#,
        range.from,
        range.to,
    )
    .fetch_one(&mut **tx)
    .await?)
}

async fn resolution(tx: &mut Tx, range: Range) -> Result<Durations> {
    Ok(sqlx::query_as!(
        Durations,
        r#"select count(*) as "count!", avg(s)::float8 as mean_seconds,
                  percentile_cont(0.5) within group (order by s) as median_seconds
             from (select extract(epoch from resolved_at - created_at)::float8 as s from tickets
                    where kind = 'incident' and not is_confidential and resolved_at >= $1 and resolved_at < $2) as measured"#,
        range.from,
        range.to,
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// A clock that was breached counts once, however often its goal was changed, and never as met.
async fn sla(tx: &mut Tx, range: Range) -> Result<Vec<SlaLine>> {
    Ok(sqlx::query_as!(
        SlaLine,
        r#"select policy as "policy!", metric as "metric!", sum(met)::bigint as "met!", sum(breached)::bigint as "breached!"
             from (select coalesce(p.name, '') as policy, c.metric, count(*) as met, 0::bigint as breached
                     from sla_clocks c join tickets t on t.id = c.ticket_id left join sla_policies p on p.id = c.policy_id
                    where c.organization_id = (select current_organization())
                      and t.kind = 'incident' and not t.is_confidential and sla_outcome(c) = 'met'
                      and c.phase_since >= $1 and c.phase_since < $2
                    group by 1, 2
                   union all
                   select b.policy_name, b.metric, 0, count(distinct b.clock_id)
                     from sla_breaches b join tickets t on t.id = b.ticket_id
                    where t.kind = 'incident' and not t.is_confidential and b.breached_at >= $1 and b.breached_at < $2
                    group by 1, 2) as lines
            group by policy, metric order by policy, metric"#,
        range.from,
        range.to,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// The incidents of the report, in the order in which they were opened. A stream: there may be many.
pub fn lines(tx: &mut Tx, range: Range) -> impl Stream<Item = Result<Line>> {
    sqlx::query_as!(
        Line,
        r#"select t.number, t.title, t.status, t.priority, t.impact, t.urgency, t.source,
                  r.name as "requester?", a.name as "assignee?", m.name as "team?",
                  t.created_at as opened_at, t.first_responded_at, t.resolved_at,
                  sla_outcome(f) as first_response_sla, sla_outcome(s) as resolution_sla
             from tickets t
             left join users r on r.id = t.requester_id
             left join users a on a.id = t.assignee_id
             left join teams m on m.id = t.team_id
             left join sla_clocks f on f.ticket_id = t.id and f.metric = 'first_response'
             left join sla_clocks s on s.ticket_id = t.id and s.metric = 'resolution'
            where t.kind = 'incident' and not t.is_confidential and t.created_at < $2
              and (t.created_at >= $1 or (t.resolved_at >= $1 and t.resolved_at < $2)
                   or was_open(t, $2))
            order by t.created_at, t.id"#,
        range.from,
        range.to,
    )
    .fetch(&mut **tx)
    .map(|line| line.map_err(Into::into))
}
