//! Every route on one page.

use crate::{
    AppState, Problem, answers, deprecated, envelope, health, idempotency, metrics, openapi, parameters,
    rates, refusals, routes, scim_errors,
};
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Router, routing};
use store::Db;
use tower::ServiceBuilder;
use tower::util::option_layer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// What lies under `/api/v1`. One line a noun.
fn nouns() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(routes::alert_sources::router())
        .merge(routes::alerts::router())
        .merge(routes::inbox::router())
        .merge(routes::mailboxes::router())
        .merge(routes::ci_categories::router())
        .merge(routes::ci_relationships::router())
        .merge(routes::configuration_items::router())
        .merge(routes::discovery_sources::router())
        .merge(routes::incidents::router())
        .merge(routes::api_tokens::router())
        .merge(routes::audit_logs::router())
        .merge(routes::audit_policy::router())
        .merge(routes::auth::router())
        .merge(routes::mfa::router())
        .merge(routes::oidc::router())
        .merge(routes::identity_providers::router())
        .merge(routes::user_identities::router())
        .merge(routes::passwords::router())
        .merge(routes::service_accounts::router())
        .merge(routes::sessions::router())
        .merge(routes::contact_ways::router())
        .merge(routes::departments::router())
        .merge(routes::event_socket::router())
        .merge(routes::events::router())
        .merge(routes::jobs::router())
        .merge(routes::lanes::router())
        .merge(routes::limits::router())
        .merge(routes::organizations::router())
        .merge(routes::notification_channels::router())
        .merge(routes::notification_rules::router())
        .merge(routes::notifications::router())
        .merge(routes::permissions::router())
        .merge(routes::privacy::router())
        .merge(routes::report_executions::router())
        .merge(routes::report_schedules::router())
        .merge(routes::reports::router())
        .merge(routes::teams::router())
        .merge(routes::tenants::router())
        .merge(routes::user_roles::router())
        .merge(routes::user_imports::router())
        .merge(routes::users::router())
        .merge(routes::webhook_deliveries::router())
        .merge(routes::webhooks::router())
        .merge(routes::business_calendars::router())
        .merge(routes::escalation_chains::router())
        .merge(routes::sla_breaches::router())
        .merge(routes::sla_policies::router())
        .merge(routes::priority_matrix::router())
}

/// Without a login, by a secret in the path: where other systems knock (`/hooks/…`), and where links in mails lead
/// (`/downloads/…`).
fn by_secret() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(routes::alert_hooks::router())
        .merge(routes::mail_hook::router())
        .merge(routes::report_downloads::router())
}

fn documented() -> (Router<AppState>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(openapi::Document::openapi())
        .nest("/api/v1", nouns())
        .nest("/scim/v2", routes::scim::router())
        .merge(by_secret())
        .split_for_parts();
    openapi::complete(&mut document);
    (router, document)
}

/// The description of the whole interface.
pub fn description() -> OpenApi {
    documented().1
}

/// `/metrics` and nothing else, for a listener of its own.
pub fn metrics_alone(db: Db) -> Router {
    Router::new().route("/metrics", routing::get(async move || metrics::gathered(&db)))
}

/// The API alone.
pub fn app(state: AppState) -> Router {
    app_with(state, Router::new())
}

/// The API together with other pages (the console), which get the same trace, metrics and headers.
pub fn app_with(state: AppState, pages: Router) -> Router {
    let (api, document) = documented();
    let deprecations =
        deprecated::Deprecations::of(&document).expect("a test holds the document to the rule");
    let inner = api
        .layer(from_fn_with_state(state.clone(), idempotency::layer))
        .layer(from_fn_with_state(parameters::Known::of(&document), parameters::layer))
        .layer(from_fn_with_state(deprecations, deprecated::layer))
        .merge(openapi::router(&document))
        .route("/livez", routing::get(health::live))
        .route("/readyz", routing::get(health::ready))
        .route("/metrics", routing::get(metrics::show))
        .layer(DefaultBodyLimit::max(state.settings.body_limit))
        .with_state(state.clone())
        .merge(pages)
        .fallback(async || Problem::not_found())
        .layer(from_fn_with_state(state.clone(), refusals::layer))
        .layer(from_fn_with_state(state.clone(), rates::layer))
        .layer(from_fn_with_state(state.clone(), envelope::bound))
        .layer(option_layer(answers::origins(&state.settings)))
        .layer(from_fn_with_state(state, envelope::wrap))
        .layer(from_fn(scim_errors::layer))
        .layer(answers::compression());
    // The path is trimmed before the router sees it, so the router stands behind the fallback of an empty one.
    let trimmed = ServiceBuilder::new().map_request(envelope::without_trailing_slash).service(inner);
    Router::new().fallback_service(trimmed)
}
