//! The rules of the house, held against the source itself: prose that nobody checks goes stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: the table of docs/ARCHITECTURE.md. Rooms that are not named as a key may import everything.
const ARROWS: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("queue", &[]),
    ("templates", &["domain"]),
    ("connectors", &["domain"]),
    ("actions", &["domain", "store", "queue"]),
    ("workers", &["domain", "store", "queue", "templates", "connectors", "actions"]),
    ("api", &["domain", "store", "queue", "connectors", "actions"]),
    ("console", &[]),
    ("embedded", &[]),
];
const FREE: [&str; 4] = ["app", "testkit", "acceptance", "bench"];

/// Libraries that stay in the rooms that own them, so that a change of one is a change of one room. In the order: the
/// library, its rooms. The harness and the benchmarks stand outside.
const OWNED: [(&str, &[&str]); 12] = [
    ("axum", &["api", "console", "app"]),
    ("utoipa", &["api"]),
    ("reqwest", &["connectors"]),
    ("openidconnect", &["connectors"]),
    ("lettre", &["connectors"]),
    ("mail-parser", &["connectors"]),
    ("handlebars", &["templates"]),
    ("apalis", &["queue"]),
    ("lapin", &["queue"]),
    ("cron", &["queue", "domain"]),
    ("clap", &["app"]),
    ("tracing-subscriber", &["app"]),
];

