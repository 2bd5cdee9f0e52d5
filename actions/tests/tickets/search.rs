//! The full-text search: by an index that is everybody's, and still nothing of anybody else.

use crate::{counted, fill, house, opened};
use actions::tickets::{NewTicket, TicketPatch, open, update};
use domain::Actor;
use domain::permission::{Reach, reach};
use domain::ticket::{Level, Source};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use store::listing::{Condition, Is};
use store::search::{Search, Searched};
use store::ticket_list::{FIELDS, TicketFilter, list, order};
use store::{Db, Tx};
use testkit::{Organization, organization};
use uuid::Uuid;

fn words(q: &str) -> TicketFilter {
    TicketFilter { q: Some(q.to_owned()), ..TicketFilter::default() }
}

async fn titles(tx: &mut Tx, reach: &Reach, filter: &TicketFilter) -> Vec<String> {
    let found = list(tx, reach, filter, &order(&[("created_at", true)]), None, 50).await.unwrap();
    found.into_iter().map(|ticket| ticket.item.title).collect()
}

#[tokio::test]
async fn the_words_of_another_organization_are_never_found() {
    let (db, acme) = house().await;
    let other = organization(&db, "other").await;
    let own = opened(&db, &acme.agent, "Aardvark on the printer").await;
    let foreign = opened(&db, &other.agent, "Zebra on the printer").await;
    for (begun, mine, theirs) in [(&acme, &own, "zebra"), (&other, &foreign, "aardvark")] {
        let mut tx = db.db.begin(begun.id).await.unwrap();
        assert_eq!(titles(&mut tx, &Reach::Everything, &words("printer")).await, [mine.title.as_str()]);
        for q in [theirs, &theirs[..3], &format!("\"{theirs} on\""), &format!("{theirs} or -printer")] {
            assert_eq!(titles(&mut tx, &Reach::Everything, &words(q)).await, [""; 0], "{q}");
        }
        // Not even before row level security has a say.
        let candidates = Search::of(Some("printer or zebra or aardvark"))
            .unwrap()
            .candidates(&mut tx, Searched::Tickets)
            .await;
        assert_eq!(candidates.unwrap(), Some(vec![mine.id.0]));
        // The index' own form of a word is no way in: four letters of the organization before it.
        let mut owner = db.owner().await;
        for word in ["zebra", "aardvark"] {
            for organization in [acme.id, other.id] {
                let key: String = sqlx::query_scalar("select search.key($1, $2)")
                    .bind(organization.0)
                    .bind(word)
                    .fetch_one(&mut owner)
                    .await
                    .unwrap();
                let asked = sqlx::query_scalar("select search.tickets_with(format('%L', $1)::tsquery, 10)");
                let found: Vec<Uuid> = asked.bind(&key).fetch_one(&mut *tx).await.unwrap();
                assert!(found.is_empty(), "{key}");
            }
        }
    }
    let mut system = db.db.begin_system().await.unwrap();
    let nobody =
        Search::of(Some("printer")).unwrap().candidates(&mut system, Searched::Tickets).await.unwrap();
    assert_eq!(nobody, Some(vec![]), "without an organization there is nothing to find");
}

#[tokio::test]
async fn the_application_reads_nothing_of_the_index_but_by_its_one_function() {
    let (db, acme) = house().await;
    opened(&db, &acme.agent, "Aardvark").await;
    for statement in [
        "select * from search.tickets",
        "insert into search.tickets select organization_id, id, 'a' from tickets",
        "update search.tickets set words = ''",
        "delete from search.tickets",
        "truncate search.tickets",
        "select * from search.items",
        "delete from search.items",
        "select search.key(gen_random_uuid(), 'a')",
        "select search.narrowed(gen_random_uuid(), 'a')",
        "create function search.mine() returns int language sql return 1",
    ] {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        let error = sqlx::query(statement).execute(&mut *tx).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("42501"), "{statement}");
    }
    // A table or function of the caller's in front of those that are meant.
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let sql = "create temp table tickets (organization_id uuid, ticket_id uuid, words tsvector); set local search_path = pg_temp, public";
    if sqlx::raw_sql(sql).execute(&mut *tx).await.is_ok() {
        let candidates =
            Search::of(Some("aardvark")).unwrap().candidates(&mut tx, Searched::Tickets).await.unwrap();
        assert_eq!(candidates.map(|found| found.len()), Some(1));
    }
    let mut owner = db.owner().await;
    let loose: Vec<String> = sqlx::query_scalar(
        "select oid::regprocedure::text from pg_proc p where pronamespace = 'search'::regnamespace
            and (prosecdef and not coalesce(proconfig @> '{\"search_path=pg_catalog, pg_temp\"}', false)
                 or has_function_privilege('relaydesk_app', oid, 'execute') and proname not in ('tickets_with', 'items_with'))",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(loose, [""; 0]);
}

