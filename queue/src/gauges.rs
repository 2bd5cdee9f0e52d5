//! What the leader shows of the jobs that wait. The counts cost the same however many there are: see `admin::lanes`.

use crate::admin;
use crate::metrics;
use sqlx::PgConnection;

/// Dead letters of a kind are counted up to this many.
const COUNTED: i64 = 10_000;

pub(crate) async fn show(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for lane in admin::lanes(connection, None).await? {
        let name = [lane.name.as_str()];
        metrics::READY.with_label_values(&name).set(lane.ready);
        metrics::OLDEST_READY.with_label_values(&name).set(lane.oldest_ready_age_seconds);
        metrics::WAITING_FOR_LIMITS.with_label_values(&name).set(lane.limited);
        if lane.transport == "rabbitmq" {
            metrics::UNPUBLISHED.with_label_values(&name).set(lane.unpublished);
        }
    }
    let dead: Vec<(String, i64)> = sqlx::query_as(
        "with recursive died as ( \
           (select kind from queue.jobs where state = 'dead' order by kind limit 1) \
           union all \
           select next.kind from died cross join lateral ( \
             select kind from queue.jobs where state = 'dead' and kind > died.kind order by kind limit 1) next) \
         select kind, (select count(*) from (select from queue.jobs j where j.state = 'dead' and j.kind = died.kind limit $1) counted) \
         from died",
    )
    .bind(COUNTED)
    .fetch_all(connection)
    .await?;
    metrics::DEAD.reset();
    for (kind, count) in dead {
        metrics::DEAD.with_label_values(&[kind.as_str()]).set(count);
    }
    Ok(())
}

/// Another process shows them now.
pub(crate) fn hide() {
    metrics::READY.reset();
    metrics::OLDEST_READY.reset();
    metrics::WAITING_FOR_LIMITS.reset();
    metrics::UNPUBLISHED.reset();
    metrics::DEAD.reset();
    metrics::OLDEST_XMIN.set(0.0);
    metrics::OLDEST_XMIN_TRANSACTIONS.set(0);
}
