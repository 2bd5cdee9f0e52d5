//! Files of an incident: upload, list, download.

use super::named;
use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem, scanning};
use actions::tickets::{self, StoredAttachment};
use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{self, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::ticket::file_type;
use domain::{AttachmentId, CommentId, OrganizationId};
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::task::Poll;
use store::Tx;
use store::attachments::Attachment;
use store::blobs::Stored;
use store::file_scans::FileScan;
use store::listing::{Field, Key, Kind, List, field};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// What a form may have around its file: boundaries, part headers, the comment's id.
const FORM_SLACK: usize = 64 * 1024;
/// How long the `comment` part may be, bytes.
const LONGEST_ID: usize = 64;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        // `upload` sets its own.
        .layer(DefaultBodyLimit::disable())
        .routes(routes!(download))
}

#[derive(Serialize, ToSchema)]
struct AttachmentView {
    id: Uuid,
    /// The comment it came with; null: with the incident itself.
    comment: Option<Uuid>,
    file_name: String,
    media_type: String,
    size_bytes: i64,
    sha256: String,
    created_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    /// What the operator's scanner said of it since it is here; null: it was not asked yet.
    scan: Option<ScanView>,
    /// Where to download it.
    url: String,
}

#[derive(Serialize, ToSchema)]
struct ScanView {
    /// `clean` or `infected`: then it is not handed out.
    #[schema(example = "clean")]
    result: &'static str,
    /// What was found in it.
    found: Option<String>,
    scanned_at: DateTime<Utc>,
}

impl From<FileScan> for ScanView {
    fn from(scan: FileScan) -> Self {
        let result = if scan.found.is_some() { "infected" } else { "clean" };
        ScanView { result, found: scan.found, scanned_at: scan.scanned_at }
    }
}

impl From<Attachment> for AttachmentView {
    fn from(attachment: Attachment) -> Self {
        AttachmentView {
            scan: None,
            url: format!("/api/v1/incidents/{}/attachments/{}", attachment.ticket, attachment.id),
            id: attachment.id.0,
            comment: attachment.comment.map(|id| id.0),
            file_name: attachment.file_name,
            media_type: attachment.media_type,
            size_bytes: attachment.size_bytes,
            sha256: attachment.sha256,
            created_by: attachment.created_by.map(|id| id.0),
            created_at: attachment.created_at,
        }
    }
}

/// With what is known of their bytes.
async fn with_scans(tx: &mut Tx, files: Vec<Attachment>) -> ApiResult<Vec<AttachmentView>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut hashes: Vec<String> = files.iter().map(|file| file.sha256.clone()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let scans = store::file_scans::of(tx, &hashes).await?;
    let scans: HashMap<_, _> = scans.into_iter().map(|scan| (scan.sha256.clone(), scan)).collect();
    let view = |file: Attachment| {
        // An earlier one was of another file with the same bytes, which not everybody may know of.
        let scan = scans.get(&file.sha256).filter(|scan| scan.scanned_at >= file.created_at);
        let scan = scan.cloned().map(Into::into);
        AttachmentView { scan, ..file.into() }
    };
    Ok(files.into_iter().map(view).collect())
}

const FIELDS: &[Field] = &[
    field("id", Kind::Id, "id"),
    field("comment", Kind::Id, "comment").or_null(),
    field("file_name", Kind::LowerText, "file_name").by("file_name", "text"),
    field("media_type", Kind::Text, "media_type"),
    field("size_bytes", Kind::Number, "size_bytes").by("size_bytes", "bigint"),
    field("sha256", Kind::Text, "sha256"),
    field("created_by", Kind::Id, "created_by").or_null(),
    field("created_at", Kind::Time, "created_at").by("created_at", "timestamptz"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "created_at", id: Key::uuid("id") };

filters!(AttachmentFilters, FIELDS);

/// List the files of an incident
///
/// End users do not get those of internal comments. Sorts by created_at, file_name or size_bytes; the oldest first, if nothing is named.
#[utoipa::path(get, path = "/incidents/{id}/attachments", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ListQuery, Shaping, AttachmentFilters),
    responses((status = 200, body = Page<AttachmentView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<AttachmentView>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let internal = tickets::sees_internal(&mut tx, &caller.actor(), &ticket).await?;
    let files = store::attachments::list(&mut tx, ticket.id, internal).await?;
    let files = with_scans(&mut tx, files).await?;
    Ok(Json(picked.page(files)?))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; it is read piece by piece")]
struct UploadForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// A comment of this incident that the file belongs to.
    comment: Option<Uuid>,
}

/// Attach a file to an incident
///
/// A form with the part `file` and, if it belongs to a comment, `comment`; other parts are refused. So is a file whose first bytes are not what
/// the ending of its name promises, and a program that is not called one. `media_type` is what the bytes say, else what the form says.
#[utoipa::path(post, path = "/incidents/{id}/attachments", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body(content = UploadForm, content_type = "multipart/form-data"), responses((status = 201, body = AttachmentView)))]
async fn upload(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    mut request: Request,
) -> ApiResult<(StatusCode, Json<AttachmentView>)> {
    request = request.map(in_turns);
    DefaultBodyLimit::max(state.settings.upload_limit.saturating_add(FORM_SLACK)).apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let form = form.map_err(|_| Problem::unsupported_media_type("multipart/form-data"))?;
    // Asked before the bytes are taken; the connection is given back while they come.
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    drop(tx);
    let (file, comment) = receive(&state, caller.organization(), form).await?;
    let mut tx = caller.begin(&state).await?;
    let attachment = tickets::attach_stored(&mut tx, &caller.actor(), ticket.id, comment, file).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(attachment.into())))
}

