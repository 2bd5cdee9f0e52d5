//! Story: an operator takes the people of a new organization in by a table, on the machine itself, and looks at what came of it over the API.

use serde_json::{Value, json};
use std::fmt::Write;
use testkit::App;

const GOOD: &str = "\u{feff}Email;Name;Role;External ID;Department;Teams;Manager;Phone;Time zone;Locale\r\n\
    grace@acme.example;\"Hopper; \"\"Amazing\"\" Grace\";agent;E-1;Operations;Network|Servers;ada@acme.example;+49 30 1;Europe/Berlin;de-DE\r\n\
    ada@acme.example;Ada;manager;E-2;Operations;;;;;\r\n";

/// Runs the command on a table; its exit code, what it says as JSON, and its words for people.
async fn import(app: &App, table: impl AsRef<[u8]>, flags: &[&str]) -> (bool, Value, String) {
    std::fs::write(app.folder.path().join("people.csv"), table).unwrap();
    let mut args = vec!["admin", "import-users", "--organization", "acme"];
    args.extend(flags);
    args.push("people.csv");
    let output = app.run(&args).await;
    let facts = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), facts, words)
}

async fn people(app: &App, query: &str) -> Vec<Value> {
    app.client.all(&format!("/api/v1/users{query}")).await
}

#[tokio::test]
async fn people_come_by_a_table_on_the_command_line() {
    let app = App::start().await;
    let before = people(&app, "").await.len();

    // What it would do, and that it does nothing.
    let (good, facts, words) = import(&app, GOOD, &["--dry-run", "--create-missing", "--json"]).await;
    assert!(good, "{words}");
    assert_eq!(
        (&facts["status"], &facts["created"], &facts["rows"]),
        (&json!("checked"), &json!(2), &json!(2))
    );
    assert_eq!(people(&app, "").await.len(), before);
    assert!(app.client.all("/api/v1/teams").await.is_empty());

    // Without the departments and teams it is refused, as a whole, and each cell is told.
    let (good, facts, words) = import(&app, GOOD, &["--json"]).await;
    assert!(!good && facts["status"] == "refused", "{words}");
    let told: Vec<_> =
        facts["errors"].as_array().unwrap().iter().map(|e| (&e["line"], &e["column"])).collect();
    assert_eq!(told, [(&json!(2), &json!("department")), (&json!(3), &json!("department"))]);

    let (good, facts, words) = import(&app, GOOD, &["--create-missing", "--json"]).await;
    assert!(good && facts["created"] == 2, "{words}");
    let grace = &people(&app, "?email=grace@acme.example").await[0];
    assert_eq!((&grace["name"], &grace["role"]), (&json!("Hopper; \"Amazing\" Grace"), &json!("agent")));
    let teams = app.client.all("/api/v1/teams").await;
    assert_eq!(
        teams.iter().map(|team| team["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Network", "Servers"]
    );
    // What became of all three stands where the imports of others stand, and the log says who it was.
    let imports = app.client.all("/api/v1/user-imports").await;
    let seen: Vec<_> = imports.iter().map(|one| (&one["status"], &one["requested_by"])).collect();
    assert_eq!(
        seen,
        ["done", "refused", "checked"]
            .map(|status| (json!(status), Value::Null))
            .each_ref()
            .map(|(a, b)| (a, b))
    );
    assert_eq!(imports[0]["id"], facts["import"]);
    let id = grace["id"].as_str().unwrap();
    let log =
        app.client.get(&format!("/api/v1/audit-logs?object={id}&verb=create&noun=users")).await.expect(200);
    assert_eq!(
        (&log["items"][0]["actor"]["kind"], &log["items"][0]["actor"]["label"]),
        (&json!("system"), &json!("relaydesk admin"))
    );

    // Again without effect; for people in words.
    let (good, _, words) = import(&app, GOOD, &["--create-missing"]).await;
    assert!(good && words.contains("unchanged: 2") && words.contains("status: done"), "{words}");
}

#[tokio::test]
async fn a_table_with_errors_changes_nothing_and_says_which() {
    let app = App::start().await;
    let before = people(&app, "").await.len();
    let wrong = "email,name,role,time_zone\n\
        good@acme.example,Good,agent,UTC\n\
        no address,\x1b[31mRed,agent,UTC\n\
        b@acme.example,\"two\nlines\",king,Mars/Base\n\
        inv\u{200b}isible@acme.example,\u{202e}nimda,agent,UTC\n\
        GOOD@acme.example,Again,agent,UTC\n";
    let (good, _, words) = import(&app, wrong, &[]).await;
    assert!(!good);
    for told in
        ["line 3, email: ", "line 4, role: ", "line 6, email: ", "line 7, email: stands in line 2 already"]
    {
        assert!(words.contains(told), "{told}: {words}");
    }
    assert!(words.contains("4 cells or lines are wrong: nothing was changed"), "{words}");
    assert!(!words.contains("\u{1b}[31m"), "a cell does not colour the operator's terminal");

    // Not a table at all.
    for (bytes, told) in [
        (b"email,name\nx@acme.example,J\xfcrgen\n".as_slice(), "line 2: holds bytes that are not UTF-8"),
        (b"\xff\xfee\0m\0", "the file is UTF-16"),
        (b"", "the table is empty"),
        (b"email,name,Email\n", "line 1, email: is there twice"),
        (b"email;password\n", "line 1, password: unknown column"),
        (b"email,name\nx@acme.example,\"open\n", "line 2"),
    ] {
        let (good, _, words) = import(&app, bytes, &[]).await;
        assert!(!good && words.contains(told), "{told}: {words}");
    }
    let (good, _, words) = import(&app, "x".repeat((8 << 20) + 1), &[]).await;
    assert!(!good && words.contains("larger than 8 MiB"), "{words}");
    std::fs::remove_file(app.folder.path().join("people.csv")).unwrap();
    let gone = app.run(&["admin", "import-users", "--organization", "acme", "people.csv"]).await;
    let words = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(!gone.status.success() && words.contains("cannot read people.csv"), "{words}");
    let nowhere = app.run(&["admin", "import-users", "--organization", "acme2", "Cargo.toml"]).await;
    assert!(!nowhere.status.success());
    assert_eq!(people(&app, "").await.len(), before);
}

fn table(people: usize) -> String {
    let mut table = String::from("email,name,external_id,department,manager\n");
    for n in 0..people {
        let (department, manager) = (n % 20, n / 10);
        writeln!(table, "p{n}@acme.example,Person {n},{n},Department {department},p{manager}@acme.example")
            .unwrap();
    }
    table
}

/// A running installation goes on while a large table goes in, and sees all of it or nothing.
#[tokio::test]
async fn ten_thousand_people_come_at_once() {
    let app = App::start().await;
    let before = people(&app, "").await.len();
    // The first is their own manager: one line of a thousand is wrong.
    let (good, facts, words) = import(&app, table(1000), &["--create-missing", "--json"]).await;
    assert!(!good, "{words}");
    assert_eq!(
        (facts["errors"].as_array().unwrap().len(), &facts["errors"][0]["line"]),
        (1, &json!(2)),
        "{facts:#}"
    );
    assert_eq!(people(&app, "").await.len(), before);

    let whole = table(10_000).replacen(",p0@acme.example\n", ",\n", 1);
    let importing = import(&app, whole, &["--create-missing", "--json"]);
    let looking = async {
        for _ in 0..20 {
            let seen = people(&app, "?email=p0@acme.example,p9999@acme.example").await.len();
            assert!(seen == 0 || seen == 2, "{seen}");
        }
    };
    let ((good, facts, words), ()) = tokio::join!(importing, looking);
    assert!(good && facts["created"] == 10_000, "{words}");
    assert_eq!(people(&app, "?q=Person").await.len(), 10_000);
    assert_eq!(app.client.all("/api/v1/departments").await.len(), 20);
}