const LONGEST_FILE: usize = 500;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder` with this ending, as paths from the root; build output and hidden folders left out.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn rooms() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names in `[dependencies]` of a room.
fn dependencies(room: &str) -> BTreeSet<String> {
    let manifest = read(format!("{room}/Cargo.toml"));
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn arrows_only_point_down() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for room in rooms.iter().filter(|room| !FREE.contains(&room.as_str())) {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == room) else {
            wrong.push(format!("{room} has no line in the table of arrows"));
            continue;
        };
        let imports = dependencies(room);
        wrong.extend(
            imports
                .iter()
                .filter(|name| rooms.contains(name) && !allowed.contains(&name.as_str()))
                .map(|name| format!("{room} imports {name}")),
        );
    }
    none("imports that the architecture does not allow", wrong);
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for room in rooms().iter().filter(|room| !["testkit", "acceptance", "bench"].contains(&room.as_str())) {
        let imports = dependencies(room);
        for (library, owners) in OWNED {
            if imports.contains(library) && !owners.contains(&room.as_str()) {
                wrong.push(format!("{room} uses {library}, which belongs to {}", owners.join(", ")));
            }
        }
    }
    none("libraries outside of the rooms that own them", wrong);
}

#[test]
fn sql_is_written_in_store_and_queue_only() {
    let allowed = ["store", "queue", "testkit", "bench", "acceptance"];
    let signs = ["sqlx::query", "query!(", "query_as!(", "query_scalar!(", "QueryBuilder", "raw_sql("];
    let mut wrong = Vec::new();
    for room in rooms().iter().filter(|room| !allowed.contains(&room.as_str())) {
        for file in files(&format!("{room}/src"), ".rs") {
            let text = read(&file);
            wrong.extend(
                signs
                    .iter()
                    .filter(|sign| text.contains(**sign))
                    .map(|sign| format!("{}: {sign}", file.display())),
            );
        }
    }
    none("SQL outside of store and queue", wrong);
}

/// It could be published by itself.
#[test]
fn the_job_engine_has_no_word_of_tickets() {
    let mut wrong = Vec::new();
    for file in files("queue/src", ".rs").iter().chain(&files("queue/examples", ".rs")) {
        let text = read(file).to_lowercase();
        let words = ["ticket", "incident", "relaydesk "].iter().filter(|word| text.contains(**word));
        wrong.extend(words.map(|word| format!("{}: {word}", file.display())));
    }
    none("words of the product in its job engine", wrong);
}

/// `store::Tx` is not begun by sqlx, which would take a further `begin` on it for the first one, and its commit for the last.
#[test]
fn transactions_do_not_begin_again() {
    let mut wrong = Vec::new();
    for room in ["store", "actions", "workers", "api"] {
        for file in files(&format!("{room}/src"), ".rs") {
            let text = read(&file);
            let lines = text.lines().filter(|line| line.contains(".begin()"));
            wrong.extend(lines.map(|line| format!("{}: {}", file.display(), line.trim())));
        }
    }
    none("transactions are opened with `Db::begin…`, and savepoints by name", wrong);
}

/// Behind a pooler every message of a statement by itself may meet another session.
#[test]
fn what_is_asked_of_the_database_is_asked_in_a_transaction() {
    let harmless = [".close()", ".size()", "connect_options()", "Bell::new(", "direct.pool(),"];
    let mut wrong = Vec::new();
    for room in ["store", "actions", "workers", "api", "app"] {
        for file in files(&format!("{room}/src"), ".rs") {
            let text = read(&file);
            let lines = text.lines().filter(|line| line.contains(".pool()"));
            let lines = lines.filter(|line| !harmless.iter().any(|use_| line.contains(use_)));
            wrong.extend(lines.map(|line| format!("{}: {}", file.display(), line.trim())));
        }
    }
    none("statements outside of a transaction: use `Db::begin…`", wrong);
}

#[test]
fn no_file_is_longer_than_a_few_screens() {
    let mut wrong = Vec::new();
    for room in rooms() {
        for file in files(&room, ".rs") {
            let lines = read(&file).lines().count();
            if lines > LONGEST_FILE {
                wrong.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    none("files longer than 500 lines: split them by noun", wrong);
}

/// `(struct, kind)` of every job in the catalogue.
fn catalogue() -> Vec<(String, String)> {
    let text = read("actions/src/jobs.rs");
    text.split("impl Job for ")
        .skip(1)
        .map(|part| {
            let name = part.split([' ', '{']).next().unwrap();
            let kind =
                part.split("const KIND: &'static str = \"").nth(1).and_then(|rest| rest.split('"').next());
            (name.to_owned(), kind.unwrap_or_else(|| panic!("{name} has no KIND")).to_owned())
        })
        .collect()
}

#[test]
fn every_job_has_a_file_of_its_kind_and_is_registered() {
    let (registry, modules) = (read("workers/src/registry.rs"), read("workers/src/jobs.rs"));
    let catalogue = catalogue();
    let mut wrong = Vec::new();
    let files: Vec<String> = files("workers/src/jobs", ".rs")
        .iter()
        // A folder beside a job's file is part of that job.
        .filter(|file| file.parent() == Some(Path::new("workers/src/jobs")))
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for kind in &files {
        if !catalogue.iter().any(|(_, known)| known == kind) {
            wrong.push(format!("workers/src/jobs/{kind}.rs: actions/src/jobs.rs knows no such kind"));
        }
    }
    for (name, kind) in &catalogue {
        if !files.contains(kind) {
            wrong.push(format!("{name}: workers/src/jobs/{kind}.rs is missing"));
        } else if !read(format!("workers/src/jobs/{kind}.rs"))
            .contains(&format!("impl Run<Shared> for {name} "))
        {
            wrong.push(format!("workers/src/jobs/{kind}.rs does not say how {name} runs"));
        }
        if !registry.contains(&format!("::{name}>")) && !registry.contains(&format!("<{name}>")) {
            wrong.push(format!("{name} is not registered in workers/src/registry.rs"));
        }
        if !modules.contains(&format!("mod {kind};")) {
            wrong.push(format!("{kind} is not a module of workers/src/jobs.rs"));
        }
    }
    none("jobs that nobody would run", wrong);
}

/// Else nobody can wait for it by name.
#[test]
fn every_event_that_is_recorded_has_its_type_in_the_catalogue() {
    let known = domain::event_type::all();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut unknown = Vec::new();
    for file in ["actions/src", "workers/src"].iter().flat_map(|folder| files(folder, ".rs")) {
        for call in read(&file).split("record(").skip(1) {
            let call: String = call.chars().take(120).collect();
            let Some(kind) = call.split('"').nth(1) else { continue };
            let is_type = kind.split_once('.').is_some_and(|(noun, verb)| is_word(noun) && is_word(verb));
            if is_type && !known.iter().any(|type_| type_ == kind) {
                unknown.push(format!("{}: {kind}", file.display()));
            }
        }
    }
    none("events that domain/src/event_type.rs does not know", unknown);
}

/// ASVS 5.0, 5.4.3: where a scanner judges what came from outside.
#[test]
fn files_leave_by_one_door() {
    let opens = ["blobs.open(", "blobs.read(", "inbox.raw"];
    let past = files("api/src", ".rs").into_iter().filter(|file| {
        let name = file.to_string_lossy().into_owned();
        !name.ends_with("api/src/scanning.rs")
            && read(file).lines().any(|line| opens.iter().any(|word| line.contains(word)))
    });
    let past = past.map(|file| file.display().to_string()).collect();
    none("files that open what came from outside past api/src/scanning.rs", past);
}

#[test]
fn exceptions_from_lints_say_why() {
    let mut wrong = Vec::new();
    for room in rooms() {
        for file in files(&room, ".rs") {
            for (number, line) in read(&file).lines().enumerate() {
                let line = line.trim();
                // Generated items may or may not trip a lint, which `expect` can't say.
                let in_a_macro = file.ends_with("domain/src/ids.rs");
                if line.starts_with("#[allow(") && !in_a_macro || line.starts_with("#[ignore]") {
                    wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
        }
    }
    none("use #[expect(lint, reason = \"…\")], and no test is switched off without a reason", wrong);
}

#[test]
fn what_the_documents_name_exists() {
    let mut documents = files("docs", ".md");
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "md")));
    documents.extend(
        rooms()
            .iter()
            .map(|room| PathBuf::from(format!("{room}/README.md")))
            .filter(|file| root().join(file).exists()),
    );
    let rooms = rooms();
    let mut wrong = Vec::new();
    for document in documents {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        for target in links(&text) {
            if !folder.join(&target).exists() {
                wrong.push(format!("{}: the link to {target}", document.display()));
            }
        }
        for path in code_spans(&text) {
            let first = path.split('/').next().unwrap();
            let ours =
                rooms.iter().any(|room| room == first) || ["script", "docs", "migrations"].contains(&first);
            let is_path = path.contains('/') && !path.contains(['<', '*', '{', ' ', '…', '$']);
            // A module may be written without its ending, `FILE::item` with the item.
            let path = path.split("::").next().unwrap_or_default();
            if ours && is_path && !root().join(path).exists() && !root().join(format!("{path}.rs")).exists() {
                wrong.push(format!("{}: `{path}`", document.display()));
            }
        }
    }
    none("documents name what is not there", wrong);
}

/// Targets of Markdown links that are paths.
fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default().to_owned())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// What stands between single backticks on one line, outside of code blocks.
fn code_spans(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[tokio::test]
async fn every_tenant_table_is_under_forced_row_level_security() {
    let database = testkit::database().await;
    let mut owner = database.owner().await;
    let unprotected: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'public' and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)
           and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
           and not c.relispartition
         order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none(
        "tenant tables without FORCE ROW LEVEL SECURITY: call tenant_table('…') in the migration",
        unprotected,
    );

    // A foreign key between tenant tables that leaves the organization out lets a body name another tenant's row.
    let loose: Vec<String> = sqlx::query_scalar(
        "with tenant as (select attrelid as id from pg_attribute where attname = 'organization_id' and not attisdropped)
         select c.conrelid::regclass || '.' || c.conname from pg_constraint c
         where c.contype = 'f' and c.connamespace = 'public'::regnamespace
           and c.conrelid in (select id from tenant) and c.confrelid in (select id from tenant)
           and not exists (select from unnest(c.conkey) k join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k
                           where a.attname = 'organization_id')
         order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none("references between tenant tables that do not carry the organization", loose);
}

#[tokio::test]
async fn the_application_owns_nothing_and_bypasses_nothing() {
    let database = testkit::database().await;
    let mut owner = database.owner().await;
    let power: bool = sqlx::query_scalar(
        "select rolsuper or rolbypassrls or rolcreatedb or rolcreaterole or rolreplication or exists (select from pg_auth_members where member = oid)
         from pg_roles where rolname = 'relaydesk_app'",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert!(!power, "relaydesk_app has rights beyond its tables");
    let owned: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relowner = 'relaydesk_app'::regrole
         union all select proname::text from pg_proc where proowner = 'relaydesk_app'::regrole
         union all select nspname::text from pg_namespace where nspowner = 'relaydesk_app'::regrole",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none("the application role owns", owned);
    let elevated: Vec<String> = sqlx::query_scalar(
        "select proname::text from pg_proc where prosecdef and pronamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none(
        "functions that run with their owner's rights (security definer) step around row level security",
        elevated,
    );
}

/// Forgotten, a table would be changed without a trace; a column too.
#[tokio::test]
async fn every_tenant_table_is_in_the_audit_log_or_says_why_not() {
    let database = testkit::database().await;
    let mut owner = database.owner().await;
    let untold: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c left join audit.tables t on t.name = c.relname
          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
            and (c.relname = 'organizations' or exists (select from pg_attribute a
                   where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped))
            and (t.name is null
                 or t.reason is null and 2 <> (select count(*) from pg_trigger g
                      where g.tgrelid = c.oid and g.tgname in ('audit_rows', 'audit_updates') and g.tgenabled = 'O'))
          order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none("tables that the audit log does not know: call audited('…') or not_audited('…', 'why')", untold);
    let columns: Vec<String> = sqlx::query_scalar(
        "select t.name || '.' || a.attname from audit.tables t join pg_attribute a on a.attrelid = t.name::regclass
          where t.reason is null and a.attnum > 0 and not a.attisdropped and a.attname <> all(t.recorded || t.left_out) order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none("columns that came after their table was recorded: call audited('…') again", columns);
    let open: Vec<String> = sqlx::query_scalar(
        "select t.name || '.' || c from audit.tables t, unnest(t.recorded) c
          where c ~ '(hash|secret|password|sealed|auth_header_value)' and c <> all(t.redacted) order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    none("columns whose secrets would be told", open);
}

#[tokio::test]
async fn every_constraint_has_a_name_that_was_chosen() {
    let database = testkit::database().await;
    // Names are part of the interface: PostgreSQL's own (`…_check1`, `…_column_fkey`) change when a table is edited.
    let unnamed: Vec<String> = sqlx::query_scalar(
        "select conrelid::regclass || '.' || conname from pg_constraint
         where connamespace = 'public'::regnamespace and conname ~ '_(check|fkey|key)[0-9]+$' and conrelid <> 0 order by 1",
    )
    .fetch_all(&mut database.owner().await)
    .await
    .unwrap();
    none("constraints with a numbered default name", unnamed);
}
