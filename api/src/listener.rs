//! Somebody who follows what happens: the same for Server-Sent Events and for WebSockets. Missed events first, then the live ones, each held
//! against what the listener may hear ([`actions::hearing`]) at that moment.
//!
//! What is to be sent waits in a short line. While a client does not read, the line is full and nothing more is fetched for it; who falls
//! too far behind the others is cut off, and comes back with the last id.

use crate::followers::Seat;
use crate::live::Told;
use crate::{ApiResult, AppState, Caller};
use actions::hearing::{self, Heard};
use chrono::{DateTime, TimeDelta, Utc};
use domain::Permission;
use queue::admin::{self, News};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use store::events::Event;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;
use uuid::Uuid;

/// How often a listener's credentials are looked at again: a logout ends the stream within this time.
const RECHECK: Duration = Duration::from_secs(5);
/// How many missed events are read at a time after a reconnect.
const REPLAY: i64 = 500;
/// An event may be handed out so much later than it is dated: what jobs said meanwhile was missed as well.
const MARGIN: TimeDelta = TimeDelta::seconds(10);
/// Messages that wait for the client.
const LINE: usize = 64;
/// How long a client may read nothing while its line is full.
const PATIENCE: Duration = Duration::from_secs(45);

/// A message is an event, or tells of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum StreamMessage {
    Event(EventView),
    Job(JobNews),
}

/// One message of the stream; its `id` is the position to resume from, its `event` the kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    id: Uuid,
    #[schema(example = "incident.opened")]
    kind: String,
    ticket: Option<Uuid>,
    created_at: DateTime<Utc>,
    /// For staff: who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Uuid>,
    /// For staff.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
}

/// A job has said how far it is, or has ended: the `event` is `job.progress`, and there is no `id`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobNews {
    job: Uuid,
    #[schema(example = "manage_jobs")]
    kind: String,
    #[schema(example = "maintenance")]
    lane: String,
    /// As in `GET jobs/{id}`.
    #[schema(example = "running")]
    state: &'static str,
    /// Claims so far; null when nothing is kept of the job.
    attempt: Option<i16>,
    #[schema(value_type = Option<Value>)]
    progress: Option<Value>,
    #[schema(value_type = Option<Value>)]
    result: Option<Value>,
    /// The last failure, or why it was cancelled.
    error: Option<String>,
    changed_at: DateTime<Utc>,
}

impl From<&News> for JobNews {
    fn from(news: &News) -> Self {
        JobNews {
            job: news.job.0,
            kind: news.kind.clone(),
            lane: news.lane.clone(),
            state: news.state.as_str(),
            attempt: news.attempt,
            progress: news.progress.clone(),
            result: news.result.clone(),
            error: news.error.clone(),
            changed_at: news.changed_at,
        }
    }
}

/// One message on its way to the client.
#[derive(Debug, Serialize)]
pub(crate) struct Said {
    /// The position to resume from; of an event only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    pub event: String,
    pub data: StreamMessage,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The client went.
    Gone,
    /// Its login or token is not good any more, or it may not follow any more.
    LoggedOut,
    /// It is too far behind.
    TooSlow,
    /// The process stops, or cannot go on.
    Stopping,
}

/// Begins to follow. The receiver ends when it is over, and the other one then says why.
pub(crate) async fn follow(
    state: AppState,
    caller: Caller,
    token: String,
    last: Option<i64>,
) -> ApiResult<(mpsc::Receiver<Said>, tokio::task::JoinHandle<Over>)> {
    let seat = state.followers.seat(caller.user_id())?;
    let (live, position) = state.live.follow().await?;
    let (sender, receiver) = mpsc::channel(LINE);
    let why = tokio::spawn(async move {
        let mut listener = Listener { state, caller, token, sender, _seat: seat };
        match listener.run(last, live, position).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    });
    Ok((receiver, why))
}

struct Listener {
    state: AppState,
    caller: Caller,
    token: String,
    sender: mpsc::Sender<Said>,
    _seat: Seat,
}

