//! Tables of people: all lines or none, by the rules for whoever hands them in, and again without effect.

use actions::imports;
use connectors::http::{Client, Destinations};
use domain::people_sheet::{Counts, ImportStatus, RowError};
use domain::{Actor, EmailAddress, Permission, Role, UserId};
use queue::Drain;
use std::fmt::Write;
use std::sync::Arc;
use store::user_imports::Import;
use store::users::User;
use testkit::{Organization, TestDb, count_statements, statements_sent};
use workers::{Settings, Shared};

struct House {
    db: TestDb,
    acme: Organization,
    shared: Shared,
    _folder: tempfile::TempDir,
}

#[derive(Clone, Copy, Default)]
struct How {
    dry: bool,
    create: bool,
}

impl House {
    async fn new() -> House {
        let db = testkit::database().await;
        let acme = testkit::organization(&db, "acme").await;
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared {
            db: db.db.clone(),
            blobs: store::blobs::Blobs::new(folder.path()),
            templates: Arc::default(),
            http: Client::new(Destinations::allowing([])).unwrap(),
            mailer: None,
            remote: None,
            secrets: queue::KeyRing::default(),
            settings: Arc::new(Settings {
                base_url: "http://desk.example".into(),
                mail_domain: "desk.example".into(),
                mail_from: "relaydesk@desk.example".into(),
                discovery_dir: None,
                pruning: workers::Pruning::default(),
            }),
        };
        House { db, acme, shared, _folder: folder }
    }

    /// Hands a table in and works it.
    async fn import(&self, actor: &Actor, csv: impl AsRef<[u8]>, how: How) -> Import {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        let (import, _) = imports::request(&mut tx, actor, csv.as_ref(), how.dry, how.create).await.unwrap();
        tx.commit().await.unwrap();
        self.work().await;
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        store::user_imports::get(&mut tx, import.id).await.unwrap()
    }

    async fn work(&self) {
        let drain = Drain::new(workers::registry(), self.shared.clone());
        drain.clock(self.db.db.clock().shift_handle()).run(self.db.db.pool()).await.unwrap();
    }

    async fn person(&self, email: &str) -> Option<User> {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        store::users::find_by_email(&mut tx, &EmailAddress::parse(email).unwrap()).await.unwrap()
    }

    async fn count(&self, what: &'static str) -> i64 {
        sqlx::query_scalar(what).fetch_one(&mut self.db.owner().await).await.unwrap()
    }
}

fn told(errors: &[RowError]) -> Vec<(u64, &str)> {
    errors.iter().map(|error| (error.line, error.column.as_deref().unwrap_or_default())).collect()
}