/// Blocks that a look into the index takes.
async fn blocks(db: &Db, organization: &Organization, q: &str) -> i64 {
    let mut tx = db.begin(organization.id).await.unwrap();
    let sql = "explain (analyze, buffers, timing off, format json) select search.tickets_with(websearch_to_tsquery('simple', $1), 2000)";
    let mut last = 0;
    // At first also catalogues are read.
    for _ in 0..3 {
        let row = sqlx::query(AssertSqlSafe(sql.replace("$1", &format!("'{q}'"))))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let plan: serde_json::Value = row.get(0);
        last = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
            + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap();
    }
    last
}

#[tokio::test]
async fn a_search_reaches_the_index_as_the_role_of_the_application() {
    let (db, acme) = house().await;
    fill(&db, &acme, "A", 3000, "A word and another one, case#").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let (index, table) = ("search.tickets_words_idx", "search.tickets");
    for (q, found) in
        [("case1234", 1), ("\"one case77\"", 1), ("case29 -case291", 1), ("case299", 11), ("nowhere", 0)]
    {
        let before = counted(&mut tx, "numscans", index).await;
        let read = counted(&mut tx, "tuples_returned", "tickets").await;
        assert_eq!(titles(&mut tx, &Reach::Everything, &words(q)).await.len(), found, "{q}");
        assert!(counted(&mut tx, "numscans", index).await > before, "{q}: the index is not asked");
        assert_eq!(counted(&mut tx, "numscans", table).await, 0, "{q}: the words were read one by one");
        assert_eq!(
            counted(&mut tx, "tuples_returned", "tickets").await,
            read,
            "{q}: tickets were read one by one"
        );
    }
    drop(tx);
    // What others have costs nothing, so that the time it takes tells nothing about it either.
    let before = blocks(&db.db, &acme, "case1234").await;
    assert!(before < 40, "{before} blocks for one ticket of 3,000");
    let other = organization(&db, "other").await;
    fill(&db, &other, "B", 6000, "The very word: case1234 #").await;
    let after = blocks(&db.db, &acme, "case1234").await;
    assert!(after <= before + 4, "{before} blocks, and {after} when others have the word 6,000 times");
}

#[tokio::test]
async fn what_too_many_tickets_hold_is_found_in_every_order_and_page() {
    let (db, acme) = house().await;
    fill(&db, &acme, "A", 2400, "A common word, case#").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    assert_eq!(
        Search::of(Some("common")).unwrap().candidates(&mut tx, Searched::Tickets).await.unwrap(),
        None,
        "too many"
    );
    assert_eq!(
        Search::of(Some("-common")).unwrap().candidates(&mut tx, Searched::Tickets).await.unwrap(),
        None,
        "says nothing"
    );
    let high = Condition::new(FIELDS, "priority", Is::Text(vec!["high".into(), "critical".into()])).unwrap();
    // Many, few, and few of many by other filters.
    for (filter, expected) in [
        (words("comm"), 2400),
        (words("case1"), 1111),
        (TicketFilter { conditions: vec![high], ..words("common") }, 1200),
    ] {
        for by in [&[("created_at", true)][..], &[("priority", false), ("created_at", false)]] {
            let order = order(by);
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page =
                    list(&mut tx, &Reach::Everything, &filter, &order, after.as_ref(), 199).await.unwrap();
                let Some(last) = page.last() else { break };
                after = order.read(last.place.clone());
                seen.extend(page.into_iter().map(|row| row.item.id));
            }
            let whole = list(&mut tx, &Reach::Everything, &filter, &order, None, 3000).await.unwrap();
            assert_eq!(seen, whole.iter().map(|row| row.item.id).collect::<Vec<_>>(), "{filter:?} {by:?}");
            assert_eq!(seen.len(), expected, "{filter:?}");
        }
    }
}

