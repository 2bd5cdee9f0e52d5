//! Many tickets at once, as the workers change them: each by itself, with the rights that whoever asked has at that moment.

use actions::tickets::bulk::{self, Changed, Named, TicketChange};
use actions::tickets::{self, NewTicket};
use connectors::http::{Client, Destinations};
use domain::ticket::{Source, Status};
use domain::{Actor, ApiTokenId, TicketId};
use queue::{Drain, JobId};
use std::sync::Arc;
use store::blobs::Blobs;
use templates::Templates;
use testkit::{Organization, TestDb};
use uuid::Uuid;
use workers::{Settings, Shared, registry};

struct Desk {
    db: TestDb,
    acme: Organization,
    shared: Shared,
    _folder: tempfile::TempDir,
}

async fn desk() -> Desk {
    let db = testkit::database().await;
    let acme = testkit::organization(&db, "acme").await;
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared {
        db: db.db.clone(),
        blobs: Blobs::new(folder.path()),
        templates: Arc::new(Templates::new()),
        http: Client::new(Destinations::default()).unwrap(),
        secrets: queue::KeyRing::default(),
        mailer: None,
        remote: None,
        settings: Arc::new(Settings {
            base_url: "http://localhost".into(),
            mail_domain: "localhost".into(),
            mail_from: "desk@localhost.example".into(),
            discovery_dir: None,
            pruning: workers::Pruning::default(),
        }),
    };
    Desk { db, acme, shared, _folder: folder }
}

impl Desk {
    async fn open(&self, titles: &[&str]) -> Vec<TicketId> {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        let mut ids = Vec::new();
        for title in titles {
            let new = NewTicket::incident(*title, Source::Api);
            ids.push(tickets::open(&mut tx, &self.acme.agent, new).await.unwrap().id);
        }
        tx.commit().await.unwrap();
        ids
    }

    async fn start(
        &self,
        actor: &Actor,
        token: Option<ApiTokenId>,
        change: TicketChange,
        ids: &[TicketId],
    ) -> JobId {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        let job = bulk::start(&mut tx, actor, token, change, ids.to_vec()).await.unwrap();
        tx.commit().await.unwrap();
        job
    }

    async fn work(&self, job: JobId) -> Changed {
        Drain::new(registry(), self.shared.clone()).run(self.db.db.pool()).await.unwrap();
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        let (job, changed) = bulk::progress(&mut tx, &self.acme.admin, job).await.unwrap();
        assert_eq!(job.state, queue::admin::JobState::Done, "{job:?}");
        changed
    }

    async fn status(&self, id: TicketId) -> Status {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        store::tickets::get(&mut tx, id).await.unwrap().status
    }
}

fn problems(changed: &Changed) -> Vec<Option<&str>> {
    changed.outcomes.iter().map(|outcome| outcome.problem.as_deref()).collect()
}

fn tagged(tag: &str) -> TicketChange {
    TicketChange::AddTags { tags: vec![tag.to_owned(), "storm".to_owned()] }
}

fn resolved() -> TicketChange {
    TicketChange::Resolve { resolution: "the printer is back".to_owned() }
}

#[tokio::test]
async fn what_cannot_be_done_to_one_does_not_keep_it_from_the_others() {
    let desk = desk().await;
    let ids = desk.open(&["one", "two", "three"]).await;
    let job = desk.start(&desk.acme.agent, None, resolved(), &ids[1..2]).await;
    assert_eq!(problems(&desk.work(job).await), [None]);
    let job = desk.start(&desk.acme.agent, None, resolved(), &ids).await;
    let changed = desk.work(job).await;
    assert_eq!(problems(&changed), [None, Some("the ticket is resolved already"), None]);
    assert_eq!((changed.tickets, changed.by), (3, desk.acme.agent.user_id()));
    for id in &ids {
        assert_eq!(desk.status(*id).await, Status::Resolved);
    }
    let close = TicketChange::Close { reason: None };
    let job = desk.start(&desk.acme.agent, None, close, &ids).await;
    assert_eq!(problems(&desk.work(job).await), [None, None, None]);
    let assign = TicketChange::Assign {
        assignee: Some(Named::of(desk.acme.agent.user_id())),
        team: None,
        reason: Some("mine".to_owned()),
    };
    let more = desk.open(&["four"]).await;
    let job = desk.start(&desk.acme.agent, None, assign, &more).await;
    assert_eq!(problems(&desk.work(job).await), [None]);
    assert_eq!(desk.status(more[0]).await, Status::Assigned);
}

