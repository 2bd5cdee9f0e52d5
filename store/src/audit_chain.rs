//! The chain over the audit log: made behind the writers, read by whoever verifies it.
//!
//! Writers take positions before they commit, so a lower one can become visible after a higher one. A seal covers a stretch of positions for ever, so it
//! waits, as the live stream does (docs/adr/0072), until nothing can appear in it any more: [`newest`], then [`writers`], and when all of these are over
//! [`seal`].

mod export;
mod hash;
mod verify;

pub use export::{export, verify_export};
pub use hash::{Digest, entry_digest, hex_of, seal_hash};
pub use verify::{Fault, Head, Report, Verifier};

use crate::{Db, Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::OrganizationId;
use serde::{Deserialize, Serialize};
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// The highest position that is visible: needs a system transaction.
pub async fn newest(tx: &mut Tx) -> Result<Option<i64>> {
    // The sequence itself may be read by its owner alone; by organization each is one step of an index.
    let newest = sqlx::query_scalar!(
        r#"with recursive found as (
             (select organization_id as id from audit_entries order by organization_id limit 1)
             union all
             select (select organization_id from audit_entries where organization_id > found.id order by organization_id limit 1)
               from found where found.id is not null)
           select max((select e.seq from audit_entries e where e.organization_id = found.id order by e.seq desc limit 1)) from found"#
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(newest)
}

/// The open transactions that have written to the log, by PostgreSQL's name for them. Each holds its lock on the table from before it takes a position
/// until its rows are visible (or it is rolled back).
pub async fn writers(tx: &mut Tx) -> Result<HashSet<String>> {
    let writers = sqlx::query_scalar!(
        r#"select distinct virtualtransaction as "writer!" from pg_locks
           where locktype = 'relation' and relation = 'audit_entries'::regclass and mode = 'RowExclusiveLock'
             and database = (select oid from pg_database where datname = current_database())"#
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(writers.into_iter().collect())
}

/// Organizations with entries up to this position that no seal covers: needs a system transaction.
pub async fn unsealed(tx: &mut Tx, up_to: i64) -> Result<Vec<OrganizationId>> {
    let found = sqlx::query_scalar!(
        r#"with recursive found as (
             (select organization_id as id from audit_entries order by organization_id limit 1)
             union all
             select (select organization_id from audit_entries where organization_id > found.id order by organization_id limit 1)
               from found where found.id is not null)
           select found.id as "id!" from found
            where found.id is not null and exists (
              select from audit_entries e
               where e.organization_id = found.id and e.seq <= $1
                 and e.seq > coalesce((select s.last_seq from audit_seals s where s.organization_id = found.id
                                        order by s.position desc limit 1), 0))"#,
        up_to
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// Seals the next entries of the transaction's organization, at most so many; answers how many. 0: there are none, or somebody else seals.
pub async fn seal(tx: &mut Tx, up_to: i64, most: i32) -> Result<i64> {
    let sealed = sqlx::query_scalar!(r#"select audit.seal($1, $2) as "sealed!""#, up_to, most)
        .fetch_one(&mut **tx)
        .await?;
    Ok(sealed)
}

/// Takes away the oldest part of the chain, about so many entries; answers how many. What is younger than 90 days stays in any case.
pub async fn prune(tx: &mut Tx, before: DateTime<Utc>, most: i32) -> Result<u64> {
    let gone = sqlx::query_scalar!(r#"select audit.prune($1, $2) as "gone!""#, before, most)
        .fetch_one(&mut **tx)
        .await?;
    Ok(gone.unsigned_abs())
}

/// Takes the values out of these entries; answers how many had some. The log tells of it.
pub async fn erase(tx: &mut Tx, entries: &[i64], person: Uuid) -> Result<u64> {
    let erased = sqlx::query_scalar!(r#"select audit.erase($1, $2) as "erased!""#, entries, person)
        .fetch_one(&mut **tx)
        .await?;
    Ok(erased.unsigned_abs())
}

/// An entry as it is hashed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raw {
    pub seq: i64,
    /// Microseconds since 1970.
    pub at: i64,
    pub category: String,
    pub noun: String,
    pub verb: String,
    pub object_id: Option<Uuid>,
    pub parent_id: Option<Uuid>,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub real_actor_id: Option<Uuid>,
    pub actor_label: Option<String>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub job_id: Option<Uuid>,
    /// As PostgreSQL writes it.
    pub changes: Option<String>,
    pub salt: Option<Uuid>,
    /// Hexadecimal.
    pub erased_digest: Option<String>,
}

/// Entries of an organization after a position and up to another one, oldest first, at most `limit`. In a transaction of that organization, or of the
/// system.
pub async fn entries(
    tx: &mut Tx,
    organization: OrganizationId,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Raw>> {
    let rows = sqlx::query_as!(
        Raw,
        r#"select seq, (extract(epoch from at) * 1000000)::bigint as "at!", category, noun, verb, object_id, parent_id, actor_kind,
                  actor_id, real_actor_id, actor_label, address, request_id, trace_id, job_id, changes::text as changes, salt,
                  encode(erased_digest, 'hex') as erased_digest
             from audit_entries where organization_id = $1 and seq > $2 and seq <= $3 order by seq limit $4"#,
        organization.0,
        after,
        up_to,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub position: i64,
    pub seqs: Vec<i64>,
    /// One for each of them.
    pub digests: Vec<Digest>,
    pub previous: Digest,
    pub hash: Digest,
}

/// Seals of an organization after a position, oldest first, at most `limit`.
pub async fn seals(tx: &mut Tx, organization: OrganizationId, after: i64, limit: i64) -> Result<Vec<Seal>> {
    let rows = sqlx::query!(
        "select position, seqs, digests, previous, hash from audit_seals
          where organization_id = $1 and position > $2 order by position limit $3",
        organization.0,
        after,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    // What is no digest is like none that is right: found as a difference, not as an error.
    let digest = |bytes: &[u8]| Digest::try_from(bytes).unwrap_or([0xff; 32]);
    let seals = rows.into_iter().map(|row| Seal {
        position: row.position,
        digests: row.digests.chunks(32).map(digest).collect(),
        seqs: row.seqs,
        previous: digest(&row.previous),
        hash: digest(&row.hash),
    });
    Ok(seals.collect())
}

/// Where the chain begins since it was last pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub position: i64,
    pub last_seq: i64,
    pub hash: Digest,
}

/// The newest.
pub async fn anchor(tx: &mut Tx, organization: OrganizationId) -> Result<Option<Anchor>> {
    let row = sqlx::query!(
        "select position, last_seq, hash from audit_anchors where organization_id = $1 order by position desc limit 1",
        organization.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        let hash =
            Digest::try_from(row.hash).map_err(|_| Error::Corrupt("an anchor of the audit log".into()))?;
        Ok(Anchor { position: row.position, last_seq: row.last_seq, hash })
    })
    .transpose()
}

/// The newest seal: its position and hash.
pub async fn head(tx: &mut Tx, organization: OrganizationId) -> Result<Option<(i64, Digest)>> {
    let row = sqlx::query!(
        "select position, hash from audit_seals where organization_id = $1 order by position desc limit 1",
        organization.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.and_then(|row| Some((row.position, Digest::try_from(row.hash).ok()?))))
}

/// How many seals are read at once, and how many entries.
const SEALS: i64 = 50;
const ENTRIES: i64 = 10_000;

/// What is met on the way through a log.
#[derive(Debug)]
pub enum Step<'a> {
    Begin(Option<&'a Anchor>),
    /// With what lies in the log up to its last entry, and perhaps more.
    Seal(&'a Seal, &'a mut VecDeque<Raw>),
    /// Among the entries of the seals so far, and in none of them.
    LeftOver(&'a Raw),
    /// Behind the last seal.
    Unsealed(&'a Raw),
}

/// Goes through the log of an organization from its beginning, in pieces of a transaction each.
pub async fn walk(
    db: &Db,
    organization: OrganizationId,
    mut visit: impl FnMut(Step<'_>) -> std::io::Result<()>,
) -> Result<()> {
    let mut tx = db.begin_system().await?;
    visit(Step::Begin(anchor(&mut tx, organization).await?.as_ref()))?;
    let (mut position, mut done) = (0, i64::MIN);
    loop {
        let seals = seals(&mut tx, organization, position, SEALS).await?;
        if seals.is_empty() {
            break;
        }
        let up_to = seals.iter().filter_map(|seal| seal.seqs.last()).max().copied().unwrap_or(done);
        let mut queue = VecDeque::new();
        for seal in &seals {
            let last = seal.seqs.last().copied().unwrap_or(done);
            // Only what is sealed: of anything later, a lower position may yet become visible.
            while done < last && queue.back().is_none_or(|entry: &Raw| entry.seq < last) {
                tx.rollback().await?;
                tx = db.begin_system().await?;
                let more = entries(&mut tx, organization, done, up_to, ENTRIES).await?;
                let is_all = (more.len() as i64) < ENTRIES;
                done = if is_all { up_to } else { more.last().map_or(up_to, |entry| entry.seq) };
                queue.extend(more);
            }
            visit(Step::Seal(seal, &mut queue))?;
            position = seal.position;
        }
        for entry in &queue {
            visit(Step::LeftOver(entry))?;
        }
    }
    loop {
        let rest = entries(&mut tx, organization, done, i64::MAX, ENTRIES).await?;
        for entry in &rest {
            visit(Step::Unsealed(entry))?;
        }
        match rest.last() {
            Some(last) if rest.len() as i64 == ENTRIES => done = last.seq,
            _ => return Ok(()),
        }
    }
}

/// Verifies the chain of an organization, against a head that was kept elsewhere if there is one.
pub async fn verify(db: &Db, organization: OrganizationId, expected: Option<&Head>) -> Result<Report> {
    loop {
        let mut verifier = Verifier::new(organization, expected.cloned());
        walk(db, organization, |step| {
            verifier.take(step);
            Ok(())
        })
        .await?;
        let report = verifier.finish();
        // Pruned meanwhile: what was read then does not fit together.
        let mut tx = db.begin_system().await?;
        let pruned_to = anchor(&mut tx, organization).await?.map_or(0, |anchor| anchor.position);
        if report.is_whole() || pruned_to == report.pruned_to {
            return Ok(report);
        }
    }
}