/// The same as without the index: by comparing the words of each ticket.
#[tokio::test]
async fn the_index_finds_what_comparing_finds() {
    let (db, acme) = house().await;
    let long = "long".repeat(120);
    for title in [
        "db-01 does not answer",
        "it's a \\ in C:\\temp\\file.txt",
        "mail from ann@mail.example about https://wiki.example/page?x=1",
        "Größe 12,5 µm — naïve 日本語 テスト 🦀",
        "the paper jam",
        "the jam of paper",
        "or and not",
        &format!("{long} one"),
        &format!("{long}two"),
        "a & b | c ! d <-> e : * 'f'",
        "-17.5 e10 0x1f v1.2.3",
    ] {
        opened(&db, &acme.agent, title).await;
    }
    let terms = [
        "db-01",
        "db",
        "01",
        "it's",
        "it",
        "\\",
        "c:\\temp",
        "temp",
        "ann@mail.example",
        "ann",
        "wiki.example/page",
        "Größe",
        "grö",
        "naïve",
        "日本語",
        "🦀",
        "\"paper jam\"",
        "\"jam paper\"",
        "paper",
        "\"the paper\"",
        "or",
        "and",
        "not",
        &long,
        &long[..70],
        "& | !",
        "<->",
        "'f'",
        "f:*",
        "v1.2.3",
        "-17.5",
        "17",
        "\"",
        "'",
        "(",
        "\"a b",
        "the:A",
        "'); select 1; --",
        "%",
        "inc0000003",
    ];
    let mut queries: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
    for (at, term) in terms.iter().enumerate() {
        let other = terms[(at * 7 + 3) % terms.len()];
        queries.extend([
            format!("-{term}"),
            format!("{term} {other}"),
            format!("{term} or {other}"),
            format!("{term} -{other}"),
            format!("-{term} or {other}"),
            format!("\"{term} {other}\" or -{other} {term}"),
        ]);
    }
    queries.extend([
        "-".repeat(256),
        "\"-".repeat(128),
        "- ".repeat(128),
        "a -".repeat(85),
        "or ".repeat(85),
        "\\'".repeat(128),
    ]);
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let mut matched = 0;
    for q in &queries {
        let found = titles(&mut tx, &Reach::Everything, &words(q)).await;
        let mut sql = sqlx::QueryBuilder::new("select title from tickets t where true");
        Search::of(Some(q)).unwrap().condition(&mut sql, Searched::Tickets);
        sql.push(" order by created_at desc, id desc");
        let compared: Vec<String> = sql.build_query_scalar().fetch_all(&mut *tx).await.unwrap();
        assert_eq!(found, compared, "{q:?}");
        matched += usize::from(!found.is_empty());
    }
    assert!(matched > 80, "only {matched} of {} find anything", queries.len());
}

#[tokio::test]
async fn the_index_follows_the_ticket() {
    let (db, acme) = house().await;
    let ticket = opened(&db, &acme.agent, "Aardvark").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let patch = TicketPatch { title: Some("Zebra".into()), ..TicketPatch::default() };
    update(&mut tx, &acme.agent, ticket.id, patch).await.unwrap();
    assert_eq!(titles(&mut tx, &Reach::Everything, &words("aardvark")).await, [""; 0]);
    assert_eq!(titles(&mut tx, &Reach::Everything, &words("zebra")).await, ["Zebra"]);
    tx.commit().await.unwrap();
    let rows = async |owner: &mut PgConnection| -> i64 {
        sqlx::query_scalar("select count(*) from search.tickets").fetch_one(owner).await.unwrap()
    };
    let mut owner = db.owner().await;
    assert_eq!(rows(&mut owner).await, 1);
    sqlx::query("delete from tickets").execute(&mut owner).await.unwrap();
    assert_eq!(rows(&mut owner).await, 0);
}

#[tokio::test]
async fn confidential_tickets_are_found_by_those_who_see_them() {
    let (db, acme) = house().await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let secret = NewTicket {
        is_confidential: true,
        urgency: Level::High,
        requester: acme.end_user.user_id(),
        ..NewTicket::incident("Salaries were mailed to everybody", Source::Api)
    };
    open(&mut tx, &acme.admin, secret).await.unwrap();
    tx.commit().await.unwrap();
    let sees = async |actor: &Actor, q: &str| {
        let mut tx = db.db.begin(acme.id).await.unwrap();
        !titles(&mut tx, &reach(actor), &words(q)).await.is_empty()
    };
    for q in ["salaries", "sal", "\"were mailed\"", "-nothing", "salaries or nothing"] {
        assert!(sees(&acme.end_user, q).await, "the requester, {q}");
        assert!(!sees(&acme.agent, q).await, "an agent who has no part in it, {q}");
    }
}
