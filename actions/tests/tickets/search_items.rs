//! The full-text search of configuration items, by an index of its own beside that of tickets.

use crate::{counted, house};
use sqlx::AssertSqlSafe;
use store::Tx;
use store::configuration_items::{LIST, list};
use store::search::{Search, Searched};
use testkit::{Organization, TestDb, organization};

/// Items that are just there, many at once.
async fn fill(db: &TestDb, organization: &Organization, count: i32, text: &str) {
    let mut owner = db.owner().await;
    let sql = "insert into configuration_items (id, organization_id, name, class, status, description, attributes, created_at, updated_at)
               select gen_random_uuid(), $1, 'host' || n, 'server', 'active', replace($3, '#', n::text),
                      jsonb_build_object('serial', 'SN' || n), now(), now() from generate_series(1, $2) n";
    let query = sqlx::query(sql).bind(organization.id.0).bind(count).bind(text);
    query.execute(&mut owner).await.unwrap();
    for table in ["configuration_items", "search.items"] {
        sqlx::raw_sql(AssertSqlSafe(format!("vacuum analyze {table}"))).execute(&mut owner).await.unwrap();
    }
}

async fn names(tx: &mut Tx, q: &str) -> Vec<String> {
    let mut wanted = LIST.all(50);
    wanted.q = Some(q.to_owned());
    list(tx, &wanted).await.unwrap().into_iter().map(|row| row.item.name).collect()
}

#[tokio::test]
async fn items_are_searched_by_the_index_as_the_role_of_the_application() {
    let (db, acme) = house().await;
    fill(&db, &acme, 3000, "In rack# of the first hall").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let (index, table) = ("search.items_words_idx", "search.items");
    for (q, found) in [
        ("host1234", 1),
        ("\"rack77 of\" sn77", 1),
        ("\"rack77 of\" -hall", 0),
        ("host299", 11),
        ("host12 or sn13", 2),
        ("SN2999", 1),
        ("nowhere", 0),
    ] {
        let before = counted(&mut tx, "numscans", index).await;
        let read = counted(&mut tx, "tuples_returned", "configuration_items").await;
        assert_eq!(names(&mut tx, q).await.len(), found, "{q}");
        assert!(counted(&mut tx, "numscans", index).await > before, "{q}: the index is not asked");
        assert_eq!(counted(&mut tx, "numscans", table).await, 0, "{q}: the words were read one by one");
        let after = counted(&mut tx, "tuples_returned", "configuration_items").await;
        assert_eq!(after, read, "{q}: items were read one by one");
    }
    // What all of them hold, and what says only what must not be there, is found in the order of the list.
    for q in ["hall", "serv", "-nowhere"] {
        assert_eq!(names(&mut tx, q).await.len(), 50, "{q}");
    }
    for (q, expected) in [("hall", None), ("-hall", None), ("nowhere", Some(vec![]))] {
        let candidates = Search::of(Some(q)).unwrap().candidates(&mut tx, Searched::Items).await.unwrap();
        assert_eq!(candidates, expected, "{q}");
    }
}

#[tokio::test]
async fn items_of_others_are_never_found() {
    let (db, acme) = house().await;
    let other = organization(&db, "other").await;
    fill(&db, &acme, 3, "aardvark shared").await;
    fill(&db, &other, 3, "zebra shared").await;
    for (begun, theirs) in [(&acme, "zebra"), (&other, "aardvark")] {
        let mut tx = db.db.begin(begun.id).await.unwrap();
        assert_eq!(names(&mut tx, "shared").await.len(), 3);
        for q in [theirs, &theirs[..3], &format!("{theirs} or -shared")] {
            assert_eq!(names(&mut tx, q).await, [""; 0], "{q}");
        }
        // One's own only, before row level security has a say.
        let search = Search::of(Some("zebra or aardvark")).unwrap();
        let candidates = search.candidates(&mut tx, Searched::Items).await.unwrap();
        assert_eq!(candidates.map(|found| found.len()), Some(3));
    }
    let mut system = db.db.begin_system().await.unwrap();
    let nobody = Search::of(Some("shared")).unwrap().candidates(&mut system, Searched::Items).await.unwrap();
    assert_eq!(nobody, Some(vec![]));
}

#[tokio::test]
async fn the_index_follows_the_item() {
    let (db, acme) = house().await;
    fill(&db, &acme, 1, "aardvark").await;
    let mut owner = db.owner().await;
    let written = "select string_agg(xmin::text, ',') from search.items";
    let before: String = sqlx::query_scalar(written).fetch_one(&mut owner).await.unwrap();
    // Discovery says the same again, and that it saw it.
    let same = "update configuration_items set name = name, attributes = attributes, last_seen_at = now(), version = version + 1";
    sqlx::query(same).execute(&mut owner).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, String>(written).fetch_one(&mut owner).await.unwrap(), before);
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let changed = "update configuration_items set description = 'zebra', attributes = '{\"rack\": \"r7\"}'";
    sqlx::query(changed).execute(&mut *tx).await.unwrap();
    assert_eq!(names(&mut tx, "aardvark").await, [""; 0]);
    assert_eq!(names(&mut tx, "sn1").await, [""; 0]);
    assert_eq!(names(&mut tx, "zebra r7").await, ["host1"]);
    sqlx::query("delete from configuration_items").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let left: i64 =
        sqlx::query_scalar("select count(*) from search.items").fetch_one(&mut owner).await.unwrap();
    assert_eq!(left, 0);
}