/// Half of a change is none: the second of two tags is one too many.
#[tokio::test]
async fn a_ticket_is_changed_whole_or_not_at_all() {
    let desk = desk().await;
    let ids = desk.open(&["full", "empty"]).await;
    let mut tx = desk.db.db.begin(desk.acme.id).await.unwrap();
    let many: Vec<String> = (0..49).map(|n| format!("t{n}")).collect();
    tickets::set_tags(&mut tx, &desk.acme.agent, ids[0], &many).await.unwrap();
    tx.commit().await.unwrap();
    let job = desk.start(&desk.acme.agent, None, tagged("a"), &ids).await;
    let changed = desk.work(job).await;
    assert!(changed.outcomes[0].problem.as_ref().is_some_and(|words| words.contains("at most 50 tags")));
    assert_eq!(changed.outcomes[1].problem, None);
    let mut tx = desk.db.db.begin(desk.acme.id).await.unwrap();
    assert_eq!(store::ticket_tags::of(&mut tx, ids[0]).await.unwrap().len(), 49);
    assert_eq!(store::ticket_tags::of(&mut tx, ids[1]).await.unwrap(), ["a", "storm"]);
}

#[tokio::test]
async fn the_audit_log_names_the_person_and_the_job() {
    let desk = desk().await;
    let ids = desk.open(&["one", "two"]).await;
    let job = desk.start(&desk.acme.agent, None, resolved(), &ids).await;
    desk.work(job).await;
    let actors: Vec<(Option<Uuid>, Option<Uuid>)> = sqlx::query_as(
        "select actor_id, object_id from audit_entries where job_id = $1 and noun = 'tickets' and verb = 'update' order by seq",
    )
    .bind(job.0)
    .fetch_all(&mut desk.db.owner().await)
    .await
    .unwrap();
    let agent = desk.acme.agent.user_id().map(|id| id.0);
    assert_eq!(actors, [(agent, Some(ids[0].0)), (agent, Some(ids[1].0))]);
}

/// What somebody may is asked again with each ticket, not kept from when they asked.
#[tokio::test]
async fn rights_that_are_gone_count_at_once() {
    let desk = desk().await;
    let ids = desk.open(&["one", "two"]).await;
    let agent = desk.acme.agent.user_id().unwrap();
    let mut tx = desk.db.db.begin(desk.acme.id).await.unwrap();
    let scopes = ["tickets.view".to_owned()];
    let mut token = async |hash: &str, scopes: Option<&[String]>| {
        let new = store::api_tokens::NewApiToken {
            user: agent,
            name: "script",
            hash,
            prefix: "rd_",
            scopes,
            expires_at: None,
        };
        store::api_tokens::insert(&mut tx, &new).await.unwrap()
    };
    let (narrow, revoked) = (token("a", Some(&scopes)).await, token("b", None).await);
    store::api_tokens::revoke(&mut tx, revoked).await.unwrap();
    tx.commit().await.unwrap();

    // The scopes of the token hold for the job as well.
    let job = desk.start(&desk.acme.agent, Some(narrow), tagged("x"), &ids[..1]).await;
    assert!(problems(&desk.work(job).await)[0].is_some());
    let gone = [Some("who asked for this has no access any more")];
    let job = desk.start(&desk.acme.agent, Some(revoked), tagged("x"), &ids[..1]).await;
    assert_eq!(problems(&desk.work(job).await), gone);
    let job = desk.start(&desk.acme.agent, None, tagged("x"), &ids[..1]).await;
    sqlx::query("update users set is_active = false where id = $1")
        .bind(agent.0)
        .execute(&mut desk.db.owner().await)
        .await
        .unwrap();
    assert_eq!(problems(&desk.work(job).await), gone);
    let mut tx = desk.db.db.begin(desk.acme.id).await.unwrap();
    assert!(store::ticket_tags::of(&mut tx, ids[0]).await.unwrap().is_empty());
}
