use crate::{house, opened};
use actions::Error;
use actions::tickets::{
    Assignment, Escalation, NewComment, TicketPatch, add_tag, add_watcher, assign, close, comment, escalate,
    link, reopen, resolve, set_status, unlink, update,
};
use domain::ticket::{Level, LinkKind, Priority, Source, Status};
use domain::{Actor, Permission, TeamId};
use queue::testing::Enqueued;

async fn team(db: &testkit::TestDb, actor: &Actor) -> TeamId {
    let team = TeamId::new();
    sqlx::query("insert into teams (id, organization_id, name) values ($1, $2, 'network')")
        .bind(team.0)
        .bind(actor.organization.0)
        .execute(&mut db.owner().await)
        .await
        .unwrap();
    team
}

#[tokio::test]
async fn a_whole_life_is_in_the_history_and_every_event_has_its_job() {
    let (db, acme) = house().await;
    let (agent, agent_id) = (&acme.agent, acme.agent.user_id().unwrap());
    let id = opened(&db, &acme.end_user, "no network").await.id;
    let team = team(&db, agent).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let to_agent =
        Assignment { assignee: Some(Some(agent_id)), team: Some(Some(team)), ..Assignment::default() };
    let ticket = assign(&mut tx, agent, id, to_agent).await.unwrap();
    assert_eq!((ticket.status, ticket.assignee, ticket.team), (Status::Assigned, Some(agent_id), Some(team)));
    set_status(&mut tx, agent, id, Status::InProgress, None).await.unwrap();
    let urgent = TicketPatch { urgency: Some(Level::High), ..TicketPatch::default() };
    assert_eq!(update(&mut tx, agent, id, urgent).await.unwrap().priority, Priority::High);
    let raise = Escalation { reason: "the whole floor is down".into(), ..Escalation::default() };
    assert_eq!(escalate(&mut tx, agent, id, raise).await.unwrap().priority, Priority::Critical);
    comment(&mut tx, agent, id, NewComment::public("on it", Source::Api)).await.unwrap();
    add_tag(&mut tx, agent, id, " Network ").await.unwrap();
    assert!(matches!(resolve(&mut tx, agent, id, "  ").await, Err(Error::Invalid(_))));
    let ticket = resolve(&mut tx, agent, id, "plugged the cable in").await.unwrap();
    assert!(ticket.resolved_at.is_some());
    let ticket = reopen(&mut tx, &acme.end_user, id, Some("still down")).await.unwrap();
    assert_eq!((ticket.status, ticket.reopened_count, ticket.resolved_at), (Status::Assigned, 1, None));
    assert_eq!(ticket.resolution, None);
    assert!(matches!(close(&mut tx, agent, id, None).await, Err(Error::Conflict(_))));
    resolve(&mut tx, agent, id, "the other cable").await.unwrap();
    let ticket = close(&mut tx, agent, id, None).await.unwrap();
    assert!(ticket.closed_at.is_some());
    tx.commit().await.unwrap();

    let mut tx = db.db.begin(acme.id).await.unwrap();
    let history =
        store::ticket_history::list(&mut tx, id, true, &store::ticket_history::LIST.all(100)).await.unwrap();
    let actions: Vec<_> = history.iter().map(|entry| entry.item.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "opened",
            "assigned",
            "status_changed",
            "updated",
            "escalated",
            "commented",
            "updated",
            "resolved",
            "reopened",
            "resolved",
            "closed"
        ]
    );
    assert_eq!(history[0].item.actor_label, "end-user");
    let fields: Vec<_> = history[3].item.changes.0.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["urgency", "priority"]);
    assert_eq!(history[4].item.changes.0[0].to, "critical");
    assert_eq!(history[4].item.changes.0[1].to, "the whole floor is down");

    let mut owner = db.owner().await;
    let kinds: Vec<String> =
        sqlx::query_scalar("select kind from events order by seq").fetch_all(&mut owner).await.unwrap();
    assert_eq!(kinds, actions.iter().map(|action| format!("incident.{action}")).collect::<Vec<_>>());
    Enqueued::kind("react").organization(acme.id).times(kinds.len()).assert_in(&mut owner).await;
}

#[tokio::test]
async fn an_answer_from_staff_is_the_first_response_and_one_from_the_requester_puts_it_back_to_work() {
    let (db, acme) = house().await;
    let id = opened(&db, &acme.end_user, "no network").await.id;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let get = async |tx: &mut store::Tx| store::tickets::get(tx, id).await.unwrap();

    comment(&mut tx, &acme.end_user, id, NewComment::public("hello?", Source::Api)).await.unwrap();
    comment(&mut tx, &acme.agent, id, NewComment::internal("who has this?", Source::Api)).await.unwrap();
    let system = Actor::system(acme.id, "ingest_mail");
    assert_eq!(get(&mut tx).await.first_responded_at, None);

    let mailed =
        NewComment { author: acme.agent.user_id(), ..NewComment::public("which floor?", Source::Email) };
    comment(&mut tx, &system, id, mailed).await.unwrap();
    assert_eq!(get(&mut tx).await.first_responded_at, Some(tx.now()));

    set_status(&mut tx, &acme.agent, id, Status::Pending, None).await.unwrap();
    comment(&mut tx, &acme.end_user, id, NewComment::public("the third", Source::Api)).await.unwrap();
    assert_eq!(get(&mut tx).await.status, Status::New);
    resolve(&mut tx, &acme.agent, id, "done").await.unwrap();
    comment(&mut tx, &acme.end_user, id, NewComment::public("it is not", Source::Api)).await.unwrap();
    let ticket = get(&mut tx).await;
    assert_eq!((ticket.status, ticket.reopened_count), (Status::New, 1));
    let history =
        store::ticket_history::list(&mut tx, id, true, &store::ticket_history::LIST.all(100)).await.unwrap();
    let actions: Vec<_> = history.iter().rev().take(2).map(|entry| entry.item.action.as_str()).collect();
    assert_eq!(actions, ["reopened", "commented"]);
}

