//! What is held about one person: a copy of all of it, and the end of it.

use crate::{ApiPath, ApiResult, AppState, Caller, Problem};
use actions::privacy::{Forgotten, PersonalData};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::UserId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(export_personal_data)).routes(routes!(anonymise_user))
}

/// Everything that is held about a person, as it stands in the rows.
#[derive(Serialize, ToSchema)]
struct PersonalDataView {
    user: Uuid,
    exported_at: DateTime<Utc>,
    profile: Value,
    teams: Value,
    /// That they requested.
    tickets: Value,
    /// That they wrote.
    comments: Value,
    /// Of their tickets, and those that they added: names and digests. The files are at `incidents/{id}/attachments`.
    attachments: Value,
    /// That were sent to them.
    messages: Value,
    mails: Value,
    logins: Value,
    api_tokens: Value,
    /// Who they are at identity providers.
    #[schema(value_type = Vec<Object>)]
    identities: Value,
    /// Entries of the audit log about them, and of what they did.
    audit: Value,
}

impl From<PersonalData> for PersonalDataView {
    fn from(data: PersonalData) -> Self {
        let held = data.held;
        PersonalDataView {
            user: data.person.0,
            exported_at: data.at,
            profile: held.profile,
            teams: held.teams,
            tickets: held.tickets,
            comments: held.comments,
            attachments: held.attachments,
            messages: held.messages,
            mails: held.mails,
            logins: held.logins,
            api_tokens: held.api_tokens,
            identities: held.identities,
            audit: held.audit,
        }
    }
}

/// What was taken away.
#[derive(Serialize, ToSchema)]
struct ForgottenView {
    /// In which they had a part; all of them stay.
    tickets: usize,
    /// Whose values were erased.
    audit_entries: u64,
}

/// Export all data of one person (GDPR, Art. 15 and 20)
#[utoipa::path(get, path = "/users/{id}/personal-data", tag = "audit", params(("id" = Uuid, Path)),
    responses((status = 200, body = PersonalDataView), (status = 404, body = Problem)))]
async fn export_personal_data(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let data = actions::privacy::export(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    let mut response = Json(PersonalDataView::from(data)).into_response();
    let name = format!("attachment; filename=\"personal-data-{id}.json\"");
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Make a person anonymous, keeping their tickets (GDPR, Art. 17)
///
/// For good: name, address, phone number and logins are gone everywhere, also from raw mails and the values in the audit log.
#[utoipa::path(post, path = "/users/{id}/anonymise", tag = "audit", params(("id" = Uuid, Path)),
    responses((status = 200, body = ForgottenView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn anonymise_user(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<UserId>,
) -> ApiResult<Json<ForgottenView>> {
    let mut tx = caller.begin(&state).await?;
    let Forgotten { tickets, audit_entries } =
        actions::privacy::anonymise(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(Json(ForgottenView { tickets, audit_entries }))
}
