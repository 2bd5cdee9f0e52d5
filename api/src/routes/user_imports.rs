//! `users/import` and `user-imports`: many people at once, from a table.

use crate::filters::{Asked, filters};
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::people_sheet::{LARGEST_TABLE, RowError};
use domain::{Permission, UserImportId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::user_imports::{FIELDS, Import, LIST};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(import_users))
        .layer(DefaultBodyLimit::max(LARGEST_TABLE))
        .routes(routes!(list_imports))
        .routes(routes!(show_import))
}

/// What is wrong with a line, or with one cell of it.
#[derive(Serialize, ToSchema)]
struct RowErrorView {
    /// As an editor counts them: the names of the columns stand in line 1.
    line: u64,
    #[schema(example = "time_zone")]
    column: Option<String>,
    detail: String,
}

impl From<RowError> for RowErrorView {
    fn from(error: RowError) -> Self {
        RowErrorView { line: error.line, column: error.column, detail: error.detail }
    }
}

/// A table of people that was handed in, and what became of it.
#[derive(Serialize, ToSchema)]
struct ImportView {
    id: Uuid,
    /// queued, done (all lines are in), checked (a dry run: all would go in), refused (lines are wrong, and nothing is in) or failed.
    #[schema(example = "done")]
    status: &'static str,
    dry_run: bool,
    create_missing: bool,
    requested_by: Option<Uuid>,
    rows: i32,
    /// How many were made, changed, or were so already; of a dry run, how many would be.
    created: i32,
    changed: i32,
    unchanged: i32,
    error_count: i32,
    /// The first thousand.
    errors: Vec<RowErrorView>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<Import> for ImportView {
    fn from(import: Import) -> Self {
        ImportView {
            id: import.id.0,
            status: import.status.as_str(),
            dry_run: import.is_dry_run,
            create_missing: import.creates_missing,
            requested_by: import.requested_by.map(|user| user.0),
            rows: import.counts.rows,
            created: import.counts.created,
            changed: import.counts.changed,
            unchanged: import.counts.unchanged,
            error_count: import.error_count,
            errors: import.errors.into_iter().map(Into::into).collect(),
            created_at: import.created_at,
            finished_at: import.finished_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Options {
    /// Change nothing, and say what would be.
    dry_run: Option<bool>,
    /// Make departments and teams that are not there.
    create_missing: Option<bool>,
}

/// The work has begun.
#[derive(Serialize, ToSchema)]
struct ImportStarted {
    /// Follow it at `user-imports/{id}`.
    import: Uuid,
    job: Uuid,
}

/// Make and change many people by a table
///
/// CSV in UTF-8, with commas, semicolons or tabs. The first line names the columns: `email` (required), `name`, `role`, `external_id`, `department`,
/// `teams` (with `|` between them), `manager` (an address), `phone`, `time_zone`, `locale`. Known people, by `external_id` or address, are changed; a cell that is empty leaves what is.
/// All lines go in or none; each does what the caller could do by hand.
#[utoipa::path(post, path = "/users/import", tag = "people", params(Options),
    request_body(content = String, content_type = "text/csv", example = "email,name,teams\nada@example.org,Ada,Network\n"),
    responses((status = 202, body = ImportStarted), (status = 403, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 422, body = Problem)))]
async fn import_users(
    State(state): State<AppState>,
    caller: Caller,
    Filters(options): Filters<Options>,
    request: Request,
) -> ApiResult<Response> {
    caller.require(Permission::PeopleManage)?;
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/csv") {
        return Err(Problem::unsupported_media_type("text/csv"));
    }
    let csv = crate::body::read(request, &state).await?;
    let (dry_run, create_missing) =
        (options.dry_run.unwrap_or(false), options.create_missing.unwrap_or(false));
    let mut tx = caller.begin(&state).await?;
    let (import, job) =
        actions::imports::request(&mut tx, &caller.actor(), &csv, dry_run, create_missing).await?;
    tx.commit().await?;
    let location = HeaderValue::from_str(&format!("/api/v1/user-imports/{}", import.id))
        .expect("paths made of ids are a header value");
    let started = ImportStarted { import: import.id.0, job: job.0 };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(started)).into_response())
}

filters!(ImportFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 1] = [("requested_by", Noun::Person)];

/// List the tables that were handed in
///
/// Sorts by created_at; the newest first, if nothing is named. Can expand requested_by.
#[utoipa::path(get, path = "/user-imports", tag = "people", params(ListQuery, Shaping, ImportFilters),
    responses((status = 200, body = Page<ImportView>)))]
async fn list_imports(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::PeopleManage)?;
    shape.check_with::<ImportView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::user_imports::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, ImportView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

/// Show what became of a table
#[utoipa::path(get, path = "/user-imports/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = ImportView), (status = 404, body = Problem)))]
async fn show_import(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserImportId>,
) -> ApiResult<Json<ImportView>> {
    caller.require(Permission::PeopleManage)?;
    let mut tx = caller.begin(&state).await?;
    Ok(Json(store::user_imports::get(&mut tx, id).await?.into()))
}
