//! `events/stream`: what happens, as it happens (Server-Sent Events).
//!
//! Staff get every event of their organization with its payload. End users get those of the tickets they requested or watch,
//! without payload (it may hold what is meant for staff), and none about internal notes. Who may see jobs also hears how far those are
//! that say so, and how they ended.

use crate::live::Told;
use crate::{ApiResult, AppState, Caller, Problem};
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Permission, permission};
use futures::Stream;
use queue::admin::{self, News};
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use store::events::Event;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How often a listener's credentials are looked at again: a logout ends the stream within this time.
const RECHECK: Duration = Duration::from_secs(5);
/// How many missed events are read at a time after a reconnect.
const REPLAY: i64 = 500;
/// An event may be handed out so much later than it is dated: what jobs said meanwhile was missed as well.
const MARGIN: TimeDelta = TimeDelta::seconds(10);
/// What end users hear about.
const PUBLIC: [&str; 7] =
    ["opened", "assigned", "commented", "resolved", "closed", "reopened", "status_changed"];

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stream_events))
}

/// A message is an event, or tells of a job.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum StreamMessage {
    Event(EventView),
    Job(JobNews),
}

/// One message of the stream; its `id` is the position to resume from, its `event` the kind.
#[derive(Serialize, ToSchema)]
struct EventView {
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
#[derive(Serialize, ToSchema)]
struct JobNews {
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
    #[schema(value_type = Option<Object>)]
    progress: Option<Value>,
    #[schema(value_type = Option<Object>)]
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

/// Follow what happens, and how far jobs are. Send `Last-Event-ID` to get what was missed
#[utoipa::path(get, path = "/events/stream", tag = "events",
    params(("Last-Event-ID" = Option<i64>, Header, description = "the id of the last message received")),
    responses((status = 200, body = StreamMessage, content_type = "text/event-stream")))]
async fn stream_events(
    State(state): State<AppState>,
    caller: Caller,
    parts: Parts,
) -> ApiResult<Sse<impl Stream<Item = Result<Message, Infallible>>>> {
    caller.require(Permission::EventsFollow)?;
    let last =
        match parts.headers.get("last-event-id") {
            Some(value) => {
                let last = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
                Some(last.ok_or_else(|| {
                    Problem::bad_request("Last-Event-ID is the id of a message of this stream")
                })?)
            }
            None => None,
        };
    let token = crate::caller::bearer(&parts).unwrap_or_default().to_owned();
    let (live, position) = state.live.follow().await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut listener = Listener { state, caller, token, sender };
        // Over: the client went, or reconnects with the last id.
        let _ = listener.run(last, live, position).await;
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive))
}

struct Listener {
    state: AppState,
    caller: Caller,
    token: String,
    sender: mpsc::Sender<Result<Message, Infallible>>,
}

/// The stream is over: the client went, its credentials ended, or it is too far behind.
struct Over;

impl Listener {
    async fn run(
        &mut self,
        last: Option<i64>,
        mut live: broadcast::Receiver<std::sync::Arc<Told>>,
        position: i64,
    ) -> Result<(), Over> {
        if let Some(last) = last {
            self.replay(last, position).await?;
            self.replay_jobs(last).await?;
        }
        let mut recheck = tokio::time::interval(RECHECK);
        loop {
            tokio::select! {
                received = live.recv() => match received.as_deref() {
                    Ok(Told::Event(recorded)) if recorded.event.seq <= position => Ok(()),
                    Ok(Told::Event(recorded)) if recorded.organization != self.caller.organization() => Ok(()),
                    Ok(Told::Event(recorded)) => self.tell(&recorded.event).await,
                    Ok(Told::Job(news)) => self.tell_of_job(news).await,
                    // It reconnects with the last id and gets what it missed.
                    Err(_) => Err(Over),
                },
                _ = recheck.tick() => self.recheck().await,
                () = self.sender.closed() => Err(Over),
                () = self.state.draining().cancelled() => Err(Over),
            }?;
        }
    }