async fn receive(
    state: &AppState,
    organization: OrganizationId,
    mut form: Multipart,
) -> ApiResult<(StoredAttachment, Option<CommentId>)> {
    let (mut file, mut comment) = (None, None);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "file" if file.is_some() => return Err(Problem::invalid("/file", "send one file a request")),
            "file" => file = Some(keep(state, organization, field).await?),
            "comment" if comment.is_some() => {
                return Err(Problem::invalid("/comment", "name one comment a request"));
            }
            "comment" => comment = Some(read_id(field).await?),
            other => {
                let pointer = format!("/{}", other.chars().take(100).collect::<String>());
                return Err(Problem::invalid(pointer, "is not a field here (known are file, comment)"));
            }
        }
    }
    Ok((file.ok_or_else(|| Problem::invalid("/file", "is required"))?, comment))
}

/// The reader of forms takes into memory whatever is there without waiting: with a pause after each chunk that is one chunk.
/// (It also takes a stream for broken whose first bytes arrive together with its end; the pause comes between them.)
fn in_turns(body: Body) -> Body {
    let (mut chunks, mut pause) = (body.into_data_stream(), false);
    Body::from_stream(futures::stream::poll_fn(move |context| {
        if std::mem::take(&mut pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = chunks.poll_next_unpin(context);
        pause = matches!(chunk, Poll::Ready(Some(_)));
        chunk
    }))
}

/// An id has 36 characters; nobody needs the room for a long text to be told that it is none.
async fn read_id(mut field: multipart::Field<'_>) -> ApiResult<CommentId> {
    let wrong = || Problem::invalid("/comment", "is not an id");
    let mut text = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        if text.len() + bytes.len() > LONGEST_ID {
            return Err(wrong());
        }
        text.extend_from_slice(&bytes);
    }
    let text = String::from_utf8(text).map_err(|_| wrong())?;
    text.trim().parse().map_err(|_| wrong())
}

/// Streams one file to disk.
async fn keep(
    state: &AppState,
    organization: OrganizationId,
    mut field: multipart::Field<'_>,
) -> ApiResult<StoredAttachment> {
    let file_name = field.file_name().unwrap_or_default().to_owned();
    let media_type = field.content_type().unwrap_or_default().to_owned();
    let mut writer = state.blobs.writer(organization).await?;
    let mut first = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        let room = file_type::FIRST.saturating_sub(first.len()).min(bytes.len());
        first.extend_from_slice(&bytes[..room]);
        writer.write(&bytes).await?;
        if writer.size_bytes() > state.settings.upload_limit as i64 {
            let detail = format!("a file may have at most {} bytes", state.settings.upload_limit);
            return Err(Problem::payload_too_large(detail));
        }
    }
    let media_type = file_type::judged(&first, &file_name, &media_type)
        .map_err(|mismatch| Problem::invalid("/file", mismatch.to_string()))?;
    let stored: Stored = writer.finish().await?;
    Ok(StoredAttachment { file_name, media_type, content_id: None, stored })
}

fn broken(error: MultipartError) -> Problem {
    Problem::of_status(error.status(), &error.body_text())
}

/// Download a file
///
/// Always as a file to save, never to be shown in the browser's own page. Where the operator has a scanner, only when that found nothing in it: otherwise
/// 403 (`infected-file`), or 503 when it cannot be asked.
#[utoipa::path(get, path = "/incidents/{id}/attachments/{attachment}", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ("attachment" = Uuid, Path)),
    responses((status = 200, content_type = "*/*", description = "as it was found to be, or as it was sent"), (status = 304, description = "as in If-None-Match")))]
async fn download(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((key, id)): ApiPath<(String, AttachmentId)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = named(&mut tx, &caller, &key).await?;
    let internal = tickets::sees_internal(&mut tx, &caller.actor(), &ticket).await?;
    let file = store::attachments::get(&mut tx, ticket.id, id, internal).await?;
    drop(tx);
    // Before it is said that a copy is still good, too.
    let blob = scanning::attachment(&state, &caller, &file).await?;
    let tag = format!("\"{}\"", file.sha256);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // Programs may keep it with its tag; browsers leave nothing on a disk.
    let cached = [(header::ETAG, value(&tag)), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    if known.is_some_and(|known| known.split(',').any(|part| part.trim().trim_start_matches("W/") == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let what = [
        (header::CONTENT_TYPE, value(&file.media_type)),
        (header::CONTENT_LENGTH, file.size_bytes.into()),
        (header::CONTENT_DISPOSITION, value(&disposition(&file.file_name))),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((cached, what, Body::from_stream(ReaderStream::with_capacity(blob, 64 * 1024))).into_response())
}

/// Values made of ASCII words.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// RFC 6266 with the name in both forms: plain for old clients, RFC 8187 for all letters.
fn disposition(file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in file_name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_the_header() {
        assert_eq!(
            disposition("Übersicht \"1\".pdf"),
            "attachment; filename=\"_bersicht _1_.pdf\"; filename*=UTF-8''%C3%9Cbersicht%20%221%22.pdf"
        );
        assert!(HeaderValue::from_str(&disposition("a\r\nX: y")).is_ok());
    }
}
