//! What the job engine counts. A process shows what it did itself; the gauges are those of the leader.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    register_gauge, register_gauge_vec, register_histogram, register_histogram_vec, register_int_counter,
    register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};
use std::sync::LazyLock;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $make:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<$kind> =
            LazyLock::new(|| $make.expect("a metric is registered once"));)*
    };
}

metrics! {
    /// Jobs handed to `enqueue`, also in transactions that rolled back.
    ENQUEUED: IntCounterVec = register_int_counter_vec!("relaydesk_job_enqueued_total", "Jobs enqueued", &["lane", "kind"]);
    ATTEMPTS: IntCounterVec = register_int_counter_vec!("relaydesk_job_attempts_total", "Runs by how they ended", &["kind", "outcome"]);
    DURATION: HistogramVec = register_histogram_vec!("relaydesk_job_duration_seconds", "Duration of a run", &["kind"],
        vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0]);
    WAIT: HistogramVec = register_histogram_vec!("relaydesk_job_queue_wait_seconds", "From due to claimed", &["lane"],
        vec![0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 300.0, 3600.0]);
    READY: IntGaugeVec = register_int_gauge_vec!("relaydesk_jobs_ready", "Jobs waiting for a worker", &["lane"]);
    OLDEST_READY: GaugeVec = register_gauge_vec!("relaydesk_job_oldest_ready_age_seconds", "Age of the job that waits longest", &["lane"]);
    /// Only as many labels as limits are declared: never a tenant or a key.
    LIMITED: IntCounterVec = register_int_counter_vec!("relaydesk_job_limited_total", "Jobs that had to wait for a limit", &["limit"]);
    WAITING_FOR_LIMITS: IntGaugeVec = register_int_gauge_vec!("relaydesk_jobs_limited", "Jobs waiting for a limit", &["lane"]);
    DRIFT: IntCounter = register_int_counter!("relaydesk_job_limit_drift_total", "Permits without a running job, taken away");
    BATCH_DRIFT: IntCounter = register_int_counter!("relaydesk_job_batch_drift_total", "Parts of batches whose counts did not fit their jobs, mended");
    OLDEST_XMIN: Gauge = register_gauge!("relaydesk_db_oldest_xmin_age_seconds", "For how long the oldest transaction, slot or prepared transaction has held back vacuum");
    OLDEST_XMIN_TRANSACTIONS: IntGauge = register_int_gauge!("relaydesk_db_oldest_xmin_age_transactions", "The same in transactions that have begun since");
    DEAD: IntGaugeVec = register_int_gauge_vec!("relaydesk_jobs_dead", "Dead letters", &["kind"]);
    FENCED: IntCounter = register_int_counter!("relaydesk_job_fenced_total", "Writes of runs whose lease was lost, refused");
    RESCUED: IntCounter = register_int_counter!("relaydesk_job_rescued_total", "Jobs taken back from lost workers");
    LAST_TICK: IntGauge = register_int_gauge!("relaydesk_scheduler_last_tick_timestamp_seconds", "When schedules were last looked at");
    AMQP_CONNECTED: IntGaugeVec = register_int_gauge_vec!("relaydesk_amqp_connected", "1 while this process is connected to the broker", &["purpose"]);
    AMQP_BLOCKED: IntGaugeVec = register_int_gauge_vec!("relaydesk_amqp_connection_blocked", "1 while the broker takes no messages on this connection (memory or disk alarm)", &["purpose"]);
    AMQP_PUBLISHED: IntCounterVec = register_int_counter_vec!("relaydesk_amqp_published_total", "Messages of jobs by what the broker said", &["lane", "outcome"]);
    AMQP_CONFIRM: Histogram = register_histogram!("relaydesk_amqp_publish_confirm_seconds", "From the first publish of a batch to its last confirmation",
        vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0]);
    AMQP_DELIVERED: IntCounterVec = register_int_counter_vec!("relaydesk_amqp_delivered_total", "Messages received, by what became of them", &["lane", "outcome"]);
    AMQP_REPUBLISHED: IntCounterVec = register_int_counter_vec!("relaydesk_amqp_republished_total", "Jobs whose message was lost", &["lane"]);
    MESSAGES_PUBLISHED: IntCounterVec = register_int_counter_vec!("relaydesk_amqp_messages_published_total", "Messages with bodies of their own, by what the broker said", &["queue", "outcome"]);
    MESSAGES_CONSUMED: IntCounterVec = register_int_counter_vec!("relaydesk_amqp_messages_consumed_total", "Messages with bodies of their own, by what became of them", &["queue", "outcome"]);
    MESSAGES_WAITING: IntGaugeVec = register_int_gauge_vec!("relaydesk_amqp_queue_messages", "Messages that wait in a queue of the broker, as its consumers see it", &["queue"]);
    REMOTE_ANSWERS: IntCounterVec = register_int_counter_vec!("relaydesk_remote_answers_total", "Messages of remote workers, by what became of them", &["outcome"]);
    REMOTE_REQUESTS: IntCounterVec = register_int_counter_vec!("relaydesk_remote_requests_total", "Requests that came to this remote worker, by how they ended", &["outcome"]);
    UNPUBLISHED: IntGaugeVec = register_int_gauge_vec!("relaydesk_outbox_unpublished", "Ready jobs of lanes on RabbitMQ that are not published", &["lane"]);
}