const PEOPLE: &str = "\u{feff}Email;Name;Role;External ID;Department;Teams;Manager;Phone;Time zone;Locale\r\n\
    grace@acme.example;\"Hopper; Grace\";agent;E-1;Operations;Network|Servers;ada@acme.example;+49 30 1;Europe/Berlin;de_DE\r\n\
    ada@acme.example;Ada;manager;E-2;Operations;;;;;\r\n\
    guest@acme.example;=cmd|' /C calc'!A0;;;;;;;;\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_in_as_a_whole_and_again_without_effect() {
    let house = House::new().await;
    let admin = house.acme.admin.clone();
    // Nothing is there: departments and teams are not made unless asked for.
    let refused = house.import(&admin, PEOPLE, How::default()).await;
    assert_eq!(refused.status, ImportStatus::Refused);
    assert_eq!(told(&refused.errors), [(2, "department"), (3, "department")]);
    let create = How { create: true, dry: false };
    let dry = house.import(&admin, PEOPLE, How { dry: true, ..create }).await;
    assert_eq!(
        (dry.status, dry.counts.created, dry.error_count),
        (ImportStatus::Checked, 3, 0),
        "{:?}",
        dry.errors
    );
    assert!(house.person("grace@acme.example").await.is_none(), "a dry run leaves nothing");
    assert_eq!(house.count("select count(*) from departments").await, 0);
    assert_eq!(house.count("select count(*) from events where kind like 'user.%'").await, 0);

    let done = house.import(&admin, PEOPLE, create).await;
    assert_eq!(
        (done.status, done.counts.rows, done.counts.created),
        (ImportStatus::Done, 3, 3),
        "{:?}",
        done.errors
    );
    let grace = house.person("grace@acme.example").await.unwrap();
    let ada = house.person("ada@acme.example").await.unwrap();
    assert_eq!(
        (grace.name.as_str(), grace.role, grace.manager),
        ("Hopper; Grace", Role::Agent, Some(ada.id))
    );
    assert_eq!(grace.external_id.as_deref(), Some("E-1"));
    assert_eq!((grace.time_zone.as_deref(), grace.locale.as_deref()), (Some("Europe/Berlin"), Some("de-DE")));
    assert!(grace.department.is_some() && grace.department == ada.department);
    assert_eq!(house.count("select count(*) from team_members").await, 2);
    // What a spreadsheet would run is a text here, and made harmless where tables go out (`domain::safe_cell`).
    assert_eq!(house.person("guest@acme.example").await.unwrap().name, "=cmd|' /C calc'!A0");
    assert_eq!(house.count("select count(*) from user_imports where csv is not null").await, 0);
    let by = "select count(*) from audit_entries where noun = 'users' and verb = 'create' and actor_id is not null";
    assert_eq!(house.count(by).await, 3, "who asked for it has done it");

    let again = house.import(&admin, PEOPLE, create).await;
    assert_eq!((again.counts.created, again.counts.changed, again.counts.unchanged), (0, 0, 3));
    assert_eq!(house.person("grace@acme.example").await.unwrap().updated_at, grace.updated_at);
    let changed = house
        .import(&admin, "email,name,phone\ngrace@acme.example,Grace Hopper,\nnew@acme.example,,\n", create)
        .await;
    assert_eq!((changed.counts.created, changed.counts.changed), (1, 1));
    let grace = house.person("grace@acme.example").await.unwrap();
    assert_eq!(
        (grace.name.as_str(), grace.phone.as_deref()),
        ("Grace Hopper", Some("+49 30 1")),
        "an empty cell leaves what is"
    );
    assert_eq!(house.person("new@acme.example").await.unwrap().name, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_cell_keeps_the_whole_table_out_and_all_are_told() {
    let house = House::new().await;
    let admin = house.acme.admin.clone();
    let csv = "email,name,role,time_zone,locale,external_id,manager,teams,phone\n\
        good@acme.example,Good,agent,UTC,de,1,,,\n\
        no address,A,agent,UTC,de,2,,,\n\
        b@acme.example,B,king,UTC,de,3,,,\n\
        c@acme.example,C,agent,Mars/Base,de,4,,,\n\
        d@acme.example,D,agent,UTC,german language,5,,,\n\
        GOOD@acme.example,Again,agent,UTC,de,6,,,\n\
        e@acme.example,E,agent,UTC,de,1,,,\n\
        f@acme.example,F,agent,UTC,de,7,nobody@acme.example,,\n\
        g@acme.example,G,agent,UTC,de,8,,Nowhere,\n\
        h@acme.example,\"two\nlines\",agent,UTC,de,9,,,\n\
        ,No address,agent,UTC,de,10,,,\n\
        i@acme.example,I,end_user,UTC,de,11,,,\n";
    let refused = house.import(&admin, csv, How { create: false, dry: false }).await;
    assert_eq!(refused.status, ImportStatus::Refused);
    let expected = [
        (3, "email"),
        (4, "role"),
        (5, "time_zone"),
        (6, "locale"),
        (7, "email"),
        (8, "external_id"),
        (9, "manager"),
        (10, "teams"),
        (11, "name"),
        (13, "email"),
    ];
    assert_eq!(told(&refused.errors), expected, "{:?}", refused.errors);
    assert!(refused.errors[4].detail.contains("line 2"));
    assert_eq!(house.count("select count(*) from users").await, 3, "not even the good ones");

    // Broken as a table.
    for (csv, line) in [
        (b"email,name\na@acme.example,J\xfcrgen\n".as_slice(), 2),
        (b"email,name\na@acme.example\n", 2),
        (b"email,password\n", 1),
        (b"\xff\xfee\0", 1),
    ] {
        let refused = house.import(&admin, csv, How::default()).await;
        assert_eq!((refused.status, refused.errors[0].line), (ImportStatus::Refused, line));
    }

    // Two keys that lead to two people, and another address for a known one.
    house.import(&admin, "email,external_id\nx@acme.example,X\ny@acme.example,Y\n", How::default()).await;
    let refused =
        house.import(&admin, "email,external_id\nx@acme.example,Y\nz@acme.example,X\n", How::default()).await;
    assert_eq!(told(&refused.errors), [(2, "external_id"), (3, "email")], "{:?}", refused.errors);
}

/// Each line does what its author could do by hand, with what they may when it is worked.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_by_a_table_what_they_do_not_have() {
    let house = House::new().await;
    let csv = "email,name,role\nclerk@acme.example,Clerk,end_user\nboss@acme.example,Boss,manager\n";
    house.import(&house.acme.admin.clone(), csv, How::default()).await;
    let clerk = house.person("clerk@acme.example").await.unwrap();
    let mut owner = house.db.owner().await;
    let role = uuid::Uuid::now_v7();
    sqlx::query(
        r#"insert into roles (id, organization_id, name, permissions, created_at, updated_at)
           values ($1, $2, 'Personnel', '{"people.read": "organization", "people.manage": "organization", "tickets.view": "organization"}', now(), now())"#,
    )
    .bind(role)
    .bind(house.acme.id.0)
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query("insert into role_grants (id, organization_id, role_id, user_id, created_at) values ($1, $2, $3, $4, now())")
        .bind(uuid::Uuid::now_v7())
        .bind(house.acme.id.0)
        .bind(role)
        .bind(clerk.id.0)
        .execute(&mut owner)
        .await
        .unwrap();
    let actor = acting(&house, clerk.id).await;
    assert!(domain::permission::check(&actor, Permission::PeopleManage).is_ok());
    let refused = house
        .import(
            &actor,
            "email,role,external_id,department\n\
             evil@acme.example,admin,,\n\
             boss@acme.example,end_user,,\n\
             clerk@acme.example,admin,,\n\
             boss@acme.example,,E-1,\n\
             fine@acme.example,end_user,,New department\n",
            How { create: true, dry: true },
        )
        .await;
    assert_eq!(refused.status, ImportStatus::Refused);
    let lines: Vec<u64> = refused.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6], "{:?}", refused.errors);
    let fine = house.import(&actor, "email,role\nfine@acme.example,end_user\n", How::default()).await;
    assert_eq!(fine.status, ImportStatus::Done, "{:?}", fine.errors);

    // Asked for while they might, worked when they may not any more.
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let (import, _) =
        imports::request(&mut tx, &actor, b"email\nlate@acme.example\n", false, false).await.unwrap();
    tx.commit().await.unwrap();
    sqlx::query("delete from role_grants").execute(&mut owner).await.unwrap();
    house.work().await;
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    assert_eq!(store::user_imports::get(&mut tx, import.id).await.unwrap().status, ImportStatus::Refused);
    drop(tx);
    assert!(house.person("late@acme.example").await.is_none());
    // And somebody who may not at all does not even begin.
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let agent = house.acme.agent.clone();
    assert!(matches!(
        imports::request(&mut tx, &agent, b"email\n", true, false).await,
        Err(actions::Error::Forbidden(_))
    ));
}

