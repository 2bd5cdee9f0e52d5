//! SCIM as Entra ID and Okta speak it. The bodies follow the providers' documents.

use crate::support::{Answer, Api, request};
use axum::http::Method;
use serde_json::{Value, json};

pub const USERS: &str = "/scim/v2/Users";
pub const GROUPS: &str = "/scim/v2/Groups";
const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// A token of a service account with a role, that is for SCIM alone.
pub async fn token(api: &Api, role: &str) -> String {
    let body = json!({"name": "Entra", "role": role, "owner": api.organization.admin.user_id()});
    let account = api.post("/api/v1/service-accounts", &api.admin, body).await.expect(201).json;
    let path = format!("/api/v1/service-accounts/{}/tokens", account["id"].as_str().unwrap());
    let body = json!({"name": "SCIM", "scopes": ["scim.provision"]});
    let made = api.post(&path, &api.admin, body).await.expect(201).json;
    made["token"].as_str().unwrap().to_owned()
}

pub struct Scim<'a> {
    pub api: &'a Api,
    pub token: String,
}

impl<'a> Scim<'a> {
    pub async fn start(api: &'a Api) -> Scim<'a> {
        Scim { api, token: token(api, "admin").await }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = request(method, path, &self.token, body);
        request.headers_mut().insert("content-type", "application/scim+json; charset=utf-8".parse().unwrap());
        let answer = self.api.send(request).await;
        if !answer.text.is_empty() {
            assert_eq!(answer.header("content-type"), "application/scim+json", "{}", answer.text);
        }
        if answer.status.is_client_error() {
            assert_eq!(answer.json["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
            assert_eq!(answer.json["status"], answer.status.as_u16().to_string());
            assert!(
                answer.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
                "{}",
                answer.text
            );
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await.expect(200).json
    }

    pub async fn make(&self, path: &str, body: Value) -> Value {
        let made = self.call(Method::POST, path, Some(body)).await.expect(201);
        assert_eq!(made.header("location"), made.json["meta"]["location"]);
        assert_eq!(made.header("etag"), made.json["meta"]["version"]);
        made.json
    }

    pub async fn person(&self, name: &str) -> Value {
        let body = json!({"schemas": [USER], "userName": format!("{name}@acme.example"), "displayName": name,
                          "roles": [{"value": "agent"}]});
        self.make(USERS, body).await
    }

    pub async fn patch(&self, path: &str, operations: Value) -> Answer {
        let body = json!({"schemas": [PATCH_OP], "Operations": operations});
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn refuses(&self, method: Method, path: &str, body: Value, status: u16, word: &str) {
        let answer = self.call(method, path, Some(body.clone())).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["scimType"]),
            (status, &json!(word)),
            "{body}: {}",
            answer.text
        );
    }
}

pub fn one(noun: &str, of: &Value) -> String {
    format!("{noun}/{}", of["id"].as_str().unwrap())
}

pub fn found(filter: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    encoded.replace('+', "%20")
}

#[tokio::test]
async fn entra_makes_changes_and_ends_a_person() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let nobody = scim.get(&format!("{USERS}?filter={}", found("userName eq \"7b0c9f0e-none\""))).await;
    assert_eq!((&nobody["totalResults"], &nobody["Resources"]), (&json!(0), &json!([])));
    let body = json!({
        "schemas": [USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": "Test_User@acme.example",
        "active": true,
        "displayName": "Test User",
        "emails": [{"primary": true, "type": "work", "value": "Test_User@acme.example"}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Test User", "familyName": "User", "givenName": "Test"},
        "phoneNumbers": [{"primary": true, "type": "work", "value": "+44 20 7946 0000"}, {"type": "mobile", "value": "1"}],
        "roles": [],
        "title": "Countess",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "IT"},
    });
    let made = scim.make(USERS, body.clone()).await;
    assert_eq!((&made["userName"], &made["active"]), (&json!("test_user@acme.example"), &json!(true)));
    assert_eq!((&made["externalId"], &made["roles"][0]["value"]), (&body["externalId"], &json!("end_user")));
    assert_eq!(made["phoneNumbers"][0]["value"], "+44 20 7946 0000");
    scim.refuses(Method::POST, USERS, body.clone(), 409, "uniqueness").await;
    let again = json!({"userName": "other@acme.example", "externalId": body["externalId"]});
    scim.refuses(Method::POST, USERS, again, 409, "uniqueness").await;
    for filter in [
        "userName eq \"TEST_USER@acme.example\"",
        "externalId eq \"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef\"",
        "emails[type eq \"work\"].value eq \"test_user@acme.example\"",
        "userName eq \"test_user@acme.example\" and active eq true",
    ] {
        let list = scim.get(&format!("{USERS}?filter={}", found(filter))).await;
        assert_eq!((&list["totalResults"], &list["Resources"][0]), (&json!(1), &made), "{filter}");
    }

    let path = one(USERS, &made);
    let changed = scim
        .patch(
            &path,
            json!([
                {"op": "Replace", "path": "displayName", "value": "Ada Lovelace"},
                {"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "agent"},
                {"op": "Replace", "path": "phoneNumbers[type eq \"work\"].value", "value": "+44 20 7946 0001"},
                {"op": "Replace", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "value": "X"},
            ]),
        )
        .await
        .expect(200);
    assert_eq!(
        (&changed.json["displayName"], &changed.json["roles"][0]["value"]),
        (&json!("Ada Lovelace"), &json!("agent"))
    );
    assert_eq!(changed.json["phoneNumbers"][0]["value"], "+44 20 7946 0001");

    let theirs = api.token_of(&made["id"]).await;
    api.get("/api/v1/users/me", &theirs).await.expect(200);
    let off = json!([{"op": "Replace", "path": "active", "value": "False"}]);
    let off = scim.patch(&path, off).await.expect(200);
    assert_eq!(off.json["active"], false);
    api.get("/api/v1/users/me", &theirs).await.expect(401);
    let tag = off.header("etag").to_owned();
    let same = scim.patch(&path, json!([{"op": "replace", "value": {"active": false}}])).await.expect(200);
    assert_eq!(same.header("etag"), tag, "what is so already changes nothing");
    scim.patch(&path, json!([{"op": "Replace", "path": "active", "value": "True"}])).await.expect(200);
    api.get("/api/v1/users/me", &theirs).await.expect(401);

    scim.call(Method::DELETE, &path, None).await.expect(204);
    scim.call(Method::GET, &path, None).await.expect(404);
    scim.call(Method::DELETE, &path, None).await.expect(404);
    let shown = api.get(&format!("/api/v1{}", path.replace("/scim/v2/Users", "/users")), &api.admin).await;
    assert!(shown.expect(200).json["deleted_at"].is_string(), "the row stays");
    scim.make(USERS, body).await;
}

#[tokio::test]
async fn okta_writes_people_anew() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let page = scim.get(&format!("{USERS}?startIndex=1&count=2")).await;
    assert_eq!((&page["startIndex"], &page["itemsPerPage"]), (&json!(1), &json!(2)));
    let all = page["totalResults"].as_i64().unwrap();
    let rest = scim.get(&format!("{USERS}?startIndex=3&count=500")).await;
    assert_eq!(rest["itemsPerPage"].as_i64().unwrap(), all - 2);
    for beyond in ["startIndex=1000", "count=0", "count=-3", "startIndex=-5&count=0"] {
        let page = scim.get(&format!("{USERS}?{beyond}")).await;
        assert_eq!((&page["totalResults"], &page["Resources"]), (&json!(all), &json!([])), "{beyond}");
    }

    let body = json!({
        "schemas": [USER],
        "userName": "isaac@acme.example",
        "name": {"givenName": "Isaac", "familyName": "Brock"},
        "emails": [{"primary": true, "value": "isaac@acme.example", "type": "work"}],
        "displayName": "Isaac Brock",
        "locale": "en-US",
        "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [],
        "password": "1mz050nq-is-not-taken",
        "active": true,
    });
    let made = scim.make(USERS, body.clone()).await;
    assert_eq!((&made["displayName"], &made["locale"]), (&json!("Isaac Brock"), &json!("en-US")));
    let login = json!({"email": "isaac@acme.example", "password": "1mz050nq-is-not-taken"});
    api.post("/api/v1/auth/login", "", login).await.expect(401);

    let path = one(USERS, &made);
    let mut anew = made.clone();
    anew["displayName"] = json!("Isaac B.");
    anew["active"] = json!(false);
    let put = scim.call(Method::PUT, &path, Some(anew.clone())).await.expect(200);
    assert_eq!((&put.json["displayName"], &put.json["active"]), (&json!("Isaac B."), &json!(false)));
    assert_eq!(put.json["externalId"], body["externalId"]);

    let stale = async |method: Method| {
        let mut request = request(method, &path, &scim.token, Some(anew.clone()));
        request.headers_mut().insert("if-match", "W/\"1\"".parse().unwrap());
        api.send(request).await.expect(412)
    };
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(stale(method).await.json["status"], "412");
    }
    let mut same = request(Method::GET, &path, &scim.token, None);
    same.headers_mut().insert("if-none-match", put.header("etag").parse().unwrap());
    api.send(same).await.expect(304);
    let names = scim.get(&format!("{path}?attributes=userName,{USER}:active")).await;
    assert_eq!(names.as_object().unwrap().len(), 4, "{names}");
}

#[tokio::test]
async fn groups_are_teams() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let (ada, bob) = (scim.person("ada").await, scim.person("bob").await);
    let body = json!({"schemas": [GROUP], "displayName": "Network", "externalId": "8aa1a0c0", "members": [{"value": ada["id"], "display": "Ada"}]});
    let made = scim.make(GROUPS, body.clone()).await;
    assert_eq!(made["members"][0]["value"], ada["id"]);
    scim.refuses(Method::POST, GROUPS, body, 409, "uniqueness").await;
    let path = one(GROUPS, &made);
    let members = async || {
        let group = scim.get(&path).await;
        let ids = group["members"].as_array().unwrap().iter().map(|one| one["value"].clone());
        ids.collect::<Vec<Value>>()
    };
    let id = |of: &Value| of["id"].as_str().unwrap().to_owned();

    let before = scim.call(Method::GET, &path, None).await;
    let add = json!([{"op": "Add", "path": "members", "value": [{"value": bob["id"]}]}]);
    let added = scim.patch(&path, add.clone()).await.expect(200);
    assert_eq!(members().await, [ada["id"].clone(), bob["id"].clone()]);
    assert_ne!(before.header("etag"), added.header("etag"), "who is in it is part of the version");
    scim.patch(&path, add).await.expect(200);
    let asked = format!("id eq \"{}\" and members eq \"{}\"", id(&made), id(&bob));
    assert_eq!(scim.get(&format!("{GROUPS}?filter={}", found(&asked))).await["totalResults"], 1);
    let groups = &scim.get(&one(USERS, &bob)).await["groups"];
    assert_eq!((&groups[0]["value"], &groups[0]["display"]), (&made["id"], &json!("Network")));

    let gone = json!([{"op": "remove", "path": format!("members[value eq \"{}\"]", id(&ada))}]);
    scim.patch(&path, gone).await.expect(200);
    assert_eq!(members().await, [bob["id"].clone()]);
    let gone = json!([{"op": "Remove", "path": "members", "value": [{"value": bob["id"]}]}]);
    scim.patch(&path, gone).await.expect(200);
    assert_eq!(members().await, Vec::<Value>::new());
    let put = json!({"schemas": [GROUP], "id": made["id"], "displayName": "Network", "members": [{"value": ada["id"]}, {"value": bob["id"]}]});
    scim.call(Method::PUT, &path, Some(put)).await.expect(200);
    assert_eq!(members().await.len(), 2);
    let rename = json!([{"op": "replace", "value": {"id": made["id"], "displayName": "Networks"}}]);
    let renamed = scim.patch(&path, rename).await.expect(200);
    assert_eq!(
        (&renamed.json["displayName"], renamed.json["members"].as_array().unwrap().len()),
        (&json!("Networks"), 2)
    );

    let list = scim
        .get(&format!("{GROUPS}?excludedAttributes=members&filter={}", found("displayName eq \"networks\"")))
        .await;
    assert_eq!((&list["totalResults"], list["Resources"][0].get("members")), (&json!(1), None));
    // The same team that the rest of the world sees.
    let team = format!("/api/v1/teams/{}", id(&made));
    assert_eq!(api.get(&team, &api.admin).await.expect(200).json["name"], "Networks");
    // Nobody is half in: one who cannot be a member, and the others stay out too.
    let guest = json!({"userName": "guest@acme.example"});
    let guest = scim.make(USERS, guest).await;
    let body = json!({"displayName": "Night", "members": [{"value": ada["id"]}, {"value": guest["id"]}]});
    scim.refuses(Method::POST, GROUPS, body, 400, "invalidValue").await;
    assert_eq!(
        scim.get(&format!("{GROUPS}?filter={}", found("displayName eq \"Night\""))).await["totalResults"],
        0
    );

    let incident = json!({"title": "no network", "team": made["id"]});
    api.post("/api/v1/incidents", &api.admin, incident).await.expect(201);
    scim.call(Method::DELETE, &path, None).await.expect(409);
    let other = scim.make(GROUPS, json!({"displayName": "Other"})).await;
    scim.call(Method::DELETE, &one(GROUPS, &other), None).await.expect(204);
    scim.call(Method::GET, &one(GROUPS, &other), None).await.expect(404);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_its_words() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let ada = scim.person("ada").await;
    let (path, patched) = (one(USERS, &ada), |operation: Value| json!({"Operations": [operation]}));
    for (method, path, body, status, word) in [
        (Method::POST, USERS, json!({}), 400, "invalidValue"),
        (Method::POST, USERS, json!([]), 400, "invalidSyntax"),
        (Method::POST, USERS, json!({"userName": "no address"}), 400, "invalidValue"),
        (Method::POST, USERS, json!({"userName": "a\u{0}@b.c"}), 400, "invalidValue"),
        (
            Method::POST,
            USERS,
            json!({"userName": "a@acme.example", "active": "perhaps"}),
            400,
            "invalidValue",
        ),
        (
            Method::POST,
            USERS,
            json!({"userName": "a@acme.example", "externalId": "x".repeat(201)}),
            400,
            "invalidValue",
        ),
        (Method::POST, GROUPS, json!({"members": []}), 400, "invalidValue"),
        (
            Method::POST,
            GROUPS,
            json!({"displayName": "A", "members": [{"value": "nobody"}]}),
            400,
            "invalidValue",
        ),
        (
            Method::POST,
            GROUPS,
            json!({"displayName": "A", "members": [{"value": uuid::Uuid::now_v7()}]}),
            400,
            "invalidValue",
        ),
        (Method::PATCH, &path, json!({}), 400, "invalidSyntax"),
        (Method::PATCH, &path, patched(json!({"op": "remove"})), 400, "noTarget"),
        (
            Method::PATCH,
            &path,
            patched(json!({"op": "replace", "path": "a b[", "value": 1})),
            400,
            "invalidPath",
        ),
        (
            Method::PATCH,
            &path,
            patched(json!({"op": "replace", "path": "userName", "value": "b@acme.example"})),
            400,
            "mutability",
        ),
        (Method::PATCH, &path, patched(json!({"op": "remove", "path": "userName"})), 400, "mutability"),
    ] {
        scim.refuses(method, path, body, status, word).await;
    }
    for filter in
        ["userName sw \"a\"", "userName", "title eq \"x\"", "userName eq 1", "id eq \"a\" and id eq \"b\""]
    {
        let answer =
            scim.call(Method::GET, &format!("{USERS}?filter={}", found(filter)), None).await.expect(400);
        assert_eq!(answer.json["scimType"], "invalidFilter", "{filter}");
    }
    scim.call(Method::GET, &format!("{USERS}?count=many"), None).await.expect(400);
    scim.call(Method::GET, "/scim/v2/Nothing", None).await.expect(404);
    scim.call(Method::PUT, USERS, Some(json!({}))).await.expect(405);
    scim.call(Method::GET, &format!("{USERS}/{}", uuid::Uuid::now_v7()), None).await.expect(404);
    let mut unread = request(Method::POST, USERS, &scim.token, Some(json!({})));
    unread.headers_mut().insert("content-type", "text/xml".parse().unwrap());
    assert_eq!(api.send(unread).await.expect(415).json["status"], "415");
    let anonymous = api.get(USERS, "").await.expect(401);
    assert_eq!(
        (anonymous.header("content-type"), &anonymous.json["status"]),
        ("application/scim+json", &json!("401"))
    );
    assert!(anonymous.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_provider_learns_what_is_there() {
    let api = Api::start().await;
    let scim = Scim::start(&api).await;
    let config = scim.get("/scim/v2/ServiceProviderConfig").await;
    assert_eq!((&config["patch"]["supported"], &config["bulk"]["supported"]), (&json!(true), &json!(false)));
    let kinds = scim.get("/scim/v2/ResourceTypes").await;
    assert_eq!((&kinds["totalResults"], &kinds["Resources"][1]["endpoint"]), (&json!(2), &json!("/Groups")));
    // Everything that is shown is described.
    let schemas = scim.get("/scim/v2/Schemas").await;
    let shown = [scim.person("ada").await, scim.make(GROUPS, json!({"displayName": "A"})).await];
    for (schema, shown) in schemas["Resources"].as_array().unwrap().iter().zip(shown) {
        let names: Vec<&str> =
            schema["attributes"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        let common = ["schemas", "id", "externalId", "meta"];
        for key in shown.as_object().unwrap().keys() {
            assert!(
                names.contains(&key.as_str()) || common.contains(&key.as_str()),
                "{key} is not in {names:?}"
            );
        }
    }
}
