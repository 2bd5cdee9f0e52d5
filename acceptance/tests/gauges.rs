//! Story: an operator looks at `/metrics`, and the numbers of jobs are those of the jobs that are there.

use std::time::{Duration, Instant};
use testkit::App;

/// A lane at rest with a line in each state, dead letters of two kinds, and a worker that holds jobs and one place of a limit.
const JOBS: &str = "
    insert into queue.lanes (name, paused) values ('reports', true) on conflict (name) do update set paused = true;
    insert into queue.workers (id, name, lanes, running, beat_at)
    values ('01900000-0000-7000-8000-000000000001', 'elsewhere', '{reports}', '{2}', now() + interval '1 day');
    insert into queue.limits (name, at_once) values ('gauged', 1);
    insert into queue.slots (name, limit_name) values ('gauged:x', 'gauged');
    create function lay(how_many int, state queue.state, lane text, kind text, due timestamptz, holder uuid default null, slot text default null)
        returns void language sql as $$
        insert into queue.jobs (id, due_at, rank, state, max_attempts, lane, kind, args, worker, claimed_at, run, waits_for)
        select gen_random_uuid(), due, due, state, 3, lane, kind, '{}', holder, case when holder is not null then now() end, 1, slot
        from generate_series(1, how_many)
    $$;
    select lay(7, 'ready', 'reports', 'run_report', now() - interval '1000 seconds');
    select lay(3, 'scheduled', 'reports', 'run_report', now() + interval '1 hour');
    select lay(4, 'limited', 'reports', 'run_report', now(), null, 'gauged:x');
    select lay(2, 'ready', 'reports', 'run_report', now() - interval '2000 seconds', '01900000-0000-7000-8000-000000000001');
    insert into queue.permits (slot, job_id, run)
    select 'gauged:x', id, run from queue.jobs where worker = '01900000-0000-7000-8000-000000000001' limit 1;
    select lay(5, 'dead', 'reports', 'run_report', now());
    select lay(6, 'dead', 'mail', 'send_mail', now());";

/// The value of a sample, if it is shown.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_jobs_are_those_of_the_jobs() {
    let app = App::start().await;
    sqlx::raw_sql(JOBS).execute(&mut app.db.owner().await).await.unwrap();
    let expected = [
        ("relaydesk_jobs_ready{lane=\"reports\"}", 7.0),
        ("relaydesk_jobs_ready{lane=\"mail\"}", 0.0),
        ("relaydesk_jobs_limited{lane=\"reports\"}", 4.0),
        ("relaydesk_jobs_dead{kind=\"run_report\"}", 5.0),
        ("relaydesk_jobs_dead{kind=\"send_mail\"}", 6.0),
    ];
    let begun = Instant::now();
    let metrics = loop {
        let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
        if expected.iter().all(|(name, value)| sample(&metrics, name) == Some(*value)) {
            break metrics;
        }
        let shown: Vec<_> = metrics.lines().filter(|line| line.starts_with("relaydesk_job")).collect();
        assert!(begun.elapsed() < Duration::from_secs(60), "{expected:?} is not what is shown: {shown:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // Of those that wait, not of those that run.
    let oldest = sample(&metrics, "relaydesk_job_oldest_ready_age_seconds{lane=\"reports\"}").unwrap();
    assert!((1000.0..1900.0).contains(&oldest), "{oldest}");
    // The command line counts the same, with what has no gauge.
    let shown = app.run(&["lanes", "show", "reports", "--json"]).await;
    let lane: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let numbers =
        ["ready", "scheduled", "limited", "running", "dead"].map(|state| lane[state].as_i64().unwrap());
    assert_eq!(numbers, [7, 3, 4, 2, 5], "{lane}");

    // When the last of a kind is gone, so is its number.
    sqlx::raw_sql("delete from queue.jobs where kind = 'send_mail'")
        .execute(&mut app.db.owner().await)
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
        if sample(&metrics, "relaydesk_jobs_dead{kind=\"send_mail\"}").is_none() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "dead letters that are gone are still counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
