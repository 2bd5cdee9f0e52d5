//! What this server can do (RFC 7643, 5 to 7).

use super::{Window, list, spoken};
use crate::{ApiResult, AppState, Caller};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::Permission;
use domain::scim::{GROUP, USER};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show_configuration))
        .routes(routes!(list_resource_types))
        .routes(routes!(list_schemas))
}

/// What this server can do
#[utoipa::path(get, path = "/ServiceProviderConfig", tag = "scim",
    responses((status = 200, body = Value, content_type = "application/scim+json")))]
async fn show_configuration(State(state): State<AppState>, caller: Caller) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let base = &state.settings.base_url;
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": super::MOST},
        "changePassword": {"supported": false},
        "sort": {"supported": false},
        "etag": {"supported": true},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "API token",
            "description": "An API token of a service account, with the scope scim.provision",
            "primary": true,
        }],
        "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base}/scim/v2/ServiceProviderConfig")},
    });
    Ok(spoken(StatusCode::OK, &body))
}

fn all(resources: Vec<Value>) -> Response {
    let total = resources.len() as i64;
    list(resources, total, Window { offset: 0, limit: total })
}

/// The kinds of resources
#[utoipa::path(get, path = "/ResourceTypes", tag = "scim",
    responses((status = 200, body = Value, content_type = "application/scim+json")))]
async fn list_resource_types(caller: Caller) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let kind = |name: &str, schema: &str| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name, "name": name, "endpoint": format!("/{name}s"), "schema": schema,
        })
    };
    Ok(all(vec![kind("User", USER), kind("Group", GROUP)]))
}

/// The attributes of resources
#[utoipa::path(get, path = "/Schemas", tag = "scim",
    responses((status = 200, body = Value, content_type = "application/scim+json")))]
async fn list_schemas(caller: Caller) -> ApiResult<Response> {
    caller.require(Permission::ScimProvision)?;
    let text = |name: &str, mutability: &str| attribute(name, "string", false, mutability);
    let pair = |name: &str, mutability: &str| {
        let mut pair = attribute(name, "complex", true, mutability);
        let primary = attribute("primary", "boolean", false, mutability);
        pair["subAttributes"] = json!([text("value", mutability), text("type", mutability), primary]);
        pair
    };
    let reference = |name: &str, mutability: &str| {
        let mut reference = attribute(name, "complex", true, mutability);
        let to = attribute("$ref", "reference", false, "readOnly");
        reference["subAttributes"] = json!([text("value", "immutable"), text("display", "readOnly"), to]);
        reference
    };
    let mut user_name = text("userName", "immutable");
    user_name["required"] = json!(true);
    user_name["uniqueness"] = json!("server");
    let mut display_name = text("displayName", "readWrite");
    display_name["required"] = json!(true);
    display_name["uniqueness"] = json!("server");
    let mut name = attribute("name", "complex", false, "readWrite");
    name["subAttributes"] = json!([
        text("formatted", "readWrite"),
        text("givenName", "writeOnly"),
        text("familyName", "writeOnly")
    ]);
    let user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": USER, "name": "User", "description": "A person",
        "attributes": [
            user_name, name, text("displayName", "readWrite"), attribute("active", "boolean", false, "readWrite"),
            pair("emails", "readOnly"), pair("phoneNumbers", "readWrite"), text("locale", "readWrite"),
            text("timezone", "readWrite"), pair("roles", "readWrite"), reference("groups", "readOnly"),
        ],
    });
    let group = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": GROUP, "name": "Group", "description": "A team",
        "attributes": [display_name, reference("members", "readWrite")],
    });
    Ok(all(vec![user, group]))
}

fn attribute(name: &str, kind: &str, multi_valued: bool, mutability: &str) -> Value {
    let returned = if mutability == "writeOnly" { "never" } else { "default" };
    json!({
        "name": name, "type": kind, "multiValued": multi_valued, "required": false, "caseExact": false,
        "mutability": mutability, "returned": returned, "uniqueness": "none",
    })
}
