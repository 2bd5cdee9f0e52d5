//! Reports: run one now, or by the clock.

use crate::check::name;
use crate::credentials::{hash_token, new_token};
use crate::jobs::{RunReport, StartScheduledReport};
use crate::{Error, Result, events};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::permission::{self, Permission};
use domain::{
    Actor, EmailAddress, OrganizationId, Period, PeriodKind, ReportExecutionId, ReportKind, ReportScheduleId,
};
use queue::schedules::{self, ScheduleError};
use queue::{JobId, NewJob, Rhythm, Schedule, Unique};
use secrecy::ExposeSecret;
use serde_json::json;
use store::Tx;
use store::report_executions::{Execution, NewExecution, Status};
use store::report_schedules::ReportSchedule;

#[derive(Clone, Debug)]
pub struct ReportRequest {
    pub kind: ReportKind,
    pub from: DateTime<Utc>,
    /// Not part of the period.
    pub to: DateTime<Utc>,
    /// In which days are shown.
    pub time_zone: String,
    /// May be empty: the result is fetched.
    pub recipients: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub execution: ReportExecutionId,
    pub job: JobId,
}

pub async fn request(tx: &mut Tx, actor: &Actor, request: ReportRequest) -> Result<Started> {
    permission::check_wide(actor, Permission::ReportsRun)?;
    if request.from >= request.to {
        return Err(Error::invalid("/to", "must be after from"));
    }
    let id = ReportExecutionId::new();
    let execution = NewExecution {
        id,
        schedule: None,
        start_key: format!("request:{id}"),
        kind: request.kind,
        time_zone: zone(&request.time_zone)?.name().to_owned(),
        from: request.from,
        to: request.to,
        recipients: addresses(&request.recipients, 0)?,
        requested_by: actor.user_id(),
    };
    store::report_executions::insert(tx, &execution).await?;
    Ok(Started { execution: id, job: enqueue(tx, actor, id).await? })
}

/// The tick of a schedule: one execution a job, however often the job is tried. Nothing when the schedule is switched off.
pub async fn start_scheduled(
    tx: &mut Tx,
    actor: &Actor,
    schedule: ReportScheduleId,
    tick: DateTime<Utc>,
    job: JobId,
) -> Result<Option<Started>> {
    let schedule = store::report_schedules::get(tx, schedule).await?;
    if !schedule.is_active {
        return Ok(None);
    }
    let (from, to) = schedule.period.range(tick, zone(&schedule.time_zone)?);
    let id = ReportExecutionId::new();
    let execution = NewExecution {
        id,
        schedule: Some(schedule.id),
        start_key: format!("schedule:{}:{}", schedule.id, job.0),
        kind: schedule.kind,
        time_zone: schedule.time_zone,
        from,
        to,
        recipients: schedule.recipients,
        requested_by: None,
    };
    if !store::report_executions::insert(tx, &execution).await? {
        return Ok(None);
    }
    Ok(Some(Started { execution: id, job: enqueue(tx, actor, id).await? }))
}

/// An execution whose job has ended without it (a timeout, a crash, somebody discarded it) has failed; answers whether
/// it has. For the sweep.
pub async fn end_if_stopped(
    tx: &mut Tx,
    organization: OrganizationId,
    id: ReportExecutionId,
) -> Result<bool> {
    let execution = store::report_executions::lock(tx, id).await?;
    if execution.status != Status::Queued {
        return Ok(false);
    }
    let Some(why) = crate::stopped::why(tx, organization, execution.job.map(JobId)).await? else {
        return Ok(false);
    };
    store::report_executions::fail(tx, id, &why, true).await?;
    Ok(true)
}

/// Who of the recipients is to get a report that is ready. Whoever was deleted or switched off since they were named is left out, and an event
/// says so; they get the next one if they are back by then. Addresses that are nobody's get theirs.
pub async fn recipients(tx: &mut Tx, actor: &Actor, execution: &Execution) -> Result<Vec<String>> {
    let gone = store::removals::addresses_of_the_gone(tx, &execution.recipients).await?;
    if !gone.is_empty() {
        let users: Vec<_> = gone.iter().map(|(_, user)| user).collect();
        let payload = json!({"report_execution": execution.id, "report_schedule": execution.schedule, "users": users,
                             "why": "not_active"});
        events::record(tx, actor, "report.recipients_left_out", None, payload).await?;
    }
    let is_gone = |address: &String| gone.iter().any(|(known, _)| known == address);
    Ok(execution.recipients.iter().filter(|address| !is_gone(address)).cloned().collect())
}

