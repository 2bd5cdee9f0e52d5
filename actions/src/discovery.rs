//! Discovery sources: set up, run, previewed; and what a run does to the configuration items.

use crate::jobs::{RunDiscovery, StartDiscovery};
use crate::{Error, FieldError, Result, check, events, seals};
use domain::cmdb::{InventoryFormat, RunMode};
use domain::inventory::{self, InventoryOptions};
use domain::permission::{self, Permission};
use domain::reconcile::{Defaults, Item, Known, Plan, RowError, reconcile, verdict};
use domain::{Actor, DiscoveryRunId, DiscoverySourceId, MASK};
use queue::schedules::{self, ScheduleError};
use queue::{JobId, KeyRing, NewJob, Schedule};
use serde_json::json;
use store::Tx;
use store::discovery_sources::{AuthHeader, DiscoverySource};

/// What values of headers are sealed as.
const SEALED_AS: &str = "inventory header";
/// The class of items for which neither the inventory nor the source names one.
const UNCLASSIFIED: &str = "unclassified";

#[derive(Clone, Debug)]
pub struct DiscoveryFields {
    pub name: String,
    pub format: InventoryFormat,
    pub location: String,
    pub identification_keys: Vec<String>,
    pub options: InventoryOptions,
    /// A value of [`MASK`] keeps the value that is stored.
    pub auth_header: Option<AuthHeader>,
    pub schedule: Option<String>,
    pub time_zone: String,
    pub is_active: bool,
}

const WORDS: [(&str, &str, &str); 1] =
    [("discovery_sources_name_key", check::CONFLICT, "there is a discovery source of that name already")];

pub async fn create(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
    fields: DiscoveryFields,
) -> Result<DiscoverySource> {
    permission::check(actor, Permission::DiscoveryManage)?;
    let now = tx.now();
    let source = DiscoverySource {
        id: DiscoverySourceId::new(),
        name: fields.name,
        format: fields.format,
        location: fields.location,
        identification_keys: fields.identification_keys,
        options: fields.options,
        auth_header: fields.auth_header,
        schedule: fields.schedule,
        time_zone: fields.time_zone,
        is_active: fields.is_active,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let source = sealed(ring, checked(source)?);
    check::constraints(store::discovery_sources::insert(tx, &source).await, &WORDS)?;
    set_schedule(tx, actor, &source).await?;
    let payload = json!({"discovery_source": source.id, "name": source.name});
    events::record(tx, actor, "discovery_source.created", None, payload).await?;
    Ok(source)
}

/// Writes all fields over `before`, which must not have changed since it was read. A header that lay in clear text is sealed.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
    before: DiscoverySource,
    fields: DiscoveryFields,
) -> Result<DiscoverySource> {
    permission::check(actor, Permission::DiscoveryManage)?;
    let moved = before.location != fields.location;
    let auth_header = match (fields.auth_header, before.auth_header) {
        // Who may name another address must not learn by it what is sent to this one.
        (Some(new), Some(old)) if new.value == MASK && !moved => Some(AuthHeader { name: new.name, ..old }),
        (Some(new), _) if new.value == MASK => {
            let detail = "give the value again: the stored one is not sent to another location";
            return Err(Error::invalid("/auth_header/value", detail));
        }
        (new, _) => new,
    };
    let source = DiscoverySource {
        name: fields.name,
        format: fields.format,
        location: fields.location,
        identification_keys: fields.identification_keys,
        options: fields.options,
        auth_header,
        schedule: fields.schedule,
        time_zone: fields.time_zone,
        is_active: fields.is_active,
        updated_at: tx.now(),
        id: before.id,
        version: before.version,
        created_at: before.created_at,
    };
    let mut source = sealed(ring, checked(source)?);
    source.version = check::constraints(store::discovery_sources::update(tx, &source).await, &WORDS)?;
    set_schedule(tx, actor, &source).await?;
    let payload = json!({"discovery_source": source.id, "name": source.name});
    events::record(tx, actor, "discovery_source.updated", None, payload).await?;
    Ok(source)
}

pub async fn delete(tx: &mut Tx, actor: &Actor, id: DiscoverySourceId) -> Result<()> {
    permission::check(actor, Permission::DiscoveryManage)?;
    store::discovery_sources::delete(tx, id).await?;
    schedules::remove(tx, &schedule_key(id), Some(actor.organization.0)).await.map_err(store::Error::from)?;
    events::record(tx, actor, "discovery_source.deleted", None, json!({"discovery_source": id})).await?;
    Ok(())
}