    /// Everything between what the client has and where its live part begins, however much it missed, page by page as
    /// fast as the client reads. Should the live part run away meanwhile, the stream ends and the client comes back for the rest.
    async fn replay(&mut self, mut last: i64, position: i64) -> Result<(), Over> {
        while last < position {
            let mut tx = self.caller.begin(&self.state).await.map_err(|_| Over)?;
            let page = store::events::between(&mut tx, last, position, REPLAY).await.map_err(|_| Over)?;
            drop(tx);
            for event in &page {
                self.tell(event).await?;
            }
            match page.last() {
                Some(event) if page.len() == REPLAY as usize => last = event.seq,
                _ => break,
            }
            if self.state.is_draining() {
                return Err(Over);
            }
            self.recheck().await?;
        }
        Ok(())
    }

    /// The last word of each job that has said something since that event, within a day. What was told already may come again.
    async fn replay_jobs(&mut self, last: i64) -> Result<(), Over> {
        if self.caller.require(Permission::JobsRead).is_err() {
            return Ok(());
        }
        let mut tx = self.caller.begin(&self.state).await.map_err(|_| Over)?;
        let since = store::events::time_of(&mut tx, last).await.map_err(|_| Over)?;
        let since = since.map_or(DateTime::UNIX_EPOCH, |time| time - MARGIN);
        let organization = self.caller.organization().0;
        let news = admin::news(&mut tx, Some(organization), Some(since)).await.map_err(|_| Over)?;
        drop(tx);
        for news in &news {
            self.tell_of_job(news).await?;
        }
        Ok(())
    }

    async fn recheck(&mut self) -> Result<(), Over> {
        match Caller::of_token(&self.state, &self.token).await {
            Ok(caller) => self.caller = caller,
            // The database may be away for a moment; the stream is not the place to fail.
            Err(problem) if problem.status().is_server_error() => {}
            Err(_) => return Err(Over),
        }
        Ok(())
    }

    async fn tell(&self, event: &Event) -> Result<(), Over> {
        let Some(view) = self.view(event).await else {
            return Ok(());
        };
        let message = Message::default().id(event.seq.to_string()).event(&event.kind);
        self.send(message, StreamMessage::Event(view)).await
    }

    async fn tell_of_job(&self, news: &News) -> Result<(), Over> {
        let is_ours = news.organization == Some(self.caller.organization().0);
        if !is_ours || self.caller.require(Permission::JobsRead).is_err() {
            return Ok(());
        }
        self.send(Message::default().event("job.progress"), StreamMessage::Job(news.into())).await
    }

    async fn send(&self, message: Message, data: StreamMessage) -> Result<(), Over> {
        let message = message.json_data(data).map_err(|_| Over)?;
        self.sender.send(Ok(message)).await.map_err(|_| Over)
    }

    async fn view(&self, event: &Event) -> Option<EventView> {
        let view = EventView {
            id: event.id.0,
            kind: event.kind.clone(),
            ticket: event.ticket.map(Into::into),
            created_at: event.created_at,
            actor: None,
            payload: None,
        };
        if permission::sees_all_tickets(&self.caller.actor()) {
            let (actor, payload) = (event.actor.map(Into::into), Some(event.payload.clone()));
            return Some(EventView { actor, payload, ..view });
        }
        (is_public(event) && self.sees_ticket(event).await).then_some(view)
    }

    async fn sees_ticket(&self, event: &Event) -> bool {
        let Some(ticket) = event.ticket else { return false };
        let Ok(mut tx) = self.caller.begin(&self.state).await else {
            return false;
        };
        actions::tickets::see(&mut tx, &self.caller.actor(), ticket).await.is_ok()
    }
}

fn is_public(event: &Event) -> bool {
    let verb = event.kind.split_once('.').map_or("", |(_, verb)| verb);
    let comment = event.payload.get("comment");
    PUBLIC.contains(&verb)
        && comment.is_none_or(|comment| comment.get("visibility").and_then(Value::as_str) == Some("public"))
        && (verb != "commented" || comment.is_some())
}