/// What is wrong with one line does not hide what another one says of it, and what one line changes is so for the next.
#[tokio::test(flavor = "multi_thread")]
async fn lines_are_worked_together_as_if_one_by_one() {
    let house = House::new().await;
    let admin = house.acme.admin.clone();
    let create = How { create: true, dry: false };
    let refused = house
        .import(
            &admin,
            "email,role,teams,manager\n\
             a@acme.example,agent,Net|Net|Ops,b@acme.example\n\
             b@acme.example,agent,,\n\
             c@acme.example,end_user,Net,\n\
             d@acme.example,agent,,d@acme.example\n\
             e@acme.example,agent,,c@acme.example\n\
             f@acme.example,agent,,nobody@acme.example\n\
             g@acme.example,agent,,no address\n\
             h@acme.example,agent,Ops|Net|,C@acme.example\n",
            create,
        )
        .await;
    let expected = [(4, "teams"), (5, "manager"), (7, "manager"), (8, "manager")];
    assert_eq!(told(&refused.errors), expected, "{:?}", refused.errors);
    assert_eq!((refused.counts.rows, refused.counts.created), (8, 7));

    let done = house
        .import(
            &admin,
            "email,role,teams,manager,external_id\n\
             a@acme.example,agent,Net|Net|Ops,b@acme.example,A\n\
             b@acme.example,agent,Net,,B\n",
            create,
        )
        .await;
    assert_eq!((done.status, done.counts.created), (ImportStatus::Done, 2), "{:?}", done.errors);
    let (a, b) =
        (house.person("a@acme.example").await.unwrap(), house.person("b@acme.example").await.unwrap());
    assert_eq!((a.manager, b.manager), (Some(b.id), None));
    assert_eq!(house.count("select count(*) from team_members").await, 3);
    for (kind, count) in [
        ("select count(*) from events where kind = 'user.created' and payload->>'user' is not null", 2),
        ("select count(*) from events where kind = 'user.updated'", 1),
        ("select count(*) from events where kind = 'team.member_added'", 3),
        ("select count(*) from audit_entries where noun = 'team_members' and verb = 'create'", 3),
    ] {
        assert_eq!(house.count(kind).await, count, "{kind}");
    }

    // What another system called one is free for another one further down; a team that one is in already is no change.
    let done = house
        .import(
            &admin,
            "email,role,teams,external_id\n\
             a@acme.example,,Ops,Z\n\
             new@acme.example,agent,Ops,A\n\
             b@acme.example,,Net,B\n",
            create,
        )
        .await;
    assert_eq!(done.status, ImportStatus::Done, "{:?}", done.errors);
    assert_eq!((done.counts.created, done.counts.changed, done.counts.unchanged), (1, 1, 1));
    assert_eq!(house.person("new@acme.example").await.unwrap().external_id.as_deref(), Some("A"));

    // The last admin goes after the next one came, and not before.
    for (csv, status) in [
        ("email,role\nadmin@acme.example,agent\nnext@acme.example,admin\n", ImportStatus::Refused),
        ("email,role\nnext@acme.example,admin\nadmin@acme.example,agent\n", ImportStatus::Done),
    ] {
        let import = house.import(&admin, csv, create).await;
        assert_eq!(import.status, status, "{:?}", import.errors);
    }
}