impl Listener {
    async fn run(
        &mut self,
        last: Option<i64>,
        mut live: broadcast::Receiver<Arc<Told>>,
        position: i64,
    ) -> Result<std::convert::Infallible, Over> {
        if let Some(last) = last {
            self.replay(last, position).await?;
            self.replay_jobs(last).await?;
        }
        let mut recheck = tokio::time::interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Who waited for the client asks first whether it is still the one it was.
                biased;
                _ = recheck.tick() => self.recheck().await,
                () = self.sender.closed() => Err(Over::Gone),
                () = self.state.draining().cancelled() => Err(Over::Stopping),
                received = live.recv() => match received.as_deref() {
                    Ok(Told::Event(recorded)) if recorded.event.seq <= position => Ok(()),
                    Ok(Told::Event(recorded)) if recorded.organization != self.caller.organization() => Ok(()),
                    Ok(Told::Event(recorded)) => self.tell(&recorded.event).await,
                    Ok(Told::Job(news)) => self.tell_of_job(news).await,
                    // It reconnects with the last id and gets what it missed.
                    Err(broadcast::error::RecvError::Lagged(_)) => Err(Over::TooSlow),
                    Err(broadcast::error::RecvError::Closed) => Err(Over::Stopping),
                },
            }?;
        }
    }

    /// Everything between what the client has and where its live part begins, however much it missed, page by page as
    /// fast as the client reads. Should the live part run away meanwhile, the stream ends and the client comes back for the rest.
    async fn replay(&mut self, mut last: i64, position: i64) -> Result<(), Over> {
        while last < position {
            let (page, end) = self.page(last, position).await.map_err(|_| Over::Stopping)?;
            for said in page {
                self.send(said).await?;
            }
            match end {
                Some(end) => last = end,
                None => break,
            }
            if self.state.is_draining() {
                return Err(Over::Stopping);
            }
            self.recheck().await?;
        }
        Ok(())
    }

    /// What the client may hear of the next events, decided by one look at them; and the position to go on from, if there are more.
    async fn page(&self, last: i64, position: i64) -> ApiResult<(Vec<Said>, Option<i64>)> {
        let _turn = self.state.followers.turn().await;
        let mut tx = self.caller.begin(&self.state).await?;
        let events = store::events::between(&mut tx, last, position, REPLAY).await?;
        let actor = self.caller.actor();
        let mut page = Vec::new();
        for event in &events {
            let heard = match hearing::without_looking(&actor, event) {
                Some(heard) => heard,
                None => hearing::of(&mut tx, &actor, event).await?,
            };
            page.extend(said(event, heard));
        }
        let is_full = events.len() == REPLAY as usize;
        Ok((page, events.last().filter(|_| is_full).map(|event| event.seq)))
    }

    /// The last word of each job that has said something since that event, within a day. What was told already may come again.
    async fn replay_jobs(&mut self, last: i64) -> Result<(), Over> {
        if self.caller.require(Permission::JobsRead).is_err() {
            return Ok(());
        }
        let mut tx = self.caller.begin(&self.state).await.map_err(|_| Over::Stopping)?;
        let since = store::events::time_of(&mut tx, last).await.map_err(|_| Over::Stopping)?;
        let since = since.map_or(DateTime::UNIX_EPOCH, |time| time - MARGIN);
        let organization = self.caller.organization().0;
        let news = admin::news(&mut tx, Some(organization), Some(since)).await;
        let news = news.map_err(|_| Over::Stopping)?;
        drop(tx);
        for news in &news {
            self.tell_of_job(news).await?;
        }
        Ok(())
    }

    async fn recheck(&mut self) -> Result<(), Over> {
        match Caller::of_token(&self.state, &self.token).await {
            Ok(caller) if caller.require(Permission::EventsFollow).is_err() => return Err(Over::LoggedOut),
            Ok(caller) => self.caller = caller,
            // The database may be away for a moment; the stream is not the place to fail.
            Err(problem) if problem.status().is_server_error() => {}
            Err(_) => return Err(Over::LoggedOut),
        }
        Ok(())
    }

    async fn tell(&self, event: &Event) -> Result<(), Over> {
        match said(event, self.heard(event).await) {
            Some(said) => self.send(said).await,
            None => Ok(()),
        }
    }

    async fn tell_of_job(&self, news: &News) -> Result<(), Over> {
        let is_ours = news.organization == Some(self.caller.organization().0);
        if !is_ours || self.caller.require(Permission::JobsRead).is_err() {
            return Ok(());
        }
        let data = StreamMessage::Job(news.into());
        self.send(Said { id: None, event: "job.progress".to_owned(), data }).await
    }

    async fn send(&self, said: Said) -> Result<(), Over> {
        tokio::select! {
            sent = tokio::time::timeout(PATIENCE, self.sender.send(said)) => match sent {
                Ok(sent) => sent.map_err(|_| Over::Gone),
                Err(_) => Err(Over::TooSlow),
            },
            () = self.state.draining().cancelled() => Err(Over::Stopping),
        }
    }

    /// What cannot be found out is not told.
    async fn heard(&self, event: &Event) -> Heard {
        let actor = self.caller.actor();
        if let Some(heard) = hearing::without_looking(&actor, event) {
            return heard;
        }
        let Ok(mut tx) = self.caller.begin(&self.state).await else { return Heard::Nothing };
        hearing::of(&mut tx, &actor, event).await.unwrap_or(Heard::Nothing)
    }
}

/// An event as it is told to whoever hears so much of it.
fn said(event: &Event, heard: Heard) -> Option<Said> {
    let is_whole = heard == Heard::Whole;
    let view = (heard != Heard::Nothing).then(|| EventView {
        id: event.id.0,
        kind: event.kind.clone(),
        ticket: event.ticket.map(Into::into),
        created_at: event.created_at,
        actor: event.actor.filter(|_| is_whole).map(Into::into),
        payload: is_whole.then(|| event.payload.clone()),
    })?;
    Some(Said { id: Some(event.seq), event: event.kind.clone(), data: StreamMessage::Event(view) })
}
