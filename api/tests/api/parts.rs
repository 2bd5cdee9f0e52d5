//! Lists of what belongs to one object, and those that are read as a whole: the grammar means in them what it means in others, and shows nobody
//! more than they saw without it.

use crate::support::Api;
use serde_json::{Value, json};

const INCIDENTS: &str = "/api/v1/incidents";

impl Api {
    /// One field of each item that the list shows.
    async fn column(&self, list: &str, field: &str, token: &str) -> String {
        let page = self.get(&format!("/api/v1/{list}"), token).await.expect(200).json;
        let text = |item: &Value| item[field].as_str().map_or_else(|| item[field].to_string(), str::to_owned);
        page["items"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(",")
    }

    async fn refuses(&self, list: &str, query: &str, token: &str, status: u16) {
        let answer = self.get(&format!("/api/v1/{list}?{query}"), token).await.expect(status);
        if [400, 422].contains(&status) {
            let name = query.split('=').next().unwrap();
            assert_eq!(answer.json["errors"][0]["pointer"], format!("/{name}"), "{list}?{query}");
        }
    }
}

#[tokio::test]
async fn what_belongs_to_a_ticket_is_found_by_what_it_says() {
    let api = Api::start().await;
    let (agent, end_user) =
        (api.organization.agent.user_id().unwrap(), api.organization.end_user.user_id().unwrap());
    let body = json!({"title": "x", "requester": "end-user@acme.example"});
    let number = api.post(INCIDENTS, &api.agent, body).await.expect(201).json["number"].clone();
    let ticket = format!("incidents/{}", number.as_str().unwrap());
    let path = format!("/api/v1/{ticket}");
    let theirs = crate::support::token_of(&api.test_db, &api.organization.end_user).await;
    let mut made = Vec::new();
    for (body, visibility, token) in
        [("a", "public", &api.agent), ("b", "internal", &api.agent), ("c", "public", &theirs)]
    {
        let body = json!({"body": body, "visibility": visibility});
        made.push(api.post(&format!("{path}/comments"), token, body).await.expect(201).json);
    }
    let second = made[1]["created_at"].as_str().unwrap().replace('+', "%2B");
    let comments = async |query: &str, token: &str| {
        api.column(&format!("{ticket}/comments?{query}"), "body", token).await
    };
    for (query, staff, guest) in [
        ("", "a,b,c", "a,c"),
        ("ordering=-created_at", "c,b,a", "c,a"),
        ("visibility=internal", "b", ""),
        ("visibility=internal,public&author=me", "a,b", "c"),
        (&format!("author={end_user}"), "c", "c"),
        ("author[null]=true", "", ""),
        (&format!("created_at[gt]={second}"), "c", "c"),
        (&format!("created_at[lte]={second}&ordering=-created_at"), "b,a", "a"),
        (&format!("id={}", made[1]["id"].as_str().unwrap()), "b", ""),
        ("source=email", "", ""),
    ] {
        assert_eq!(comments(query, &api.agent).await, staff, "{query}");
        assert_eq!(comments(query, &theirs).await, guest, "{query}");
    }
    // What is internal is in nobody's page either, and no cursor leads to it.
    let first = api.get(&format!("{path}/comments?page_size=1&fields=body"), &theirs).await.expect(200).json;
    assert_eq!(first["items"], json!([{"id": made[0]["id"], "body": "a"}]));
    let rest = format!("page_size=1&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(comments(&rest, &theirs).await, "c");
    assert_eq!(comments(&rest, &api.agent).await, "b");

    let history = async |query: &str, token: &str| {
        api.column(&format!("{ticket}/history?{query}"), "action", token).await
    };
    assert_eq!(history("", &api.agent).await, "opened,commented,commented,commented");
    assert_eq!(history("action=commented", &theirs).await, "commented,commented", "one was internal");
    assert_eq!(history("actor=me", &theirs).await, "commented");
    assert_eq!(
        history(&format!("actor={agent}&actor_kind=user&ordering=-at"), &theirs).await,
        "commented,opened"
    );

    for (name, size) in [("b.txt", 3), ("A.txt", 9)] {
        let boundary = "----x";
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n{}\r\n--{boundary}--\r\n",
            "x".repeat(size)
        );
        let mut upload = crate::support::request(
            axum::http::Method::POST,
            &format!("{path}/attachments"),
            &api.agent,
            None,
        );
        let media_type = format!("multipart/form-data; boundary={boundary}");
        upload.headers_mut().insert("content-type", media_type.parse().unwrap());
        *upload.body_mut() = body.into();
        api.send(upload).await.expect(201);
    }
    for (query, expected) in [
        ("", "b.txt,A.txt"),
        ("ordering=file_name", "A.txt,b.txt"),
        ("ordering=-size_bytes", "A.txt,b.txt"),
        ("size_bytes[lt]=9", "b.txt"),
        ("file_name=a.TXT", "A.txt"),
        ("comment[null]=false", ""),
        (&format!("created_by={agent}&media_type=text/plain&size_bytes=3,4"), "b.txt"),
    ] {
        assert_eq!(
            api.column(&format!("{ticket}/attachments?{query}"), "file_name", &api.agent).await,
            expected,
            "{query}"
        );
    }
    let watch = format!("{path}/watchers");
    for person in ["agent@acme.example", "admin@acme.example"] {
        api.post(&watch, &api.agent, json!({"user": person})).await.expect_success();
    }
    for (query, expected) in [
        ("email=Agent@acme.example", "agent@acme.example"),
        ("user=me", "agent@acme.example"),
        (
            "ordering=-email&email=agent@acme.example,admin@acme.example",
            "agent@acme.example,admin@acme.example",
        ),
        ("since[lt]=2020-01-01T00:00:00Z", ""),
    ] {
        assert_eq!(
            api.column(&format!("{ticket}/watchers?{query}"), "email", &api.agent).await,
            expected,
            "{query}"
        );
    }
    // Who may not look people up sees who they are, not where they can be reached, and finds nothing by that.
    api.post(&watch, &api.agent, json!({"user": "end-user@acme.example"})).await.expect_success();
    let seen = api.get(&format!("{watch}?ordering=name"), &api.end_user).await.expect(200);
    assert!(seen.json["items"].as_array().unwrap().len() == 3 && !seen.text.contains('@'), "{}", seen.text);
    assert_eq!(
        api.column(&format!("{ticket}/watchers?email=admin@acme.example"), "name", &api.end_user).await,
        ""
    );
    for kind in ["blocks", "caused_by"] {
        let other = api.post(INCIDENTS, &api.agent, json!({"title": kind})).await.expect(201).json;
        let link = json!({"kind": kind, "ticket": other["number"]});
        api.post(&format!("{path}/links"), &api.agent, link).await.expect_success();
    }
    let links = async |query: &str| api.column(&format!("{ticket}/links?{query}"), "title", &api.agent).await;
    assert_eq!(links("ordering=-number").await, "caused_by,blocks");
    assert_eq!(links("kind=blocks&direction=outgoing&status=new,closed").await, "blocks");
    assert_eq!(links("direction=incoming").await, "");
    for (part, query, status) in [
        ("comments", "body=a", 400),
        ("comments", "ordering=body", 422),
        ("comments", "visibility=secret", 422),
        ("comments", "fields=ticket", 422),
        ("history", "is_internal=true", 400),
        ("history", "changes=reason", 400),
        ("attachments", "size_bytes[gt]=x", 422),
        ("attachments", "url=x", 400),
        ("watchers", "since=2026-01-01T00:00:00Z", 400),
        ("links", "direction=both", 422),
        ("escalations", "steps=x", 400),
    ] {
        api.refuses(&format!("{ticket}/{part}"), query, &api.agent, status).await;
    }
}

#[tokio::test]
async fn roles_rights_and_who_has_them_are_found() {
    let api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    let mut roles = Vec::new();
    for (name, permissions) in [
        ("night shift", json!({"tickets.view": "team", "tickets.assign": "team"})),
        ("Auditor", json!({"audit.read": "organization"})),
    ] {
        let role = json!({"name": name, "description": "Of ours", "permissions": permissions});
        roles.push(api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json);
    }
    for (query, expected) in [
        ("is_shipped=false", "Auditor,night shift"),
        ("is_shipped=false&ordering=-name", "night shift,Auditor"),
        ("ordering=name", "admin,agent,Auditor,end_user,manager,night shift"),
        ("permission=audit.read&is_shipped=false", "Auditor"),
        ("q=OURS&created_at[null]=false", "Auditor,night shift"),
        ("created_at[null]=true&name=ADMIN,agent,nobody", "admin,agent"),
        ("id=agent", "agent"),
        ("permission=nothing", ""),
    ] {
        assert_eq!(api.column(&format!("user-roles?{query}"), "name", &api.admin).await, expected, "{query}");
    }
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201).json;
    let team = team["id"].as_str().unwrap();
    let id = roles[0]["id"].as_str().unwrap();
    for body in [json!({"user": agent}), json!({"team": team})] {
        api.post(&format!("/api/v1/user-roles/{id}/grants"), &api.admin, body).await.expect(201);
    }
    let grants = format!("user-roles/{id}/grants");
    for (query, expected) in [
        ("team[null]=true", "Agent"),
        (&format!("team={team}"), "Network"),
        (&format!("user={agent},{team}"), "Agent"),
        ("granted_by=me&ordering=-name", "Network,Agent"),
        ("q=NET", "Network"),
    ] {
        let found = api.column(&format!("{grants}?{query}"), "name", &api.admin).await;
        assert_eq!(found.to_lowercase(), expected.to_lowercase(), "{query}");
    }
    let path = format!("/api/v1/{grants}?fields=name&expand=user,team&ordering=created_at");
    let page = api.get(&path, &api.admin).await.expect(200).json;
    assert_eq!(page["items"][0]["expanded"]["user"]["email"], "agent@acme.example", "{page}");
    assert_eq!(page["items"][1]["expanded"]["team"]["name"], "Network", "{page}");
    assert!(page["items"][0]["user"].is_null(), "{page}");
    // Whose list it is stays a matter of its own, with the grammar beside it.
    let of_agent = format!("user-roles?user_id={agent}&ordering=-name");
    assert_eq!(api.column(&of_agent, "name", &api.admin).await, "night shift,agent");
    let theirs = crate::support::token_of(&api.test_db, &api.organization.end_user).await;
    for query in ["", "is_shipped=true", "ordering=name", "q=a"] {
        let names = api.column(&format!("user-roles?{query}"), "name", &theirs).await;
        assert!(["", "end_user"].contains(&names.as_str()), "{query}: {names}");
    }
    api.refuses("user-roles", &format!("user_id={agent}&is_shipped=true"), &theirs, 403).await;
    let rights = async |query: &str, token: &str| {
        api.column(&format!("user-permissions?{query}"), "name", token).await
    };
    assert_eq!(rights("allowed=true&name=tenants.manage,tickets.assign", &theirs).await, "");
    assert_eq!(
        rights("name=tickets.view_own,tickets.assign&ordering=-name&fields=name", &api.agent).await,
        "tickets.view_own,tickets.assign"
    );
    assert!(!rights("role=end_user", &api.agent).await.contains("audit.read"));
    assert_eq!(rights("scope[null]=true&allowed=true", &api.agent).await, "");
    for (list, query, status) in [
        ("user-roles", "permissions=x", 400),
        ("user-roles", "ordering=created_at", 422),
        ("user-roles", "user_id=me", 422),
        ("user-permissions", "scope=everything", 422),
        ("user-permissions", "why=x", 400),
        (&grants, "name[gt]=a", 400),
    ] {
        api.refuses(list, query, &api.admin, status).await;
    }
    // Members, by what they can.
    for (email, body) in [
        ("agent@acme.example", json!({"skills": {"linux": 4}, "is_lead": true})),
        ("admin@acme.example", json!({"skills": {"linux": 1, "oracle": 2}})),
    ] {
        let user = api.get(&format!("/api/v1/users?email={email}"), &api.admin).await.expect(200).json;
        let (members, id) = (format!("/api/v1/teams/{team}/members"), &user["items"][0]["id"]);
        api.post(&members, &api.admin, json!({"user": id})).await.expect_success();
        api.patch(&format!("{members}/{}", id.as_str().unwrap()), &api.admin, body).await.expect_success();
    }
    for (query, expected) in [
        ("ordering=-email", "agent@acme.example,admin@acme.example"),
        ("skill=ORACLE", "admin@acme.example"),
        ("skill=oracle,linux&is_lead=true", "agent@acme.example"),
        ("role=admin&q=ADMIN@", "admin@acme.example"),
        (&format!("user={agent}&is_active=true"), "agent@acme.example"),
        ("since[lt]=2020-01-01T00:00:00Z", ""),
    ] {
        assert_eq!(
            api.column(&format!("teams/{team}/members?{query}"), "email", &api.admin).await,
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn logins_lanes_and_tenants_are_found_by_those_who_may_see_them() {
    let api = Api::start().await;
    testkit::organization(&api.test_db, "globex").await;
    let (admin, agent) =
        (api.organization.admin.user_id().unwrap(), api.organization.agent.user_id().unwrap());
    let login = api.login_of(&api.organization.agent).await;
    api.login_of(&api.organization.agent).await;
    api.login_of(&api.organization.admin).await;
    let page = api
        .get("/api/v1/auth/sessions?ordering=created_at&fields=current,address", &login)
        .await
        .expect(200)
        .json;
    let items = page["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["current"]), (2, &json!(true)), "{page}");
    assert!(items[0]["created_at"].is_null(), "{page}");
    let (first, own) = (items[0]["id"].as_str().unwrap(), "auth/sessions");
    for (query, expected) in [
        (format!("id={first}"), 1),
        ("device[null]=true&address=none".to_owned(), 2),
        ("address=192.0.2.7".to_owned(), 0),
        ("expires_at[gt]=2020-01-01T00:00:00Z&last_used_at[lt]=2020-01-01T00:00:00Z".to_owned(), 0),
    ] {
        let page = api.get(&format!("/api/v1/{own}?{query}"), &login).await.expect(200).json;
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{query}");
    }
    // No word of the grammar opens the logins of others.
    for query in ["user=x", "user_agent=x", "ip=x", "refresh_hash=x"] {
        api.refuses(own, query, &login, 400).await;
    }
    for query in ["", "id=me", &format!("id={first}"), "ordering=expires_at"] {
        api.refuses(&format!("users/{admin}/sessions"), query, &api.agent, 403).await;
    }
    let path = format!("users/{agent}/sessions?id={first}");
    assert_eq!(api.column(&path, "id", &api.admin).await, first);
    let path = format!("users/{admin}/sessions?id={first}");
    assert_eq!(api.column(&path, "id", &api.admin).await, "");

    assert_eq!(
        api.column("lanes?name=mail,outbound&paused=false&ordering=-name", "name", &api.admin).await,
        "outbound,mail"
    );
    assert_eq!(api.column("lanes?paused=true", "name", &api.admin).await, "");
    assert_eq!(api.column("lanes?dead[gt]=0", "name", &api.admin).await, "");
    let page = api.get("/api/v1/lanes?fields=name,ready&name=mail", &api.admin).await.expect(200).json;
    assert_eq!(page["items"], json!([{"name": "mail", "ready": page["items"][0]["ready"]}]));
    assert_eq!(api.column("limits?waiting[gte]=1", "name", &api.admin).await, "");
    assert_eq!(
        api.column("organizations?slug=ACME,globex", "slug", &api.admin).await,
        "acme",
        "one's own only"
    );
    for query in ["", "slug=acme", "is_operator=false", "q=acme", "fields=slug"] {
        api.refuses("tenants", query, &api.admin, 403).await;
    }
    let operator = sqlx::query("update organizations set is_operator = true where slug = 'acme'");
    operator.execute(&mut api.test_db.owner().await).await.unwrap();
    for (query, expected) in [
        ("ordering=-slug", "globex,acme"),
        ("q=GLOB&state=active,deleted", "globex"),
        ("is_operator=true&suspended_at[null]=true", "acme"),
        ("state=suspended", ""),
        ("weight=1&weight[gt]=0&weight[lte]=1&slug=globex", "globex"),
    ] {
        assert_eq!(api.column(&format!("tenants?{query}"), "slug", &api.admin).await, expected, "{query}");
    }
    for (list, query, status) in [
        ("tenants", "settings=x", 400),
        ("tenants", "fields=settings", 422),
        ("lanes", "ordering=transport", 422),
        ("limits", "burst[gt]=1", 400),
        ("reports", "kind=nothing", 422),
    ] {
        api.refuses(list, query, &api.admin, status).await;
    }
    // Pages of what is read as a whole: stable when rows go away between them.
    let first = api.get("/api/v1/lanes?page_size=2&ordering=-name", &api.admin).await.expect(200).json;
    let cursor = first["next_cursor"].as_str().unwrap();
    let all = api.column("lanes?ordering=-name", "name", &api.admin).await;
    let shown: Vec<&str> =
        first["items"].as_array().unwrap().iter().map(|lane| lane["name"].as_str().unwrap()).collect();
    let rest = api.column(&format!("lanes?ordering=-name&cursor={cursor}"), "name", &api.admin).await;
    assert_eq!(format!("{},{rest}", shown.join(",")), all);
    for query in ["ordering=name", "ordering=ready", ""] {
        let answer = api.get(&format!("/api/v1/lanes?cursor={cursor}&{query}"), &api.admin).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], "/cursor", "{query}");
    }
}