fn checked(source: DiscoverySource) -> Result<DiscoverySource> {
    let mut wrong = Vec::new();
    let mut field = |pointer: &str, detail: &str| {
        wrong.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    };
    let location = source.location.trim().to_owned();
    let scheme = location.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !(1..=2000).contains(&location.chars().count()) || location.contains('\0') {
        field("/location", "must have 1 to 2000 characters");
    } else if !matches!(scheme.as_deref(), None | Some("http" | "https" | "file")) {
        field(
            "/location",
            "must be an http or https address, or the path of a file below the organization's folder in RELAYDESK_DISCOVERY_DIR",
        );
    }
    let keys = &source.identification_keys;
    if !(1..=10).contains(&keys.len()) {
        field("/identification_keys", "must be 1 to 10, the most trusted first");
    }
    if keys.iter().any(|key| !(1..=100).contains(&key.trim().chars().count()) || key.contains('\0')) {
        field("/identification_keys", "each must have 1 to 100 characters");
    }
    if keys.iter().enumerate().any(|(index, key)| keys[..index].contains(key)) {
        field("/identification_keys", "names a key twice");
    }
    if let Err((below, detail)) = inventory::check_mapping(&source.options) {
        field(&format!("/options{below}"), &detail);
    }
    if let Some(header) = &source.auth_header {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if header.name.is_empty() || header.name.len() > 100 || !header.name.chars().all(token) {
            field("/auth_header/name", "must be the name of a header, for example Authorization");
        }
        if header.value.is_empty() || header.value.len() > 4000 || header.value.chars().any(char::is_control)
        {
            field("/auth_header/value", "must have 1 to 4000 printable characters");
        } else if header.value == MASK && header.sealed.is_none() {
            field("/auth_header/value", "is the mask that stands for a stored value: give the value itself");
        }
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let time_zone = check::time_zone("/time_zone", &source.time_zone)?;
    let schedule = check::optional_text("/schedule", source.schedule.as_deref(), 200)?;
    Ok(DiscoverySource { name: check::name(&source.name)?, location, time_zone, schedule, ..source })
}

/// As it is kept: with the header's value sealed, if there are keys.
fn sealed(ring: &KeyRing, mut source: DiscoverySource) -> DiscoverySource {
    if let Some(header) = source.auth_header.as_mut().filter(|header| header.sealed.is_none())
        && let Some(sealed) = seals::seal(ring, SEALED_AS, source.id.0, &header.value)
    {
        (header.value, header.sealed) = (MASK.to_owned(), Some(sealed));
    }
    source
}

/// The name and the value of the header that goes along. What was sealed with an old key is sealed with the present one.
pub async fn header(
    tx: &mut Tx,
    ring: &KeyRing,
    source: &DiscoverySource,
) -> store::Result<std::result::Result<Option<(String, String)>, String>> {
    let Some(AuthHeader { name, value, sealed }) = &source.auth_header else { return Ok(Ok(None)) };
    let Some(kept) = sealed else { return Ok(Ok(Some((name.clone(), value.clone())))) };
    let value = match seals::open(ring, SEALED_AS, source.id.0, kept) {
        Ok(value) => value,
        Err(why) => return Ok(Err(why)),
    };
    if seals::is_outdated(ring, kept) {
        reseal(tx, ring, source, &value).await?;
    }
    Ok(Ok(Some((name.clone(), value))))
}

/// Whether a key of the ring opens its secret; `Err`: why none does.
pub(crate) fn opens(ring: &KeyRing, source: &DiscoverySource) -> std::result::Result<(), String> {
    let kept = source.auth_header.as_ref().and_then(|header| header.sealed.as_ref());
    kept.map_or(Ok(()), |kept| seals::open(ring, SEALED_AS, source.id.0, kept).map(drop))
}

async fn reseal(tx: &mut Tx, ring: &KeyRing, source: &DiscoverySource, value: &str) -> store::Result<()> {
    let Some(sealed) = seals::seal(ring, SEALED_AS, source.id.0, value) else { return Ok(()) };
    store::discovery_sources::reseal(tx, source, &sealed).await
}

/// Seals the header's value with the present key, whether it is sealed or not. `None`: the source was deleted meanwhile.
pub(crate) async fn seal_now(
    tx: &mut Tx,
    ring: &KeyRing,
    id: DiscoverySourceId,
) -> Result<Option<std::result::Result<(), String>>> {
    let source = match store::discovery_sources::lock(tx, id).await {
        Err(store::Error::NotFound) => return Ok(None),
        found => found?,
    };
    let opened = header(tx, ring, &source).await?;
    let is_clear = source.auth_header.as_ref().is_some_and(|header| header.sealed.is_none());
    if let (Ok(Some((_, value))), true) = (&opened, is_clear) {
        reseal(tx, ring, &source, value).await?;
    }
    Ok(Some(opened.map(drop)))
}

fn schedule_key(id: DiscoverySourceId) -> String {
    format!("discovery:{id}")
}

async fn set_schedule(tx: &mut Tx, actor: &Actor, source: &DiscoverySource) -> Result<()> {
    let key = schedule_key(source.id);
    let Some(expression) = source.schedule.as_ref().filter(|_| source.is_active) else {
        schedules::remove(tx, &key, Some(actor.organization.0)).await.map_err(store::Error::from)?;
        return Ok(());
    };
    let mut schedule =
        Schedule::cron(key, expression, &source.time_zone, &StartDiscovery { source: source.id });
    schedule.organization = Some(actor.organization.0);
    match schedules::upsert(tx, &schedule).await {
        Ok(()) => Ok(()),
        Err(ScheduleError::Invalid(error)) => Err(Error::invalid("/schedule", error.to_string())),
        Err(ScheduleError::Database(error)) => Err(store::Error::from(error).into()),
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub run: DiscoveryRunId,
    pub job: JobId,
}

/// Asks for a run or a preview. One at a time for each source; a run whose job has ended without it stops nobody.
pub async fn start(tx: &mut Tx, actor: &Actor, id: DiscoverySourceId, mode: RunMode) -> Result<Started> {
    permission::check(actor, Permission::DiscoveryRun)?;
    let source = store::discovery_sources::get(tx, id).await?;
    if !source.is_active {
        return Err(Error::conflict("this discovery source is switched off"));
    }
    let busy = |run: Option<DiscoveryRunId>| match run {
        Some(run) => Error::conflict(format!("run {run} of this source has not ended yet")),
        None => Error::conflict("another run of this source has just been started"),
    };
    if let Some((run, job)) = store::discovery_runs::unfinished(tx, id).await? {
        let Some(why) = crate::stopped::why(tx, actor.organization, job.map(JobId)).await? else {
            return Err(busy(Some(run)));
        };
        store::discovery_runs::finish(tx, run, None, Some(&why)).await?;
    }
    let run = DiscoveryRunId::new();
    match store::discovery_runs::insert(tx, run, id, mode, actor.user_id()).await {
        Err(error) if error.constraint() == Some("discovery_runs_unfinished_key") => return Err(busy(None)),
        result => result?,
    }
    let job = NewJob::of(&RunDiscovery { run }).organization(actor.organization);
    let jobs = crate::enqueue(tx, &[job]).await?;
    let job = *jobs.first().ok_or_else(|| Error::conflict("the run could not be enqueued"))?;
    store::discovery_runs::set_job(tx, run, job.0).await?;
    Ok(Started { run, job })
}

/// What was read from an inventory.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    pub items: &'a [Item],
    /// Rows that could not be used, and the identifiers that they name all the same.
    pub refused: &'a [RowError],
    pub seen: &'a [(String, String)],
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub plan: Plan,
    /// Why it must not be carried out.
    pub objection: Option<String>,
}

/// The configuration items as they are now, as far as they concern the source.
pub async fn known(tx: &mut Tx, source: &DiscoverySource) -> Result<Vec<Known>> {
    Ok(store::reconciliation::known(tx, source.id, &source.identification_keys).await?)
}

/// What the inventory means for them. Takes its time with many items: not on a thread of the runtime, and not in a
/// transaction.
pub fn plan(source: &DiscoverySource, listing: Listing<'_>, known: &[Known]) -> Planned {
    let class = source.options.default_class.clone().unwrap_or_else(|| UNCLASSIFIED.to_owned());
    let plan = reconcile(listing.items, listing.seen, known, &Defaults { class });
    let objection = verdict(&plan, listing.refused, known, source.options.max_missing_percent).err();
    Planned { plan, objection }
}

/// Carries a plan out, one organization's run at a time. [`Error::Stale`]: items have changed since they were read, and the
/// plan is to be made anew; the transaction is to be rolled back.
pub async fn carry_out(
    tx: &mut Tx,
    actor: &Actor,
    source: &DiscoverySource,
    planned: &Planned,
) -> Result<()> {
    permission::check(actor, Permission::DiscoveryRun)?;
    if let Some(objection) = &planned.objection {
        return Err(Error::conflict(objection.clone()));
    }
    let plan = &planned.plan;
    store::reconciliation::lock(tx).await?;
    match store::reconciliation::apply(tx, source.id, plan).await {
        Err(store::Error::Stale) => return Err(Error::Stale),
        result => result?,
    }
    let payload = json!({
        "discovery_source": source.id,
        "name": source.name,
        "created": plan.created.len(),
        "updated": plan.updated.len(),
        "unchanged": plan.unchanged.len(),
        "missing": plan.missing.len(),
    });
    events::record(tx, actor, "discovery.finished", None, payload).await?;
    Ok(())
}
