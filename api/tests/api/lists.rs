//! One grammar for filters, orders, sparse fields and expansions.

use crate::support::Api;
use serde_json::{Value, json};

const INCIDENTS: &str = "/api/v1/incidents";

impl Api {
    /// The titles that the list shows.
    async fn titles(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("{INCIDENTS}?{query}"), &self.agent).await.expect(200).json;
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
    }

    /// The same page by page.
    async fn walk(&self, query: &str, size: usize) -> Vec<String> {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{INCIDENTS}?{query}&page_size={size}{cursor}");
            let page = self.get(&path, &self.agent).await.expect(200).json;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["title"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { return seen };
            cursor = format!("&cursor={next}");
        }
    }

    /// Five incidents: `a` to `e`, opened in that order.
    pub async fn five(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for (title, impact, urgency) in [
            ("a", "high", "high"),
            ("b", "low", "low"),
            ("c", "high", "high"),
            ("d", "medium", "low"),
            ("e", "low", "medium"),
        ] {
            let body = json!({"title": title, "impact": impact, "urgency": urgency});
            all.push(self.post(INCIDENTS, &self.agent, body).await.expect(201).json);
        }
        all
    }
}

#[tokio::test]
async fn filters_are_equal_any_of_ranges_and_null() {
    let api = Api::start().await;
    let all = api.five().await;
    let me = api.organization.agent.user_id().unwrap();
    let number = all[1]["number"].as_str().unwrap();
    let assign = format!("{INCIDENTS}/{number}/assign");
    api.post(&assign, &api.agent, json!({"assignee": "agent@acme.example"})).await.expect(200);
    let resolve = format!("{INCIDENTS}/{}/resolve", all[2]["number"].as_str().unwrap());
    api.post(&resolve, &api.agent, json!({"resolution": "done"})).await.expect(200);
    let (third, id) = (all[2]["created_at"].as_str().unwrap(), all[0]["id"].as_str().unwrap());
    let third = third.replace('+', "%2B");
    for (query, expected) in [
        ("priority=critical", vec!["c", "a"]),
        ("impact=high,medium&urgency=low", vec!["d"]),
        ("status=assigned,resolved", vec!["c", "b"]),
        (&format!("created_at[lt]={third}"), vec!["b", "a"]),
        (&format!("created_at[gte]={third}&created_at[lte]={third}"), vec!["c"]),
        (&format!("created_at%5Bgt%5D={third}"), vec!["e", "d"]),
        ("assignee[null]=false", vec!["b"]),
        ("assignee=me", vec!["b"]),
        (&format!("assignee={me},me"), vec!["b"]),
        ("assignee=none&resolved_at[null]=true", vec!["e", "d", "a"]),
        ("resolved_at[null]=false", vec!["c"]),
        ("resolved_at[gte]=1970-01-01T00:00:00Z", vec!["c"]),
        ("open=false", vec!["c"]),
        ("open=true&q=b", vec!["b"]),
        ("reopened_count=0&reopened_count[lt]=1&number=INC0000001,INC0000004", vec!["d", "a"]),
        (&format!("id={id}"), vec!["a"]),
        ("tag=nothing", vec![]),
        ("confidential=false&source=api&priority=low", vec!["e", "d", "b"]),
        ("source=email", vec![]),
    ] {
        assert_eq!(api.titles(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_a_list_does_not_know_is_refused_by_name() {
    let api = Api::start().await;
    for (query, status, name) in [
        ("colour=red", 400, "/colour"),
        ("created_after=2026-01-01T00:00:00Z", 400, "/created_after"),
        ("status[gte]=new", 400, "/status[gte]"),
        ("created_at[ne]=2026-01-01T00:00:00Z", 400, "/created_at[ne]"),
        ("status;drop table tickets=new", 400, "/status;drop table tickets"),
        ("status=open", 422, "/status"),
        ("status=", 422, "/status"),
        ("created_at[gte]=yesterday", 422, "/created_at[gte]"),
        ("assignee=you", 422, "/assignee"),
        ("team[null]=perhaps", 422, "/team[null]"),
        ("status=new&status=closed", 422, "/status"),
        ("ordering=title", 422, "/ordering"),
        ("ordering=priority,priority", 422, "/ordering"),
        ("ordering=created_at,(select 1)", 422, "/ordering"),
        ("fields=number,secret", 422, "/fields"),
        ("expand=organization", 422, "/expand"),
    ] {
        let answer = api.get(&format!("{INCIDENTS}?{}", query.replace(' ', "%20")), &api.agent).await;
        let answer = answer.expect(status);
        assert_eq!(answer.json["errors"][0]["pointer"], name, "{query}: {}", answer.text);
    }
}

/// By several fields, also in opposite directions, and while others write: each ticket once.
#[tokio::test]
async fn pages_are_stable_in_every_order() {
    let api = Api::start().await;
    api.five().await;
    for (ordering, expected) in [
        ("priority,-created_at", "c a e d b"),
        ("priority,created_at", "a c b d e"),
        ("-priority,created_at", "b d e a c"),
        ("-impact,urgency,number", "e b d a c"),
        ("created_at", "a b c d e"),
        ("-number", "e d c b a"),
        ("status,-number", "e d c b a"),
    ] {
        for size in [1, 2, 3, 200] {
            let seen = api.walk(&format!("ordering={ordering}"), size).await;
            assert_eq!(seen.join(" "), expected, "{ordering} by {size}");
        }
    }
    let path = format!("{INCIDENTS}?ordering=priority,-created_at&page_size=2");
    let first = api.get(&path, &api.agent).await.expect(200).json;
    let cursor = first["next_cursor"].as_str().unwrap();
    // One that would have come before is not seen any more, one that comes after is.
    for (title, impact) in [("urgent", "high"), ("calm", "low")] {
        let body = json!({"title": title, "impact": impact, "urgency": impact});
        api.post(INCIDENTS, &api.agent, body).await.expect(201);
    }
    let rest = api.titles(&format!("ordering=priority,-created_at&cursor={cursor}")).await;
    assert_eq!(rest, ["calm", "e", "d", "b"]);
    // A cursor is good for its own order only.
    for ordering in ["priority,created_at", "priority", "-created_at"] {
        let path = format!("{INCIDENTS}?ordering={ordering}&cursor={cursor}");
        assert_eq!(api.get(&path, &api.agent).await.expect(422).json["errors"][0]["pointer"], "/cursor");
    }
}

#[tokio::test]
async fn fields_are_left_out_and_ids_expanded() {
    let api = Api::start().await;
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201).json;
    let body = json!({"title": "x", "assignee": "agent@acme.example", "team": team["id"], "requester": "end-user@acme.example"});
    api.post(INCIDENTS, &api.agent, body).await.expect(201);
    let one = async |query: &str| {
        let list = api.get(&format!("{INCIDENTS}?{query}"), &api.agent).await.expect(200).json;
        list["items"][0].clone()
    };
    let names = |item: &Value| {
        let mut names: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&one("fields=number,title").await), "id number title");
    assert_eq!(names(&one("fields=number,sla&ordering=-updated_at").await), "id number sla");
    let whole = one("").await;
    assert!(whole["expanded"].is_null() && whole["sla"].is_object() && whole["tags"].is_array());
    let expanded = one("expand=assignee,team,requester").await;
    assert_eq!(expanded["expanded"]["assignee"]["email"], "agent@acme.example");
    assert_eq!(expanded["expanded"]["requester"]["email"], "end-user@acme.example");
    assert_eq!(expanded["expanded"]["team"], json!({"id": team["id"], "name": "Network"}));
    let both = one("fields=title&expand=team").await;
    assert_eq!(names(&both), "expanded id title");
    assert_eq!(names(&both["expanded"]), "team");
    // What is filtered and sorted by need not be shown.
    assert_eq!(names(&one("fields=title&status=assigned&ordering=priority").await), "id title");
}

/// Somebody who asked for help sees who helps, and not where they can be reached, whatever list tells of it.
#[tokio::test]
async fn addresses_behind_an_id_are_for_who_may_look_people_up() {
    let api = Api::start().await;
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201).json;
    let body = json!({"title": "x", "assignee": "agent@acme.example", "team": team["id"], "requester": "end-user@acme.example"});
    api.post(INCIDENTS, &api.agent, body).await.expect(201);
    let path = format!("{INCIDENTS}?expand=assignee,team,requester");
    let seen = async |token: &str| api.get(&path, token).await.expect(200).json["items"][0].clone();
    let (agent, end_user) = (seen(&api.agent).await, seen(&api.end_user).await);
    assert_eq!(agent["expanded"]["assignee"]["email"], "agent@acme.example");
    let people: Vec<_> = ["assignee", "requester"].map(|who| end_user["expanded"][who].clone()).into();
    for (person, of) in people.iter().zip(["assignee", "requester"]) {
        assert_eq!(
            person,
            &json!({"id": agent["expanded"][of]["id"], "name": agent["expanded"][of]["name"]})
        );
    }
    assert_eq!(end_user["expanded"]["team"], agent["expanded"]["team"]);
    assert!(!end_user.to_string().contains("agent@acme.example"), "nor anywhere else in it: {end_user}");
    // Nor with a token of somebody who may, that is only for something else.
    let admin = api.admin_login().await;
    for (scopes, knows) in [(json!(["tickets.view"]), false), (json!(["tickets.view", "people.read"]), true)]
    {
        let body = json!({"name": scopes.to_string(), "scopes": scopes});
        let token = api.post("/api/v1/api-tokens", &admin, body).await.expect(201).json;
        let item = seen(token["token"].as_str().unwrap()).await;
        assert_eq!(item["expanded"]["assignee"]["email"].is_string(), knows, "{item}");
    }
}

#[tokio::test]
async fn a_filter_by_something_foreign_finds_nothing() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let theirs = crate::support::token_of(&api.test_db, &other.admin).await;
    api.five().await;
    let stranger = other.agent.user_id().unwrap();
    let mine = api.organization.agent.user_id().unwrap();
    assert!(api.titles(&format!("assignee={stranger}")).await.is_empty());
    let list = api.get(&format!("{INCIDENTS}?requester={mine}"), &theirs).await.expect(200).json;
    assert_eq!(list["items"], json!([]));
}