async fn enqueue(tx: &mut Tx, actor: &Actor, execution: ReportExecutionId) -> Result<JobId> {
    let job = NewJob::of(&RunReport { execution })
        .organization(actor.organization)
        .unique(format!("report:{execution}"), Unique::WhileUnfinished);
    let ids = crate::enqueue(tx, &[job]).await?;
    let id = *ids.first().ok_or(Error::NotFound)?;
    store::report_executions::set_job(tx, execution, id.0).await?;
    Ok(id)
}

/// How long the link in a mail is good for.
const DOWNLOAD_LIFETIME: TimeDelta = TimeDelta::days(7);
/// Behind `#` in a link, so that no address that is asked for holds it: the page there sends it in a body.
const DOWNLOAD_PREFIX: &str = "rdl_";
/// Of links as they were mailed before, with the token in their path.
const PATH_PREFIX: &str = "rdd_";

/// What is mailed: the page `/report` (`console/assets/report.js`) reads what stands behind `#`.
pub fn download_link(base_url: &str, token: &str) -> String {
    format!("{base_url}/report#{token}")
}

/// Whether a token may stand in a path: those of new links may not, so that nobody puts them there.
pub fn is_of_a_path(token: &str) -> bool {
    token.starts_with(PATH_PREFIX)
}

/// The token of a link by which the recipients of a mail, who may have no login, fetch its file. A new one replaces the
/// old one. Only its hash is kept.
pub async fn offer_download(tx: &mut Tx, execution: ReportExecutionId) -> Result<String> {
    let token = new_token(DOWNLOAD_PREFIX).expose_secret().to_owned();
    let until = tx.now() + DOWNLOAD_LIFETIME;
    store::report_executions::allow_download(tx, execution, &hash_token(&token), until).await?;
    Ok(token)
}

#[derive(Clone, Debug)]
pub struct NewSchedule {
    pub name: String,
    pub kind: ReportKind,
    /// Five fields, Unix meaning.
    pub cron: String,
    pub time_zone: String,
    pub period: PeriodKind,
    pub period_count: Option<u32>,
    pub recipients: Vec<String>,
    pub is_active: bool,
}

/// Only what is there changes.
#[derive(Clone, Debug, Default)]
pub struct ScheduleChange {
    pub name: Option<String>,
    pub cron: Option<String>,
    pub time_zone: Option<String>,
    pub period: Option<(PeriodKind, Option<u32>)>,
    pub recipients: Option<Vec<String>>,
    pub is_active: Option<bool>,
}

pub async fn create_schedule(tx: &mut Tx, actor: &Actor, new: NewSchedule) -> Result<ReportSchedule> {
    permission::check_wide(actor, Permission::ReportsManage)?;
    let now = tx.now();
    let schedule = ReportSchedule {
        id: ReportScheduleId::new(),
        name: name(&new.name)?,
        kind: new.kind,
        cron: new.cron.trim().to_owned(),
        time_zone: new.time_zone,
        period: period(new.period, new.period_count)?,
        recipients: addresses(&new.recipients, 1)?,
        is_active: new.is_active,
        version: 1,
        created_by: actor.user_id(),
        created_at: now,
        updated_at: now,
    };
    validate(actor, &schedule)?;
    store::report_schedules::insert(tx, &schedule).await.map_err(taken)?;
    events::record(
        tx,
        actor,
        "report_schedule.created",
        None,
        json!({"report_schedule": schedule.id, "name": schedule.name}),
    )
    .await?;
    tell_queue(tx, actor, &schedule).await?;
    Ok(schedule)
}

