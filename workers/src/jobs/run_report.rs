//! Makes one report and hands it to its recipients: figures, file, mails and the end of the job are one transaction.

use crate::report::{CsvFile, words};
use crate::{Shared, organization_of};
use actions::deliveries::{NewMail, queue_mail};
use actions::jobs::RunReport;
use domain::{Actor, OrganizationId};
use futures::TryStreamExt;
use queue::{JobResult, Outcome, Run, Running};
use serde_json::json;
use std::pin::pin;
use store::deliveries::{Mail, Words};
use store::report_executions::{self, Execution, Status};
use store::reports::{self, Line, Range, Summary};
use store::{Db, Tx};

/// So many incidents stand in the mail itself.
const SHOWN: usize = 50;
/// A larger file is not attached but linked: many relays refuse mails of more than 10 or 20 MB.
const LARGEST_ATTACHMENT: usize = 7 * 1024 * 1024;

impl Run<Shared> for RunReport {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        match make(&self, job, shared, organization).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let last = job.attempt >= job.max_attempts;
                note(&shared.db, organization, &self, &format!("{error:#}"), last).await?;
                Err(error.into())
            }
        }
    }
}

async fn make(
    args: &RunReport,
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
) -> anyhow::Result<Outcome> {
    let mut tx = shared.db.begin(organization).await?;
    let execution = match report_executions::lock(&mut tx, args.execution).await {
        Ok(execution) if execution.status == Status::Done => {
            return Ok(Outcome::Cancelled("the report was made before".into()));
        }
        Ok(execution) => execution,
        Err(store::Error::NotFound) => return Ok(Outcome::Cancelled("the execution is gone".into())),
        Err(error) => return Err(error.into()),
    };
    let range = Range { from: execution.from, to: execution.to };
    let summary = reports::incidents_and_sla(&mut tx, range).await?;
    let mut file = CsvFile::new()?;
    let (mut shown, mut read) = (Vec::<Line>::new(), 0_u64);
    {
        let mut lines = pin!(reports::lines(&mut tx, range));
        while let Some(line) = lines.try_next().await? {
            file.add(&line)?;
            read += 1;
            if read.is_multiple_of(500) {
                job.report(&json!({"incidents": read}));
            }
            if shown.len() < SHOWN {
                shown.push(line);
            }
        }
    }
    let (bytes, rows) = file.finish()?;
    report_executions::finish(&mut tx, execution.id, &summary, &bytes, rows).await?;
    let attached = bytes.len() <= LARGEST_ATTACHMENT;
    send(&mut tx, shared, organization, &execution, &summary, (&shown, rows), attached).await?;
    job.complete_with(&mut tx, &json!({"incidents": rows, "csv_bytes": bytes.len()})).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// One mail a recipient, under a key of its own.
async fn send(
    tx: &mut Tx,
    shared: &Shared,
    organization: OrganizationId,
    execution: &Execution,
    summary: &Summary,
    incidents: (&[Line], i64),
    attached: bool,
) -> anyhow::Result<()> {
    let base_url = &shared.settings.base_url;
    let actor = Actor::system(organization, "run_report");
    let recipients = actions::reports::recipients(tx, &actor, execution).await?;
    let download = match attached || recipients.is_empty() {
        true => None,
        false => {
            let token = actions::reports::offer_download(tx, execution.id).await?;
            Some(actions::reports::download_link(base_url, &token))
        }
    };
    let name = store::channels::organization_name(tx).await?;
    let report = words(name, base_url, execution, summary, incidents, download);
    let words = shared.templates.render_mail(&report)?;
    for recipient in &recipients {
        let mail = NewMail {
            key: format!("report:{}:{recipient}", execution.id),
            to: recipient.clone(),
            message_kind: "report".into(),
            mail: Mail {
                auto_submitted: Some("auto-generated".into()),
                words: Some(Words {
                    subject: words.subject.clone(),
                    text: words.text.clone(),
                    html: Some(words.html.clone()),
                }),
                report: attached.then_some(execution.id),
                ..Mail::default()
            },
            ..NewMail::default()
        };
        queue_mail(tx, organization, mail).await?;
    }
    Ok(())
}

/// What went wrong is visible while it is tried again.
async fn note(
    db: &Db,
    organization: OrganizationId,
    args: &RunReport,
    error: &str,
    last: bool,
) -> anyhow::Result<()> {
    let mut tx = db.begin(organization).await?;
    report_executions::fail(&mut tx, args.execution, error, last).await?;
    tx.commit().await?;
    Ok(())
}
