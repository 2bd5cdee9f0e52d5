//! What was kept long enough goes. What failed, waits, is named or was asked to stay does not.

use crate::desk::Desk;
use actions::jobs::Prune;
use queue::Outcome;
use queue::testing::inline;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::inbox::Status as Kept;
use workers::{Pruning, Settings};

const DAY: Duration = Duration::from_secs(86_400);

fn with_file(id: &str, more: &str, file: &str) -> String {
    format!(
        "From: ada@example.org\nTo: support@desk.example\nSubject: Printer\nMessage-ID: <{id}@example.org>\n{more}\
         MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=part\n\n\
         --part\nContent-Type: text/plain\n\nIt burns.\n\
         --part\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=photo.bin\n\
         Content-Transfer-Encoding: base64\n\n{file}\n--part--\n"
    )
}

async fn prune(desk: &mut Desk, pruning: Pruning) -> Value {
    let settings = Settings { pruning, ..Settings::clone(&desk.shared.settings) };
    desk.shared.settings = Arc::new(settings);
    match inline(&Prune {}).run(&desk.shared).await {
        Ok(Outcome::DoneWith(counts)) => counts,
        other => panic!("{other:?}"),
    }
}

/// Messages, payloads and reports of other days, as the owner of the database would find them.
const LONG_AGO: &str = "
    update inbox set received_at = received_at - interval '100 days', processed_at = processed_at - interval '100 days';
    update deliveries set created_at = created_at - interval '100 days', sent_at = sent_at - interval '100 days';
    insert into deliveries (id, organization_id, unique_key, channel, message_kind, recipient, status, sent_at, created_at, updated_at)
    select gen_random_uuid(), o.id, s.status, 'email', 'test', 'ada@example.org', s.status, s.sent_at,
           now() - interval '100 days', now() - interval '100 days'
      from organizations o, (values ('given_up', null), ('pending', null), ('sent', now())) s(status, sent_at);
    insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, raw, received_at, status, processed_at)
    select gen_random_uuid(), o.id, 'alertmanager', gen_random_uuid(), s.status || n, 'application/json', '{}',
           now() - interval '100 days', s.status, case when s.status <> 'pending' then now() - interval '100 days' end
      from organizations o, (values ('processed', 1200), ('ignored', 1), ('failed', 1), ('pending', 1)) s(status, rows),
           generate_series(1, s.rows) n;
    insert into report_executions (id, organization_id, start_key, kind, time_zone, period_from, period_to, recipients, status, summary, csv,
                                   download_hash, download_until, created_at, finished_at)
    select gen_random_uuid(), o.id, s.key, 'incidents_and_sla', 'UTC', now() - interval '2 days', now() - interval '1 day', '{}', s.status,
           '{}', '', case when s.until is not null then o.id || s.key end, s.until, now() - interval '100 days', now() - interval '100 days'
      from organizations o,
           (values ('done', 'done', null), ('linked', 'done', now() + interval '1 day'), ('expired', 'done', now() - interval '1 day'),
                   ('failed', 'failed', null), ('queued', 'queued', null)) s(key, status, until);";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_worked_off_goes_and_what_failed_or_waits_stays() {
    let mut desk = Desk::open().await;
    let acme = desk.organization.id;
    let globex = testkit::organization(&desk.db, "globex").await;
    desk.receives(&with_file("first", "", "AAEC")).await;
    let (ticket, receipt) = (desk.tickets().await.remove(0), desk.last_message_id().await);
    let automatic = format!("In-Reply-To: {receipt}\nAuto-Submitted: auto-replied\n");
    desk.receives(&with_file("away", &automatic, "AwQF")).await;
    desk.sends("ada@example.org", &["support@desk.example"], b"\x00\x01\xff not a mail").await.unwrap();
    desk.run().await;
    let pending = with_file("waits", "", "BgcI").replace('\n', "\r\n");
    desk.sends("ada@example.org", &["support@desk.example"], pending).await.unwrap();
    let status = async |desk: &Desk| -> Vec<Kept> {
        let mail = desk.inbox().await.into_iter().filter(|entry| entry.source == "mail");
        mail.map(|entry| entry.status).collect()
    };
    assert_eq!(status(&desk).await, [Kept::Processed, Kept::Ignored, Kept::Failed, Kept::Pending]);
    let mut owner = desk.db.owner().await;
    sqlx::raw_sql(LONG_AGO).execute(&mut owner).await.unwrap();

    // For ever: nothing goes. Nor do files that were put today: somebody may be about to name them.
    assert_eq!(prune(&mut desk, Pruning::default()).await, json!({}));
    // Longer than all of it is old.
    let (long, short) = (Some(DAY * 101), Some(DAY * 99));
    let longer =
        Pruning { mail: long, payloads: long, deliveries: long, reports: long, ..Pruning::default() };
    assert_eq!(
        prune(&mut desk, longer).await,
        json!({"mail": 0, "payloads": 0, "deliveries": 0, "reports": 0})
    );
    // Payloads alone, of both organizations, in pieces.
    let payloads = Pruning { payloads: short, ..Pruning::default() };
    assert_eq!(prune(&mut desk, payloads).await, json!({"payloads": 2 * 1201}));
    assert_eq!(status(&desk).await.len(), 4, "raw mail is kept");
    let shorter = Pruning {
        mail: short,
        payloads: short,
        deliveries: short,
        reports: short,
        webhooks: None,
        audit: None,
        unnamed: Duration::ZERO,
    };
    assert_eq!(
        prune(&mut desk, shorter).await,
        json!({"mail": 2, "payloads": 0, "deliveries": 1, "reports": 4, "files": 1})
    );

    assert_eq!(status(&desk).await, [Kept::Failed, Kept::Pending]);
    let left: Vec<(String, i64)> = sqlx::query_as(
        "select 'inbox ' || status, count(*) from inbox where source <> 'mail' group by 1
         union all select 'delivery ' || status, count(*) from deliveries group by 1
         union all select 'report ' || start_key, count(*) from report_executions group by 1 order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let left: Vec<(&str, i64)> = left.iter().map(|(what, count)| (what.as_str(), *count)).collect();
    assert_eq!(
        left,
        [
            ("delivery given_up", 2),
            ("delivery pending", 2),
            ("delivery sent", 2), // a short time ago
            ("inbox failed", 2),
            ("inbox pending", 2),
            ("report failed", 2),
            ("report linked", 2),
            ("report queued", 2),
        ]
    );
    // The file of the ticket is there, that of the ignored mail is not.
    let mut tx = desk.db.db.begin(acme).await.unwrap();
    let file = store::attachments::list(&mut tx, ticket.id, true).await.unwrap().remove(0);
    drop(tx);
    assert_eq!(desk.shared.blobs.read(acme, &file.sha256).await.unwrap(), [0, 1, 2]);
    // Each organization is told of its own.
    for organization in [acme, globex.id] {
        let told: Vec<(String, i64)> = sqlx::query_as(
            "select payload->>'what', sum((payload->>'rows')::bigint)::bigint from events
              where organization_id = $1 and kind = 'data.pruned' group by 1 order by 1",
        )
        .bind(organization.0)
        .fetch_all(&mut owner)
        .await
        .unwrap();
        let expected: &[(&str, i64)] = if organization == acme {
            &[("deliveries", 1), ("mail", 2), ("payloads", 1201), ("reports", 2)]
        } else {
            &[("payloads", 1201), ("reports", 2)]
        };
        assert_eq!(told.iter().map(|(what, rows)| (what.as_str(), *rows)).collect::<Vec<_>>(), expected);
    }
    // An answer finds its ticket though the mail and our message that it answers are gone.
    let answer = format!(
        "From: ada@example.org\nSubject: quite another\nMessage-ID: <answer@example.org>\nIn-Reply-To: {receipt}\n\nStill burning.\n"
    );
    desk.sends("ada@example.org", &["support@desk.example"], answer.replace('\n', "\r\n")).await.unwrap();
    let answered = "select count(*) from queue.jobs where kind = 'ingest_mail'";
    let jobs: i64 = sqlx::query_scalar(answered).fetch_one(&mut owner).await.unwrap();
    assert_eq!(jobs, 2, "the one that waits, and the answer");
    desk.run().await;
    assert_eq!(desk.comments(ticket.id).await, [("public".to_owned(), "Still burning.".to_owned())]);
}
