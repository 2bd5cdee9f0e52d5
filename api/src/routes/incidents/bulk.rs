//! The same for many incidents at once. A job does it, with the rights of who asked for it.

use super::input;
use crate::body::nullable;
use crate::filters::Asked;
use crate::page::LONGEST_SEARCH;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Credential, Problem};
use actions::tickets::bulk::{self, MOST, Named, TicketChange};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::Permission::TicketsAssign;
use domain::ticket::TicketKind;
use domain::{TeamId, TicketId};
use queue::JobId;
use queue::admin::JobState;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use store::Tx;
use store::listing::{Condition, Is};
use store::ticket_list::{FIELDS, TicketFilter, order};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(show))
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BulkAction {
    Assign,
    Resolve,
    Close,
    Reopen,
    Cancel,
    AddTags,
    RemoveTags,
}

/// What is done to which incidents: `ids` or `filter`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"action": "add_tags", "ids": ["INC0000001", "INC0000002"], "tags": ["printer"]}))]
struct BulkChange {
    action: BulkAction,
    /// Ids or numbers, 500 at most.
    #[serde(default)]
    #[schema(max_items = 500)]
    ids: Option<Vec<String>>,
    /// As in the list of incidents: `status=resolved&updated_at[lt]=2026-01-01T00:00:00Z`. It must find 500 at most, and is read
    /// once, at the beginning.
    #[serde(default)]
    filter: Option<String>,
    /// For assign: id or e-mail address of an agent, manager or admin; null takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    assignee: Option<Option<String>>,
    /// For assign; null takes it away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    team: Option<Option<TeamId>>,
    /// For resolve.
    #[serde(default)]
    resolution: Option<String>,
    /// For add_tags and remove_tags.
    #[serde(default)]
    tags: Vec<String>,
    /// For assign, close, reopen and cancel.
    #[serde(default)]
    reason: Option<String>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// What was begun, or would be.
#[derive(Serialize, ToSchema)]
struct BulkBegun {
    /// The job that does it; null after a dry run.
    job: Option<Uuid>,
    /// How many incidents.
    tickets: usize,
}

/// How far it is.
#[derive(Serialize, ToSchema)]
struct BulkProgress {
    job: Uuid,
    /// That of the job: ready, running, done, cancelled, dead …
    #[schema(value_type = String, example = "done")]
    state: JobState,
    /// How many incidents it is about.
    tickets: usize,
    done: usize,
    failed: usize,
    /// Those that it has come to, in the order in which they were named.
    items: Vec<BulkItem>,
}

#[derive(Serialize, ToSchema)]
struct BulkItem {
    ticket: Uuid,
    /// Why it could not be done; null: it is done.
    problem: Option<String>,
}

/// Change many incidents
///
/// Each is changed as by the single action, with the same permissions and events. What cannot be done to one does not keep it from the others:
/// the result says so.
#[utoipa::path(post, path = "/incidents/bulk", tag = "incidents", request_body = BulkChange,
    responses((status = 200, body = BulkBegun, description = "of a dry run"), (status = 202, body = BulkBegun),
        (status = 422, body = Problem)))]
async fn start(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<BulkChange>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let change = change(&mut tx, &caller, &body).await?;
    bulk::check(&mut tx, &caller.actor(), &change).await?;
    let tickets = match (&body.ids, &body.filter) {
        (Some(ids), None) => named(&mut tx, &caller, ids).await?,
        (None, Some(filter)) => found(&mut tx, &caller, filter).await?,
        _ => return Err(Problem::invalid("/ids", "name either ids or a filter")),
    };
    let begun = |job| Json(BulkBegun { job, tickets: tickets.len() });
    if body.dry_run {
        return Ok(begun(None).into_response());
    }
    let token = match caller.credential() {
        Credential::ApiToken(id) => Some(id),
        Credential::Login(_) => None,
    };
    let job = bulk::start(&mut tx, &caller.actor(), token, change, tickets.clone()).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, begun(Some(job.0))).into_response())
}

/// What came of it
#[utoipa::path(get, path = "/incidents/bulk/{job}", tag = "incidents", params(("job" = Uuid, Path)),
    responses((status = 200, body = BulkProgress), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(job): ApiPath<Uuid>,
) -> ApiResult<Json<BulkProgress>> {
    let mut tx = caller.begin(&state).await?;
    let (job, changed) = bulk::progress(&mut tx, &caller.actor(), JobId(job)).await?;
    let failed = changed.outcomes.iter().filter(|outcome| outcome.problem.is_some()).count();
    let items = changed.outcomes.into_iter();
    let items: Vec<_> =
        items.map(|outcome| BulkItem { ticket: outcome.ticket.0, problem: outcome.problem }).collect();
    Ok(Json(BulkProgress {
        job: job.id.0,
        state: job.state,
        tickets: changed.tickets,
        done: items.len() - failed,
        failed,
        items,
    }))
}

