//! Alerts, one row an episode, and the groups that share an incident.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::alert::{AlertStatus, End, Episode};
use domain::{AlertId, AlertSourceId, TicketId};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: Uuid,
    /// The latest one; may be closed.
    pub incident: Option<TicketId>,
    /// More may have fired than the last payload named.
    pub has_unnamed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: AlertId,
    pub source: AlertSourceId,
    pub group: Uuid,
    pub fingerprint: String,
    pub status: AlertStatus,
    pub severity: String,
    pub title: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    pub source_url: Option<String>,
    pub starts_at: DateTime<Utc>,
    pub latest_start_at: DateTime<Utc>,
    pub firing_received_at: Option<DateTime<Utc>>,
    pub ends_at: Option<DateTime<Utc>>,
    pub latest_end: Option<End>,
    pub received_count: i64,
    pub first_received_at: DateTime<Utc>,
    pub last_received_at: DateTime<Utc>,
    pub incident: Option<TicketId>,
}

impl Alert {
    pub fn episode(&self) -> Episode {
        Episode {
            latest_start_at: self.latest_start_at,
            firing_received_at: self.firing_received_at,
            end: self.latest_end,
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    source_id: Uuid,
    group_id: Uuid,
    fingerprint: String,
    status: String,
    severity: String,
    title: String,
    description: String,
    labels: Value,
    source_url: Option<String>,
    starts_at: DateTime<Utc>,
    latest_start_at: DateTime<Utc>,
    firing_received_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    latest_end_at: Option<DateTime<Utc>>,
    latest_end_received_at: Option<DateTime<Utc>>,
    received_count: i64,
    first_received_at: DateTime<Utc>,
    last_received_at: DateTime<Utc>,
    incident_id: Option<Uuid>,
}

impl TryFrom<Row> for Alert {
    type Error = Error;
    fn try_from(row: Row) -> Result<Alert> {
        Ok(Alert {
            id: row.id.into(),
            source: row.source_id.into(),
            group: row.group_id,
            fingerprint: row.fingerprint,
            status: word(&row.status)?,
            severity: row.severity,
            title: row.title,
            description: row.description,
            labels: serde_json::from_value(row.labels)
                .map_err(|error| Error::Corrupt(format!("labels of alert {}: {error}", row.id)))?,
            source_url: row.source_url,
            starts_at: row.starts_at,
            latest_start_at: row.latest_start_at,
            firing_received_at: row.firing_received_at,
            ends_at: row.ends_at,
            latest_end: row
                .latest_end_at
                .zip(row.latest_end_received_at)
                .map(|(at, received_at)| End { at, received_at }),
            received_count: row.received_count,
            first_received_at: row.first_received_at,
            last_received_at: row.last_received_at,
            incident: row.incident_id.map(Into::into),
        })
    }
}

/// The groups of these keys, made if they are new, and locked: payloads of one group take turns. Keys in the order in
/// which everybody locks them, the alphabet's; each once.
pub async fn claim_groups(
    tx: &mut Tx,
    source: AlertSourceId,
    keys: &[String],
) -> Result<HashMap<String, Group>> {
    let (organization, now) = (tx.organization(), tx.now());
    let ids: Vec<Uuid> = keys.iter().map(|_| Uuid::now_v7()).collect();
    let rows = sqlx::query!(
        "insert into alert_groups (id, organization_id, source_id, group_key, last_received_at, created_at)
         select n.id, $1, $2, n.group_key, $3, $3
           from unnest($4::uuid[], $5::text[]) with ordinality as n(id, group_key, place) order by n.place
         on conflict on constraint alert_groups_group_key_key
         do update set last_received_at = greatest(alert_groups.last_received_at, excluded.last_received_at)
         returning group_key, id, incident_id, has_unnamed",
        organization.0,
        source.0,
        now,
        &ids,
        keys,
    )
    .fetch_all(&mut **tx)
    .await?;
    let groups = rows.into_iter().map(|row| {
        let incident = row.incident_id.map(Into::into);
        (row.group_key, Group { id: row.id, incident, has_unnamed: row.has_unnamed })
    });
    Ok(groups.collect())
}

/// Remembers whether more may fire in the group than its last payload named.
pub async fn set_unnamed(tx: &mut Tx, group: Uuid, has_unnamed: bool) -> Result<()> {
    sqlx::query!("update alert_groups set has_unnamed = $2 where id = $1", group, has_unnamed)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Locks further groups, in one order for everybody.
pub async fn lock_groups(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Group>> {
    let rows = sqlx::query!(
        "select id, incident_id, has_unnamed from alert_groups where id = any($1) order by id for update",
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let group = |incident: Option<Uuid>, id, has_unnamed| Group {
        id,
        incident: incident.map(Into::into),
        has_unnamed,
    };
    Ok(rows.into_iter().map(|row| group(row.incident_id, row.id, row.has_unnamed)).collect())
}

/// The latest episode of each fingerprint, and all that fires in the groups.
pub async fn current(
    tx: &mut Tx,
    source: AlertSourceId,
    groups: &[Uuid],
    fingerprints: &[String],
) -> Result<Vec<Alert>> {
    sqlx::query_as!(
        Row,
        r#"select a.id, a.source_id, a.group_id, a.fingerprint, a.status, a.severity, a.title, a.description, a.labels,
                  a.source_url, a.starts_at, a.latest_start_at, a.firing_received_at, a.ends_at, a.latest_end_at,
                  a.latest_end_received_at, a.received_count, a.first_received_at, a.last_received_at, a.incident_id
             from alerts a
            where a.id in (
                      select latest.id
                        from unnest($3::text[]) as wanted(fingerprint)
                       cross join lateral (
                           select l.id from alerts l where l.source_id = $1 and l.fingerprint = wanted.fingerprint
                            order by l.id desc limit 1) as latest)
               or a.id in (select f.id from alerts f where f.group_id = any($2) and f.status = 'firing')
            order by a.id"#,
        source.0,
        groups,
        fingerprints,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Writes new and changed episodes, and the incidents that groups have from now on. That an alert fires twice at once is
/// refused by `alerts_open_key`.
pub async fn save(tx: &mut Tx, alerts: &[Alert], incidents: &[(Uuid, TicketId)]) -> Result<()> {
    if alerts.is_empty() && incidents.is_empty() {
        return Ok(());
    }
    let (groups, incidents): (Vec<Uuid>, Vec<Uuid>) =
        incidents.iter().map(|(group, ticket)| (*group, ticket.0)).unzip();
    fn column<T>(alerts: &[Alert], value: impl Fn(&Alert) -> T) -> Vec<T> {
        alerts.iter().map(value).collect()
    }
    let organization = tx.organization();
    sqlx::query!(
        "with moved as (
             update alert_groups g set incident_id = u.incident_id
               from unnest($22::uuid[], $23::uuid[]) as u(group_id, incident_id) where g.id = u.group_id)
         insert into alerts (id, organization_id, source_id, group_id, fingerprint, status, severity, title, description,
                             labels, source_url, starts_at, latest_start_at, ends_at, received_count, first_received_at,
                             last_received_at, incident_id, firing_received_at, latest_end_at, latest_end_received_at)
         select u.id, $1, u.source_id, u.group_id, u.fingerprint, u.status, u.severity, u.title, u.description, u.labels,
                u.source_url, u.starts_at, u.latest_start_at, u.ends_at, u.received_count, u.first_received_at,
                u.last_received_at, u.incident_id, u.firing_received_at, u.latest_end_at, u.latest_end_received_at
           from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                       $10::jsonb[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::int8[],
                       $16::timestamptz[], $17::timestamptz[], $18::uuid[], $19::timestamptz[], $20::timestamptz[],
                       $21::timestamptz[])
             as u(id, source_id, group_id, fingerprint, status, severity, title, description, labels, source_url, starts_at,
                  latest_start_at, ends_at, received_count, first_received_at, last_received_at, incident_id,
                  firing_received_at, latest_end_at, latest_end_received_at)
         on conflict on constraint alerts_pkey do update
            set status = excluded.status, severity = excluded.severity, title = excluded.title,
                description = excluded.description, labels = excluded.labels, source_url = excluded.source_url,
                latest_start_at = excluded.latest_start_at, ends_at = excluded.ends_at,
                received_count = excluded.received_count, last_received_at = excluded.last_received_at,
                incident_id = excluded.incident_id, firing_received_at = excluded.firing_received_at,
                latest_end_at = excluded.latest_end_at, latest_end_received_at = excluded.latest_end_received_at",
        organization.0,
        &column(alerts, |a| a.id.0),
        &column(alerts, |a| a.source.0),
        &column(alerts, |a| a.group),
        &column(alerts, |a| a.fingerprint.clone()),
        &column(alerts, |a| a.status.as_str().to_owned()),
        &column(alerts, |a| a.severity.clone()),
        &column(alerts, |a| a.title.clone()),
        &column(alerts, |a| a.description.clone()),
        &column(alerts, |a| serde_json::to_value(&a.labels).expect("a map of texts is JSON")),
        &column(alerts, |a| a.source_url.clone()) as &[Option<String>],
        &column(alerts, |a| a.starts_at),
        &column(alerts, |a| a.latest_start_at),
        &column(alerts, |a| a.ends_at) as &[Option<DateTime<Utc>>],
        &column(alerts, |a| a.received_count),
        &column(alerts, |a| a.first_received_at),
        &column(alerts, |a| a.last_received_at),
        &column(alerts, |a| a.incident.map(|id| id.0)) as &[Option<Uuid>],
        &column(alerts, |a| a.firing_received_at) as &[Option<DateTime<Utc>>],
        &column(alerts, |a| a.latest_end.map(|end| end.at)) as &[Option<DateTime<Utc>>],
        &column(alerts, |a| a.latest_end.map(|end| end.received_at)) as &[Option<DateTime<Utc>>],
        &groups,
        &incidents,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What alerts can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "a.id"),
    field("source", Kind::Id, "a.source_id").says("The alert source that told us."),
    field("status", Kind::Words(AlertStatus::WORDS), "a.status"),
    field("severity", Kind::Text, "a.severity").says("As the sender calls it."),
    field("fingerprint", Kind::Text, "a.fingerprint"),
    field("incident", Kind::Ticket, "a.incident_id").or_null(),
    field("received_count", Kind::Number, "a.received_count"),
    field("starts_at", Kind::Time, "a.starts_at"),
    field("ends_at", Kind::Time, "a.ends_at").or_null(),
    field("first_received_at", Kind::Time, "a.first_received_at").by_id(),
    field("last_received_at", Kind::Time, "a.last_received_at"),
];

/// `q` is somewhere in title or description. An order by the last reception would need an index that every reception changes.
pub const LIST: List =
    List { from: "alerts a", fields: FIELDS, usual: "-first_received_at", id: Key::uuid("a.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Alert>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "a.title || ' ' || a.description");
    };
    let columns = "select a.id, a.source_id, a.group_id, a.fingerprint, a.status, a.severity, a.title, a.description, a.labels, \
                   a.source_url, a.starts_at, a.latest_start_at, a.firing_received_at, a.ends_at, a.latest_end_at, \
                   a.latest_end_received_at, a.received_count, a.first_received_at, a.last_received_at, a.incident_id";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

pub async fn get(tx: &mut Tx, id: AlertId) -> Result<Alert> {
    sqlx::query_as!(
        Row,
        "select id, source_id, group_id, fingerprint, status, severity, title, description, labels, source_url, starts_at,
                latest_start_at, firing_received_at, ends_at, latest_end_at, latest_end_received_at, received_count,
                first_received_at, last_received_at, incident_id
           from alerts where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}