/// What the documents ask of lists is answered, parameter by parameter.
#[tokio::test]
async fn the_lists_of_the_documents_can_be_asked_for() {
    let api = Api::start().await;
    api.five().await;
    let mut asked = 0;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for page in std::fs::read_dir(folder).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for rest in text.split("\"$API/").skip(1) {
            let path = rest.split('"').next().unwrap();
            if path.contains('?') && !path.contains('$') {
                let answer = api.get(&format!("/api/v1/{path}"), &api.admin).await;
                assert_eq!(answer.status, 200, "{}: {path}: {}", page.display(), answer.text);
                asked += 1;
            }
        }
    }
    assert!(asked >= 5, "only {asked} found");
    // And the one that changes many.
    let text = include_str!("../../../docs/incidents.md");
    let (_, rest) = text.split_once("$API/incidents/bulk\"").unwrap();
    let body = rest.split_once("-d '").unwrap().1.split('\'').next().unwrap();
    api.post("/api/v1/incidents/bulk", &api.agent, serde_json::from_str(body).unwrap()).await.expect(202);
}

#[tokio::test]
async fn people_are_found_by_ranges_null_and_several_values() {
    let api = Api::start().await;
    let department =
        api.post("/api/v1/departments", &api.admin, json!({"name": "IT"})).await.expect(201).json;
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201).json;
    let mut ids = Vec::new();
    for (name, role) in [("Ada", "agent"), ("Bea", "manager"), ("Cai", "end_user"), ("ada", "agent")] {
        let number = ids.len();
        let body = json!({"email": format!("p{number}@people.example"), "name": name, "role": role,
                          "department": (number == 1).then(|| department["id"].clone())});
        ids.push(api.post("/api/v1/users", &api.admin, body).await.expect(201).json);
    }
    let member = format!("/api/v1/teams/{}/members", team["id"].as_str().unwrap());
    api.post(&member, &api.admin, json!({"user": ids[3]["id"]})).await.expect(204);
    api.delete(&format!("/api/v1/users/{}", ids[2]["id"].as_str().unwrap()), &api.admin).await.expect(204);
    let found = async |query: &str| -> Vec<String> {
        let page =
            api.get(&format!("/api/v1/users?q=people.example&{query}"), &api.admin).await.expect(200).json;
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["email"].as_str().unwrap()[..2].to_owned()).collect()
    };
    let second = ids[1]["created_at"].as_str().unwrap().replace('+', "%2B");
    let team = team["id"].as_str().unwrap();
    for (query, expected) in [
        ("", vec!["p3", "p1", "p0"]),
        ("name=ADA", vec!["p3", "p0"]),
        ("role=agent,manager&ordering=created_at", vec!["p0", "p1", "p3"]),
        ("department[null]=true", vec!["p3", "p0"]),
        ("department=none&ordering=created_at", vec!["p0", "p3"]),
        (&format!("created_at[gte]={second}"), vec!["p3", "p1"]),
        (&format!("created_at[lt]={second}"), vec!["p0"]),
        (&format!("team={team}"), vec!["p3"]),
        ("deleted=true", vec!["p2"]),
        ("deleted=false&email=P1@people.example,p2@people.example", vec!["p1"]),
        ("last_login_at[null]=false", vec![]),
        ("kind=service", vec![]),
        ("id=me", vec![]),
    ] {
        assert_eq!(found(query).await, expected, "{query}");
    }
}

/// A ticket that the caller may not know of finds nothing, by its number as by its id, and says nothing else than one that is not there.
#[tokio::test]
async fn a_filter_by_a_ticket_does_not_tell_whether_it_is_there() {
    let api = Api::start().await;
    let secret =
        api.post(INCIDENTS, &api.admin, json!({"title": "x", "confidential": true})).await.expect(201).json;
    for list in ["notifications", "sla-breaches", "alerts"] {
        let field = if list == "alerts" { "incident" } else { "ticket" };
        for ticket in
            [secret["number"].as_str().unwrap(), secret["id"].as_str().unwrap(), "INC9999999", "nonsense"]
        {
            let page =
                api.get(&format!("/api/v1/{list}?{field}={ticket}"), &api.agent).await.expect(200).json;
            assert_eq!(page, json!({"items": [], "next_cursor": null}), "{list} {ticket}");
        }
    }
}
