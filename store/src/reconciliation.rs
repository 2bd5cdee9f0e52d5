//! What a reconciliation reads and writes: whole sets, a handful of statements however many items there are.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::DiscoverySourceId;
use domain::reconcile::{Known, Plan};
use serde_json::Value;
use uuid::Uuid;

/// Rows of one statement.
const CHUNK: usize = 2000;

struct Row {
    id: Uuid,
    name: String,
    class: String,
    status: String,
    description: String,
    attributes: Value,
    identifiers: Value,
    discovery_source_id: Option<Uuid>,
    missing_since: Option<DateTime<Utc>>,
    version: i64,
}

/// The items for which the source answers, and those that have an identifier of one of its keys.
pub async fn known(tx: &mut Tx, source: DiscoverySourceId, keys: &[String]) -> Result<Vec<Known>> {
    let organization = tx.organization();
    let rows = sqlx::query_as!(
        Row,
        r#"with identified as (
               select ci_id, jsonb_object_agg(key, value) as identifiers, bool_or(key = any($3)) as is_of_key
                 from ci_identifiers where organization_id = $1 group by ci_id)
           select c.id, c.name, c.class, c.status, c.description, c.attributes,
                  coalesce(i.identifiers, '{}') as "identifiers!", c.discovery_source_id, c.missing_since,
                  c.version
             from configuration_items c left join identified i on i.ci_id = c.id
            where c.organization_id = $1 and (c.discovery_source_id = $2 or i.is_of_key)
            order by c.id"#,
        organization.0,
        source.0,
        keys,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let corrupt =
                |error: serde_json::Error| Error::Corrupt(format!("configuration item {}: {error}", row.id));
            Ok(Known {
                id: row.id.into(),
                name: row.name,
                class: row.class,
                status: word(&row.status)?,
                description: row.description,
                attributes: serde_json::from_value(row.attributes).map_err(corrupt)?,
                identifiers: serde_json::from_value(row.identifiers).map_err(corrupt)?,
                is_ours: row.discovery_source_id == Some(source.0),
                is_unowned: row.discovery_source_id.is_none(),
                missing_since: row.missing_since,
                version: row.version,
            })
        })
        .collect()
}