/// Whoever hands a table in gives nobody a team whose roles are more than they have themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_teams_roles_are_asked_for_of_who_hands_the_table_in() {
    let house = House::new().await;
    house
        .import(
            &house.acme.admin.clone(),
            "email,role,teams\nclerk@acme.example,end_user,\nx@acme.example,agent,Net\n",
            How { create: true, dry: false },
        )
        .await;
    let clerk = house.person("clerk@acme.example").await.unwrap();
    let mut owner = house.db.owner().await;
    for (name, permissions, grant) in [
        (
            "Personnel",
            r#"{"people.read": "organization", "people.manage": "organization", "teams.manage": "organization",
                          "tickets.view": "organization", "tickets.view_own": "own", "tickets.create": "organization"}"#,
            "insert into role_grants (id, organization_id, role_id, user_id, created_at)
          select gen_random_uuid(), r.organization_id, r.id, u.id, now() from roles r, users u
           where r.name = $1 and u.email = 'clerk@acme.example'",
        ),
        (
            "Workers",
            r#"{"tickets.work": "organization"}"#,
            "insert into role_grants (id, organization_id, role_id, team_id, created_at)
          select gen_random_uuid(), r.organization_id, r.id, t.id, now() from roles r, teams t
           where r.name = $1 and t.name = 'Net'",
        ),
    ] {
        sqlx::query(
            "insert into roles (id, organization_id, name, permissions, created_at, updated_at)
             values (gen_random_uuid(), $1, $2, $3::jsonb, now(), now())",
        )
        .bind(house.acme.id.0)
        .bind(name)
        .bind(permissions)
        .execute(&mut owner)
        .await
        .unwrap();
        sqlx::query(grant).bind(name).execute(&mut owner).await.unwrap();
    }
    let table = "email,role,teams\nx@acme.example,,Net\none@acme.example,,Net\ntwo@acme.example,,Net\n";
    let actor = acting(&house, clerk.id).await;
    let refused = house.import(&actor, table, How::default()).await;
    // Who is in it already is no question.
    let lines: Vec<(u64, bool)> =
        refused.errors.iter().map(|error| (error.line, error.detail.contains("tickets.work"))).collect();
    assert_eq!(lines, [(3, true), (4, true)], "{:?}", refused.errors);
    // By the roles of the team end users are staff.
    let done = house.import(&house.acme.admin.clone(), table, How::default()).await;
    assert_eq!((done.status, done.counts.created), (ImportStatus::Done, 2), "{:?}", done.errors);
}