async fn change(tx: &mut Tx, caller: &Caller, body: &BulkChange) -> ApiResult<TicketChange> {
    let reason = body.reason.clone();
    Ok(match body.action {
        BulkAction::Assign => {
            let actor = caller.actor();
            let assignee = match &body.assignee {
                Some(Some(text)) => {
                    let person = input::person(tx, &actor, TicketsAssign, "/assignee", Some(text)).await?;
                    Some(Named::of(person))
                }
                Some(None) => Some(Named::Nobody),
                None => None,
            };
            TicketChange::Assign { assignee, team: body.team.map(Named::of), reason }
        }
        BulkAction::Resolve => {
            let resolution = body.resolution.clone();
            let missing = || Problem::invalid("/resolution", "say how they were resolved");
            TicketChange::Resolve { resolution: resolution.ok_or_else(missing)? }
        }
        BulkAction::Close => TicketChange::Close { reason },
        BulkAction::Reopen => TicketChange::Reopen { reason },
        BulkAction::Cancel => TicketChange::Cancel { reason },
        BulkAction::AddTags => TicketChange::AddTags { tags: body.tags.clone() },
        BulkAction::RemoveTags => TicketChange::RemoveTags { tags: body.tags.clone() },
    })
}

/// The incidents that these name, all of them within the caller's sight.
async fn named(tx: &mut Tx, caller: &Caller, keys: &[String]) -> ApiResult<Vec<TicketId>> {
    if !(1..=MOST).contains(&keys.len()) {
        return Err(Problem::invalid("/ids", format!("name 1 to {MOST} incidents")));
    }
    let keys: Vec<String> = keys.iter().map(|key| key.trim().to_owned()).collect();
    let (ids, numbers): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.parse::<Uuid>().is_ok());
    let ids = ids.into_iter().filter_map(|key| key.parse().ok()).collect();
    let numbers = numbers.into_iter().map(|number| number.to_uppercase()).collect();
    let mut known: HashMap<String, TicketId> = HashMap::new();
    for (field, is) in [("id", Is::Id(ids)), ("number", Is::Text(numbers))] {
        let conditions = Condition::new(FIELDS, field, is).into_iter().collect();
        for (id, number) in read(tx, caller, conditions, None).await? {
            known.insert(id.to_string(), id);
            known.insert(number, id);
        }
    }
    let mut tickets = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let id = known.get(&key.to_lowercase()).or_else(|| known.get(&key.to_uppercase()));
        let id = *id.ok_or_else(|| Problem::invalid(format!("/ids/{at}"), "there is no such incident"))?;
        if !tickets.contains(&id) {
            tickets.push(id);
        }
    }
    Ok(tickets)
}

async fn found(tx: &mut Tx, caller: &Caller, filter: &str) -> ApiResult<Vec<TicketId>> {
    if filter.trim().is_empty() {
        return Err(wrong_filter("must not be empty: it would find all"));
    }
    let (asked, q) = Asked::of_text(filter).map_err(|_| wrong_filter("cannot be read"))?.without_q();
    if q.as_deref().is_some_and(|q| q.chars().count() > LONGEST_SEARCH) {
        return Err(wrong_filter(&format!("searches for more than {LONGEST_SEARCH} characters")));
    }
    let conditions =
        asked.conditions(FIELDS, caller.user_id()).map_err(|problem| wrong_filter(problem.detail()))?;
    let tickets = read(tx, caller, conditions, q).await?;
    if tickets.len() > MOST {
        return Err(wrong_filter(&format!("finds more than {MOST} incidents: narrow it down")));
    }
    Ok(tickets.into_iter().map(|(id, _)| id).collect())
}

fn wrong_filter(detail: &str) -> Problem {
    Problem::invalid("/filter", detail)
}

async fn read(
    tx: &mut Tx,
    caller: &Caller,
    conditions: Vec<Condition>,
    q: Option<String>,
) -> ApiResult<Vec<(TicketId, String)>> {
    let filter = TicketFilter { kind: Some(TicketKind::Incident), conditions, q };
    let (reach, order, limit) = (caller.reach(), order(&[("created_at", false)]), MOST as i64 + 1);
    let rows = store::ticket_list::list(tx, &reach, &filter, &order, None, limit).await?;
    Ok(rows.into_iter().map(|row| (row.item.id, row.item.number)).collect())
}
