//! What operators look at and turn: counts, lanes at rest, limits, who holds back vacuum.

use crate::scripted::{Bench, LANE, OTHER_LANE, eventually};
use crate::yard::{Call, Yard};
use queue::admin::{self, LaneView, LimitChange};
use queue::{EngineConfig, NewJob, horizon};
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use uuid::Uuid;

async fn lay(owner: &mut PgConnection, from: i32, to: i32, organization: Option<Uuid>) {
    sqlx::query(
        "insert into queue.jobs (id, organization_id, due_at, rank, state, max_attempts, lane, kind, args)
         select ('01900000-0000-7000-8000-' || lpad((n * 4 + s.o)::text, 12, '0'))::uuid, $3, now() - interval '1 minute', now(), s.name::queue.state, 4,
                case when n % 100 = 0 then $5 else $4 end, 'k', '{}'
         from generate_series($1, $2) n, unnest(array['ready', 'scheduled', 'limited', 'dead']) with ordinality s(name, o)",
    )
    .bind(from)
    .bind(to)
    .bind(organization)
    .bind(LANE)
    .bind(OTHER_LANE)
    .execute(owner)
    .await
    .unwrap();
}

fn numbers(lane: &LaneView) -> [i64; 4] {
    [lane.ready, lane.scheduled, lane.limited, lane.dead]
}

/// The lanes, and how many rows were fetched by index for them: the sample's are those of 1,000 pages.
async fn count(connection: &mut PgConnection, organization: Option<Uuid>) -> (Vec<LaneView>, i64) {
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("select set_config('app.organization_id', $1, true)")
        .bind(organization.map(|id| id.to_string()).unwrap_or_default())
        .execute(&mut *tx)
        .await
        .unwrap();
    let fetched = "select idx_tup_fetch::bigint from pg_stat_xact_all_tables where schemaname = 'queue' and relname = 'jobs'";
    let before: i64 = sqlx::query_scalar(fetched).fetch_one(&mut *tx).await.unwrap();
    let lanes = admin::lanes(&mut tx, organization).await.unwrap();
    let after: i64 = sqlx::query_scalar(fetched).fetch_one(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    (lanes, after - before)
}

#[tokio::test]
async fn counts_cost_the_same_however_many_there_are() {
    let bench = Bench::new().await;
    let (mut owner, mut connection) = (bench.db.owner().await, bench.pool().acquire().await.unwrap());
    admin::know_lanes(&mut connection, &[LANE, OTHER_LANE]).await.unwrap();
    let ours = Uuid::now_v7();
    lay(&mut owner, 1, 1000, None).await;
    lay(&mut owner, 1001, 1200, Some(ours)).await;
    let (lanes, _) = count(&mut connection, None).await;
    let by_name =
        |lanes: &[LaneView], name: &str| lanes.iter().find(|lane| lane.name == name).unwrap().clone();
    assert_eq!(numbers(&by_name(&lanes, LANE)), [1188; 4]);
    assert_eq!(numbers(&by_name(&lanes, OTHER_LANE)), [12; 4]);
    assert!(lanes.iter().all(|lane| !lane.approximate && lane.running == 0));
    assert!(by_name(&lanes, LANE).oldest_ready_age_seconds >= 60.0);
    let (own, small) = count(&mut connection, Some(ours)).await;
    assert_eq!((numbers(&by_name(&own, LANE)), numbers(&by_name(&own, OTHER_LANE))), ([198; 4], [2; 4]));

    lay(&mut owner, 1201, 9000, None).await;
    let (_, some) = count(&mut connection, None).await;
    lay(&mut owner, 9001, 20000, None).await;
    let (lanes, more) = count(&mut connection, None).await;
    assert!(some <= 13_000 && more <= 13_000, "{some}, {more} rows were read");
    let large = by_name(&lanes, LANE);
    assert!(large.approximate && large.oldest_ready_age_seconds >= 60.0);
    // The table has little more than a thousand pages here, so the sample is nearly all of it.
    assert!(numbers(&large).iter().all(|n| (10_000..30_000).contains(n)), "{large:?}");
    let exact = by_name(&lanes, OTHER_LANE);
    assert_eq!((numbers(&exact), exact.approximate), ([200; 4], false));
    // One organization reads its own.
    let (own, read) = count(&mut connection, Some(ours)).await;
    assert_eq!(numbers(&by_name(&own, LANE)), [198; 4]);
    assert!(read <= small + 10, "{read} rows were read for 800");
    owner.close().await.unwrap();
}

/// A bucket of three, one token each thousand seconds: what was reserved by that rate does not bind the next one.
#[tokio::test]
async fn a_rate_set_wrongly_is_mended_at_once() {
    let yard = Yard::new().await;
    let engine = yard.start(8);
    let calls: Vec<_> = (0..6).map(|_| NewJob::of(&Call { key: "a".into() })).collect();
    yard.enqueue_all(&calls).await;
    eventually("three tokens to be used", || async {
        (yard.bench.count("select count(*) from queue.history").await == 3 && yard.limited().await == 3)
            .then_some(())
    })
    .await;
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    let limits = admin::limits(&mut connection, None).await.unwrap();
    let limit = limits.iter().find(|limit| limit.name == "call/rate/key").unwrap();
    assert_eq!((limit.waiting, limit.held), (3, 0));
    let others = admin::limits(&mut connection, Some(Uuid::now_v7())).await.unwrap();
    assert!(others.iter().all(|limit| limit.waiting == 0), "another organization sees its own");
    let change = LimitChange { per_second: Some(100.0), ..LimitChange::default() };
    assert!(admin::set_limit(&mut connection, "call/rate/key", change).await.unwrap());
    yard.work_off().await;
    engine.shutdown(Duration::from_secs(5)).await;
}

fn gauge(name: &str) -> f64 {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == name);
    family.and_then(|family| family.get_metric().first()).map_or(0.0, |metric| metric.get_gauge().get_value())
}

#[tokio::test]
async fn a_long_transaction_is_named_and_raises_the_alarm() {
    let bench = Bench::new().await;
    let mut long = bench.db.owner().await;
    sqlx::raw_sql("set application_name = 'nightly report'; begin; create table held (n int)")
        .execute(&mut long)
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut long).await.unwrap();
    let mut connection = bench.pool().acquire().await.unwrap();
    let held = horizon::holders(&mut connection).await.unwrap();
    let holder = held.iter().find(|holder| holder.name == pid.to_string()).unwrap();
    assert_eq!((holder.what.as_str(), holder.application.as_deref()), ("session", Some("nightly report")));
    assert!(holder.to_string().contains("nightly report"), "{holder}");

    let config = EngineConfig { xmin_alarm: Duration::from_millis(400), ..Bench::config() };
    let engine = bench.start_with(config);
    eventually("the age of the horizon", || async {
        (gauge("relaydesk_db_oldest_xmin_age_seconds") >= 0.4).then_some(())
    })
    .await;
    sqlx::raw_sql("rollback").execute(&mut long).await.unwrap();
    let held = horizon::holders(&mut connection).await.unwrap();
    assert!(held.iter().all(|holder| holder.name != pid.to_string()), "{held:?}");
    engine.shutdown(Duration::from_secs(5)).await;
    long.close().await.unwrap();
}
