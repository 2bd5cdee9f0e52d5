//! What lists are sorted by is read off an index, in both directions, under row level security.

use sqlx::{Postgres, QueryBuilder};
use store::listing::{List, Order};

const LISTS: [List; 14] = [
    store::ticket_list::LIST,
    store::configuration_items::LIST,
    store::users::LIST,
    store::teams::LIST,
    store::departments::LIST,
    store::alerts::LIST,
    store::audit::LIST,
    store::sla_breaches::LIST,
    store::deliveries::LIST,
    store::webhook_deliveries::LIST,
    store::inbox::LIST,
    store::report_executions::LIST,
    store::ci_relationships::LIST,
    store::user_imports::LIST,
];

#[tokio::test]
async fn each_order_has_an_index() {
    let db = testkit::database().await;
    let acme = testkit::organization(&db, "acme").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    // Tables of tests are so small that nobody would use an index.
    for off in ["enable_seqscan", "enable_bitmapscan", "enable_sort"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("set local {off} = off"))).execute(&mut *tx).await.unwrap();
    }
    let mut seen = 0;
    for list in &LISTS {
        for field in list.fields.iter().filter(|field| field.order.is_some()) {
            for descending in [false, true] {
                let order = Order { by: vec![(*field, descending)], id: list.id };
                let mut sql = QueryBuilder::<Postgres>::new("explain (costs off) select 1");
                list.of_organization(&mut sql, &tx);
                if list.field("deleted").is_some() {
                    sql.push(" and deleted_at is null");
                }
                if list.from.starts_with("tickets") {
                    sql.push(" and kind = 'incident'");
                }
                order.by(&mut sql);
                sql.push(" limit 50");
                let plan: Vec<String> = sql.build_query_scalar().fetch_all(&mut *tx).await.unwrap();
                let plan = plan.join("\n");
                let sorts = plan.lines().any(|line| line.trim_start_matches([' ', '-', '>']) == "Sort");
                assert!(!sorts, "{} by {}:\n{plan}", list.from, field.name);
                seen += 1;
            }
        }
        assert!(list.order(list.usual).is_some(), "{}", list.from);
    }
    assert!(seen > 40, "{seen}");
}