/// Keeps other sources from reconciling until the transaction ends.
pub async fn lock(tx: &mut Tx) -> Result<()> {
    let organization = tx.organization();
    // One number for each organization; readers are not disturbed, and single edits meet the version check.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('reconcile ' || $1, 0))")
        .bind(organization.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Carries out a plan. `Stale`: somebody has changed one of the items since they were read, or taken one of the
/// identifiers; nothing may be committed then, and the plan is to be made anew.
pub async fn apply(tx: &mut Tx, source: DiscoverySourceId, plan: &Plan) -> Result<()> {
    hold(tx, plan).await?;
    free_identifiers(tx, plan).await?;
    let created: Vec<&Known> = plan.created.iter().map(|(_, ci)| ci).collect();
    for chunk in created.chunks(CHUNK) {
        insert(tx, source, chunk).await?;
    }
    let updated: Vec<&Known> = plan.updated.iter().map(|update| &update.after).collect();
    for chunk in updated.chunks(CHUNK) {
        update(tx, source, chunk).await?;
    }
    for chunk in created.iter().chain(&updated).copied().collect::<Vec<_>>().chunks(CHUNK) {
        match identify(tx, chunk).await {
            Err(error) if error.constraint() == Some("ci_identifiers_value_key") => return Err(Error::Stale),
            result => result?,
        }
    }
    let now = tx.now();
    let ids = |list: &[domain::CiId]| list.iter().map(|id| id.0).collect::<Vec<_>>();
    sqlx::query!(
        "update configuration_items set last_seen_at = $2 where id = any($1)",
        &ids(&plan.unchanged),
        now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update configuration_items set missing_since = $2, version = version + 1, updated_at = $2 where id = any($1)",
        &ids(&plan.missing),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Locks the items that will be written, provided that they are as the plan knows them.
async fn hold(tx: &mut Tx, plan: &Plan) -> Result<()> {
    for chunk in plan.updated.chunks(CHUNK) {
        let ids: Vec<Uuid> = chunk.iter().map(|update| update.after.id.0).collect();
        let versions: Vec<i64> = chunk.iter().map(|update| update.after.version).collect();
        let held = sqlx::query_scalar!(
            "select c.id from configuration_items c join unnest($1::uuid[], $2::int8[]) as u(id, version)
                 on c.id = u.id and c.version = u.version
              order by c.id for no key update of c",
            &ids,
            &versions
        )
        .fetch_all(&mut **tx)
        .await?;
        if held.len() != chunk.len() {
            return Err(Error::Stale);
        }
    }
    Ok(())
}

/// Before anything is written: an identifier may move from one item to another in the same run.
async fn free_identifiers(tx: &mut Tx, plan: &Plan) -> Result<()> {
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    for update in &plan.updated {
        for difference in &update.differences {
            if let (Some(key), false) =
                (difference.field.strip_prefix("identifiers."), difference.from.is_null())
            {
                ids.push(update.after.id.0);
                keys.push(key.to_owned());
            }
        }
    }
    sqlx::query!(
        "delete from ci_identifiers i using unnest($1::uuid[], $2::text[]) as u(ci_id, key) where i.ci_id = u.ci_id and i.key = u.key",
        &ids,
        &keys
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn column<T>(items: &[&Known], value: impl Fn(&Known) -> T) -> Vec<T> {
    items.iter().map(|ci| value(ci)).collect()
}

async fn insert(tx: &mut Tx, source: DiscoverySourceId, items: &[&Known]) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into configuration_items (id, organization_id, name, class, status, description, attributes,
                                          discovery_source_id, last_seen_at, created_at, updated_at)
         select u.id, $1, u.name, u.class, u.status, u.description, u.attributes, $2, $3, $3, $3
           from unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[])
             as u(id, name, class, status, description, attributes)",
        organization.0,
        source.0,
        now,
        &column(items, |ci| ci.id.0),
        &column(items, |ci| ci.name.clone()),
        &column(items, |ci| ci.class.clone()),
        &column(items, |ci| ci.status.as_str().to_owned()),
        &column(items, |ci| ci.description.clone()),
        &column(items, |ci| Value::Object(ci.attributes.clone())),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn update(tx: &mut Tx, source: DiscoverySourceId, items: &[&Known]) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update configuration_items c
            set name = u.name, class = u.class, status = u.status, description = u.description, attributes = u.attributes,
                discovery_source_id = coalesce(c.discovery_source_id, $1), last_seen_at = $2, missing_since = null,
                updated_at = $2, version = c.version + 1
           from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::int8[])
             as u(id, name, class, status, description, attributes, version)
          where c.id = u.id and c.version = u.version",
        source.0,
        now,
        &column(items, |ci| ci.id.0),
        &column(items, |ci| ci.name.clone()),
        &column(items, |ci| ci.class.clone()),
        &column(items, |ci| ci.status.as_str().to_owned()),
        &column(items, |ci| ci.description.clone()),
        &column(items, |ci| Value::Object(ci.attributes.clone())),
        &column(items, |ci| ci.version),
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == items.len() as u64 { Ok(()) } else { Err(Error::Stale) }
}

async fn identify(tx: &mut Tx, items: &[&Known]) -> Result<()> {
    let organization = tx.organization();
    let (mut ids, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for ci in items {
        for (key, value) in &ci.identifiers {
            ids.push(ci.id.0);
            keys.push(key.clone());
            values.push(value.clone());
        }
    }
    sqlx::query!(
        "insert into ci_identifiers (organization_id, ci_id, key, value)
         select $1, u.ci_id, u.key, u.value from unnest($2::uuid[], $3::text[], $4::text[]) as u(ci_id, key, value)
         on conflict on constraint ci_identifiers_item_key do nothing",
        organization.0,
        &ids,
        &keys,
        &values
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