/// `version`: what `If-Match` said, if it was there.
pub async fn update_schedule(
    tx: &mut Tx,
    actor: &Actor,
    id: ReportScheduleId,
    version: Option<i64>,
    change: ScheduleChange,
) -> Result<ReportSchedule> {
    permission::check_wide(actor, Permission::ReportsManage)?;
    let mut schedule = store::report_schedules::get(tx, id).await?;
    schedule.version = version.unwrap_or(schedule.version);
    if let Some(new) = change.name {
        schedule.name = name(&new)?;
    }
    if let Some(cron) = change.cron {
        schedule.cron = cron.trim().to_owned();
    }
    if let Some(time_zone) = change.time_zone {
        schedule.time_zone = time_zone;
    }
    if let Some((kind, count)) = change.period {
        schedule.period = period(kind, count)?;
    }
    if let Some(recipients) = change.recipients {
        schedule.recipients = addresses(&recipients, 1)?;
    }
    schedule.is_active = change.is_active.unwrap_or(schedule.is_active);
    validate(actor, &schedule)?;
    store::report_schedules::update(tx, &schedule).await.map_err(taken)?;
    events::record(
        tx,
        actor,
        "report_schedule.updated",
        None,
        json!({"report_schedule": id, "name": schedule.name}),
    )
    .await?;
    tell_queue(tx, actor, &schedule).await?;
    Ok(store::report_schedules::get(tx, id).await?)
}

/// Its executions stay.
pub async fn delete_schedule(tx: &mut Tx, actor: &Actor, id: ReportScheduleId) -> Result<()> {
    permission::check_wide(actor, Permission::ReportsManage)?;
    store::report_schedules::delete(tx, id).await?;
    events::record(tx, actor, "report_schedule.deleted", None, json!({"report_schedule": id})).await?;
    schedules::remove(tx, &key(id), Some(actor.organization.0)).await.map_err(store::Error::from)?;
    Ok(())
}

fn key(id: ReportScheduleId) -> String {
    format!("report:{id}")
}

/// A report for which nobody was there at its tick is made once, late.
fn queue_schedule(actor: &Actor, schedule: &ReportSchedule) -> Schedule {
    let job = NewJob::of(&StartScheduledReport { schedule: schedule.id }).organization(actor.organization);
    Schedule::new(key(schedule.id), Rhythm::Cron(schedule.cron.clone()), schedule.time_zone.clone(), job)
}

fn validate(actor: &Actor, schedule: &ReportSchedule) -> Result<()> {
    zone(&schedule.time_zone)?;
    queue_schedule(actor, schedule).validate().map_err(|error| Error::invalid("/cron", error.to_string()))
}

async fn tell_queue(tx: &mut Tx, actor: &Actor, schedule: &ReportSchedule) -> Result<()> {
    if !schedule.is_active {
        schedules::remove(tx, &key(schedule.id), Some(actor.organization.0))
            .await
            .map_err(store::Error::from)?;
        return Ok(());
    }
    match schedules::upsert(tx, &queue_schedule(actor, schedule)).await {
        Ok(()) => Ok(()),
        Err(ScheduleError::Invalid(error)) => Err(Error::invalid("/cron", error.to_string())),
        Err(ScheduleError::Database(error)) => Err(store::Error::from(error).into()),
    }
}

fn zone(name: &str) -> Result<Tz> {
    let unknown =
        |_| Error::invalid("/time_zone", format!("{name:?} is not an IANA time zone such as Europe/Berlin"));
    name.parse().map_err(unknown)
}

fn period(kind: PeriodKind, count: Option<u32>) -> Result<Period> {
    Period::new(kind, count).map_err(|error| Error::invalid("/period/count", error.to_string()))
}

fn addresses(texts: &[String], least: usize) -> Result<Vec<String>> {
    if texts.len() < least || texts.len() > 100 {
        return Err(Error::invalid("/recipients", format!("needs {least} to 100 e-mail addresses")));
    }
    let mut addresses: Vec<String> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let address = EmailAddress::parse(text)
            .map_err(|error| Error::invalid(format!("/recipients/{index}"), error.to_string()))?;
        if !addresses.iter().any(|known| known == address.as_str()) {
            addresses.push(address.into());
        }
    }
    Ok(addresses)
}

fn taken(error: store::Error) -> Error {
    match error.constraint() {
        Some("report_schedules_name_key") => {
            Error::conflict("there is a report schedule with that name already")
        }
        _ => error.into(),
    }
}