#[tokio::test]
async fn three_hundred_lines_cost_the_statements_of_two() {
    let house = House::new().await;
    count_statements();
    let mut all_costs = Vec::new();
    // The first opens the connection.
    for people in [2, 2, 300] {
        let mut made = String::from("email,role,external_id,department,teams,manager\n");
        let mut changed = String::from("email,phone,department\n");
        for n in 0..people {
            let manager = if n == 0 { "" } else { "p0@acme.example" };
            writeln!(made, "p{n}@acme.example,agent,{n},Operations,Net|Ops,{manager}").unwrap();
            writeln!(changed, "p{n}@acme.example,+49 30 {n},Sales").unwrap();
        }
        let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
        let mut costs = Vec::new();
        // New, handed in again, and with something else.
        for csv in [&made, &made, &changed] {
            let rows = connectors::people_csv::read(csv.as_bytes()).unwrap();
            let before = statements_sent();
            let report = imports::apply(&mut tx, &house.acme.admin, true, &rows).await.unwrap();
            costs.push(statements_sent() - before);
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            let Counts { created, changed, unchanged, .. } = report.counts;
            assert_eq!([created, unchanged, changed][costs.len() - 1], people, "{:?}", report.counts);
        }
        tx.rollback().await.unwrap();
        all_costs.push(costs);
    }
    assert_eq!(all_costs[1], all_costs[2], "{all_costs:?}");
}

async fn acting(house: &House, user: UserId) -> Actor {
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let holder = store::rights::of(&mut tx, user).await.unwrap().unwrap();
    Actor::user(house.acme.id, user, holder.name, holder.rights)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_people_are_one_transaction() {
    let house = House::new().await;
    let mut csv = String::from("email,name,external_id,department\n");
    for n in 0..10_000 {
        writeln!(csv, "p{n}@acme.example,Person {n},{n},Department {}", n % 20).unwrap();
    }
    let done = house.import(&house.acme.admin.clone(), &csv, How { create: true, dry: false }).await;
    assert_eq!((done.status, done.counts.created), (ImportStatus::Done, 10_000), "{:?}", done.errors.first());
    assert_eq!(house.count("select count(*) from users").await, 10_003);
    assert_eq!(
        house.count("select count(distinct created_at) from users where external_id is not null").await,
        1
    );
    assert_eq!(house.count("select count(*) from departments").await, 20);
}