#[tokio::test]
async fn assignment_wants_living_staff_and_a_new_team_takes_over() {
    let (db, acme) = house().await;
    let id = opened(&db, &acme.agent, "no network").await.id;
    let team = team(&db, &acme.agent).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let to = |assignee| Assignment { assignee: Some(assignee), ..Assignment::default() };
    let refused = assign(&mut tx, &acme.agent, id, to(acme.end_user.user_id())).await;
    assert!(matches!(refused, Err(Error::Invalid(fields)) if fields[0].pointer == "/assignee"));
    let refused = assign(&mut tx, &acme.agent, id, to(Some(domain::UserId::new()))).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assign(&mut tx, &acme.agent, id, to(acme.agent.user_id())).await.unwrap();
    let ticket =
        assign(&mut tx, &acme.agent, id, Assignment { team: Some(Some(team)), ..Assignment::default() })
            .await
            .unwrap();
    assert_eq!((ticket.status, ticket.assignee, ticket.team), (Status::New, None, Some(team)));
}

#[tokio::test]
async fn escalation_raises_or_hands_over_and_says_why() {
    let (db, acme) = house().await;
    let id = opened(&db, &acme.agent, "no network").await.id;
    let team = team(&db, &acme.agent).await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let because = |priority, team| Escalation { reason: "late".into(), priority, team, assignee: None };
    let refused = escalate(&mut tx, &acme.agent, id, Escalation::default()).await;
    assert!(matches!(refused, Err(Error::Invalid(fields)) if fields[0].pointer == "/reason"));
    let refused = escalate(&mut tx, &acme.agent, id, because(Some(Priority::Low), None)).await;
    assert!(matches!(refused, Err(Error::Invalid(fields)) if fields[0].pointer == "/priority"));
    escalate(&mut tx, &acme.agent, id, because(Some(Priority::Critical), None)).await.unwrap();
    assert!(matches!(escalate(&mut tx, &acme.agent, id, because(None, None)).await, Err(Error::Conflict(_))));
    let ticket = escalate(&mut tx, &acme.agent, id, because(None, Some(team))).await.unwrap();
    assert_eq!(ticket.team, Some(team));
    assert!(matches!(
        escalate(&mut tx, &acme.agent, id, because(None, Some(team))).await,
        Err(Error::Conflict(_))
    ));
}

#[tokio::test]
async fn links_are_seen_from_both_ends_and_not_made_twice() {
    let (db, acme) = house().await;
    let (a, b) = (opened(&db, &acme.agent, "a").await, opened(&db, &acme.agent, "b").await);
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let agent = &acme.agent;
    let id = link(&mut tx, agent, a.id, LinkKind::Blocks, b.id).await.unwrap().unwrap();
    assert_eq!(link(&mut tx, agent, a.id, LinkKind::Blocks, b.id).await.unwrap(), None);
    assert!(matches!(link(&mut tx, agent, b.id, LinkKind::Blocks, a.id).await, Err(Error::Conflict(_))));
    assert!(link(&mut tx, agent, a.id, LinkKind::RelatesTo, b.id).await.unwrap().is_some());
    assert_eq!(link(&mut tx, agent, b.id, LinkKind::RelatesTo, a.id).await.unwrap(), None);
    let from_b =
        store::ticket_links::list(&mut tx, &domain::permission::Reach::Everything, b.id).await.unwrap();
    assert_eq!((from_b.len(), from_b[0].outgoing, from_b[0].other), (2, false, a.id));
    unlink(&mut tx, agent, b.id, id).await.unwrap();
    assert!(matches!(unlink(&mut tx, agent, b.id, id).await, Err(Error::NotFound)));
    for ticket in [a.id, b.id] {
        let history =
            store::ticket_history::list(&mut tx, ticket, true, &store::ticket_history::LIST.all(10))
                .await
                .unwrap();
        let actions: Vec<_> = history.iter().map(|entry| entry.item.action.as_str()).collect();
        assert_eq!(actions, ["opened", "linked", "linked", "unlinked"]);
    }
}

#[tokio::test]
async fn end_users_do_their_part_and_no_more() {
    let (db, acme) = house().await;
    let id = opened(&db, &acme.end_user, "no network").await.id;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let user = &acme.end_user;
    let denied = |result: Option<Error>, permission: Permission| match result {
        Some(Error::Forbidden(detail)) => assert!(detail.contains(permission.as_str()), "{detail}"),
        other => panic!("expected a refusal, got {other:?}"),
    };
    denied(update(&mut tx, user, id, TicketPatch::default()).await.err(), Permission::TicketsUpdate);
    denied(resolve(&mut tx, user, id, "x").await.err(), Permission::TicketsResolve);
    denied(
        add_watcher(&mut tx, user, id, acme.agent.user_id().unwrap()).await.err(),
        Permission::TicketsUpdate,
    );
    let internal = NewComment::internal("psst", Source::Api);
    denied(comment(&mut tx, user, id, internal).await.err(), Permission::TicketsCommentInternal);
    let for_another = actions::tickets::NewTicket {
        requester: acme.agent.user_id(),
        ..actions::tickets::NewTicket::incident("x", Source::Api)
    };
    denied(
        actions::tickets::open(&mut tx, user, for_another).await.err(),
        Permission::TicketsCreateForOthers,
    );
}
