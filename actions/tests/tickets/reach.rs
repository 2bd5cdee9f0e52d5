//! Who sees which tickets: what the database answers for a list is what the rule says of each ticket.

use crate::house;
use actions::Error;
use actions::tickets::{
    Assignment, NewComment, NewTicket, TicketPatch, add_watcher, assign, comment, decision, find, link, open,
    see, unlink, update,
};
use domain::permission::{self, Permission, Permissions, Reach, Scope};
use domain::ticket::{LinkKind, Source};
use domain::{Actor, DepartmentId, Role, TeamId, UserId};
use store::Tx;
use store::listing::After;
use store::roles::Holder;
use store::ticket_list::{TicketFilter, list, order};
use testkit::{Organization, TestDb};

/// Two departments, one below the other, a team in each, and a team of no department.
struct Desk {
    db: TestDb,
    acme: Organization,
    it: DepartmentId,
    network: TeamId,
    servers: TeamId,
    elsewhere: TeamId,
    person: UserId,
}

async fn desk() -> Desk {
    let (db, acme) = house().await;
    let mut owner = db.owner().await;
    let organization = acme.id.0;
    let (it, below) = (DepartmentId::new(), DepartmentId::new());
    for (id, name, parent) in [(it, "IT", None), (below, "Servers", Some(it.0))] {
        sqlx::query("insert into departments (id, organization_id, name, parent_id) values ($1, $2, $3, $4)")
            .bind(id.0)
            .bind(organization)
            .bind(name)
            .bind(parent)
            .execute(&mut owner)
            .await
            .unwrap();
    }
    let mut teams = Vec::new();
    for (name, department) in [("network", Some(it.0)), ("servers", Some(below.0)), ("elsewhere", None)] {
        let team = TeamId::new();
        sqlx::query("insert into teams (id, organization_id, name, department_id) values ($1, $2, $3, $4)")
            .bind(team.0)
            .bind(organization)
            .bind(name)
            .bind(department)
            .execute(&mut owner)
            .await
            .unwrap();
        teams.push(team);
    }
    let person = UserId::new();
    sqlx::query(
        "insert into users (id, organization_id, email, name, role, department_id) values ($1, $2, 'p@acme.example', 'P', 'end_user', $3)",
    )
    .bind(person.0)
    .bind(organization)
    .bind(it.0)
    .execute(&mut owner)
    .await
    .unwrap();
    let [network, servers, elsewhere] = teams.try_into().unwrap();
    Desk { db, acme, it, network, servers, elsewhere, person }
}

impl Desk {
    async fn begin(&self) -> Tx {
        self.db.db.begin(self.acme.id).await.unwrap()
    }

    /// The person as they are by now.
    async fn actor(&self, tx: &mut Tx) -> Actor {
        let held = store::rights::of(tx, self.person).await.unwrap().unwrap();
        Actor::user(self.acme.id, held.id, held.name, held.rights)
    }

    async fn give(&self, tx: &mut Tx, permissions: &[(Permission, Scope)], to: Holder) {
        let now = tx.now();
        let role = store::roles::CustomRole {
            id: domain::RoleId::new(),
            name: format!("role {}", uuid::Uuid::now_v7()),
            description: String::new(),
            permissions: permissions.iter().copied().collect::<Permissions>(),
            created_at: now,
            updated_at: now,
        };
        store::roles::insert(tx, &role).await.unwrap();
        store::roles::grant(tx, role.id, to, None).await.unwrap();
    }
}

/// A ticket of each kind of standing, plain and confidential.
async fn tickets(desk: &Desk, tx: &mut Tx) {
    let admin = &desk.acme.admin;
    for is_confidential in [false, true] {
        let new = |title: &str| NewTicket {
            is_confidential,
            ..NewTicket::incident(
                format!("{title}{}", if is_confidential { " secretly" } else { "" }),
                Source::Api,
            )
        };
        open(tx, admin, new("strange")).await.unwrap();
        open(tx, admin, NewTicket { requester: Some(desk.person), ..new("requested") }).await.unwrap();
        open(tx, admin, NewTicket { watchers: vec![desk.person], ..new("watched") }).await.unwrap();
        for (title, team) in
            [("network", desk.network), ("servers", desk.servers), ("elsewhere", desk.elsewhere)]
        {
            open(tx, admin, NewTicket { team: Some(team), ..new(title) }).await.unwrap();
        }
    }
}

/// What a role grants, and what is seen with it.
type Case = (Vec<(Permission, Scope)>, Vec<String>);

async fn titles(tx: &mut Tx, reach: &Reach, filter: &TicketFilter) -> Vec<String> {
    let (mut titles, mut after) = (Vec::new(), None::<After>);
    // Page by page: what is out of reach must not make pages short.
    loop {
        let order = order(&[("number", false)]);
        let page = list(tx, reach, filter, &order, after.as_ref(), 2).await.unwrap();
        after = page.last().and_then(|ticket| order.read(ticket.place.clone()));
        let is_last = page.len() < 2;
        titles.extend(page.into_iter().map(|ticket| ticket.item.title));
        if is_last {
            return titles;
        }
    }
}

#[tokio::test]
async fn lists_reach_as_far_as_the_rule() {
    use Permission::{TicketsView, TicketsViewConfidential};
    let desk = desk().await;
    let mut tx = desk.begin().await;
    tickets(&desk, &mut tx).await;
    sqlx::query("insert into team_members (organization_id, team_id, user_id) values ($1, $2, $3)")
        .bind(desk.acme.id.0)
        .bind(desk.network.0)
        .bind(desk.person.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    let own = ["requested", "watched"];
    let own_secretly = ["requested secretly", "watched secretly"];
    let newest = order(&[("created_at", true)]);
    let all = list(&mut tx, &Reach::Everything, &TicketFilter::default(), &newest, None, 100).await.unwrap();
    let all: Vec<_> = all.into_iter().map(|ticket| ticket.item).collect();
    assert_eq!(all.len(), 12);

    let plain = |titles: &[&str]| titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>();
    let expected: Vec<Case> = vec![
        (vec![], plain(&[&own[..], &own_secretly[..]].concat())),
        (vec![(TicketsView, Scope::Own)], plain(&[&own[..], &own_secretly[..]].concat())),
        (
            vec![(TicketsView, Scope::Team)],
            plain(&[
                "requested",
                "watched",
                "network",
                "requested secretly",
                "watched secretly",
                "network secretly",
            ]),
        ),
        (
            vec![(TicketsView, Scope::Department)],
            plain(&[
                "requested",
                "watched",
                "network",
                "servers",
                "requested secretly",
                "watched secretly",
                "network secretly",
            ]),
        ),
        (
            vec![(TicketsView, Scope::Department), (TicketsViewConfidential, Scope::Department)],
            plain(&[
                "requested",
                "watched",
                "network",
                "servers",
                "requested secretly",
                "watched secretly",
                "network secretly",
                "servers secretly",
            ]),
        ),
        (
            vec![(TicketsView, Scope::Organization)],
            plain(&[
                "strange",
                "requested",
                "watched",
                "network",
                "servers",
                "elsewhere",
                "requested secretly",
                "watched secretly",
                "network secretly",
            ]),
        ),
        (
            vec![(TicketsView, Scope::Organization), (TicketsViewConfidential, Scope::Organization)],
            all.iter().rev().map(|ticket| ticket.title.clone()).collect(),
        ),
    ];
    for (permissions, expected) in expected {
        sqlx::query("delete from roles").execute(&mut *tx).await.unwrap();
        desk.give(&mut tx, &permissions, Holder::User(desk.person)).await;
        let actor = desk.actor(&mut tx).await;
        let reach = permission::reach(&actor);
        assert_eq!(titles(&mut tx, &reach, &TicketFilter::default()).await, expected, "{permissions:?}");
        // Searching finds no more, and each ticket by itself is judged alike.
        let search = TicketFilter { q: Some("secretly".into()), ..TicketFilter::default() };
        let secret: Vec<String> =
            expected.iter().filter(|title| title.ends_with("secretly")).cloned().collect();
        assert_eq!(titles(&mut tx, &reach, &search).await, secret, "{permissions:?}");
        for ticket in &all {
            let seen = see(&mut tx, &actor, ticket.id).await;
            assert_eq!(seen.is_ok(), expected.contains(&ticket.title), "{permissions:?} {}", ticket.title);
            assert_eq!(find(&mut tx, &actor, &ticket.number).await.is_ok(), seen.is_ok());
        }
    }
    assert_eq!(desk.actor(&mut tx).await.rights().unwrap().departments.len(), 0, "nothing asks for them");
    desk.give(&mut tx, &[(TicketsView, Scope::Department)], Holder::Team(desk.network)).await;
    let rights = desk.actor(&mut tx).await.rights().unwrap().clone();
    assert_eq!(rights.departments.len(), 2);
    assert!(rights.departments.contains(&desk.it));
    assert_eq!(rights.custom.iter().filter(|role| role.team == Some(desk.network)).count(), 1);
}

#[tokio::test]
async fn a_verb_reaches_as_far_as_its_own_scope() {
    let desk = desk().await;
    let mut tx = desk.begin().await;
    let team = NewTicket { team: Some(desk.network), ..NewTicket::incident("ours", Source::Api) };
    let ours = open(&mut tx, &desk.acme.admin, team).await.unwrap();
    let other = open(&mut tx, &desk.acme.admin, NewTicket::incident("other", Source::Api)).await.unwrap();
    let grants = [
        (Permission::TicketsView, Scope::Organization),
        (Permission::TicketsUpdate, Scope::Team),
        (Permission::TicketsWork, Scope::Organization),
    ];
    desk.give(&mut tx, &grants, Holder::Team(desk.network)).await;
    let patch = || TicketPatch { title: Some("changed".into()), ..TicketPatch::default() };
    let actor = desk.actor(&mut tx).await;
    assert!(matches!(
        update(&mut tx, &actor, ours.id, patch()).await,
        Err(Error::NotFound | Error::Forbidden(_))
    ));
    actions::teams::add_member(&mut tx, &desk.acme.admin, desk.network, desk.person).await.unwrap();
    let actor = desk.actor(&mut tx).await;
    update(&mut tx, &actor, ours.id, patch()).await.unwrap();
    match update(&mut tx, &actor, other.id, patch()).await {
        Err(Error::Forbidden(detail)) => {
            assert!(detail.contains("tickets.update for this ticket"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
    let why = decision(&mut tx, &actor, Permission::TicketsUpdate, &ours).await.unwrap();
    assert_eq!(why.why, permission::Why::Granted(Permission::TicketsUpdate, Scope::Team));
}

#[tokio::test]
async fn nobody_touches_what_is_confidential() {
    let desk = desk().await;
    let mut tx = desk.begin().await;
    let (agent, admin) = (&desk.acme.agent, &desk.acme.admin);
    let agent_id = agent.user_id().unwrap();
    let secret = NewTicket { is_confidential: true, ..NewTicket::incident("salaries", Source::Api) };
    let secret = open(&mut tx, admin, secret).await.unwrap();
    let plain = open(&mut tx, agent, NewTicket::incident("printer", Source::Api)).await.unwrap();
    link(&mut tx, admin, plain.id, LinkKind::RelatesTo, secret.id).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = desk.begin().await;

    let to_me = Assignment { assignee: Some(Some(agent_id)), ..Assignment::default() };
    let results = [
        see(&mut tx, agent, secret.id).await.err(),
        find(&mut tx, agent, &secret.number).await.err(),
        assign(&mut tx, agent, secret.id, to_me.clone()).await.err(),
        update(&mut tx, agent, secret.id, TicketPatch { is_confidential: Some(false), ..Default::default() })
            .await
            .err(),
        add_watcher(&mut tx, agent, secret.id, agent_id).await.err(),
        comment(&mut tx, agent, secret.id, NewComment::public("hi", Source::Api)).await.err(),
        link(&mut tx, agent, plain.id, LinkKind::Blocks, secret.id).await.err(),
    ];
    for (index, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Some(Error::NotFound)), "{index}: {result:?}");
    }
    let links = async |tx: &mut Tx, actor: &Actor| {
        store::ticket_links::list(tx, &permission::reach(actor), plain.id).await.unwrap()
    };
    assert!(links(&mut tx, agent).await.is_empty());
    let hidden = links(&mut tx, admin).await.remove(0).id;
    let gone = unlink(&mut desk.begin().await, agent, plain.id, hidden).await;
    assert!(matches!(gone, Err(Error::NotFound)), "{gone:?}");

    assign(&mut tx, admin, secret.id, to_me).await.unwrap();
    see(&mut tx, agent, secret.id).await.unwrap();
    update(&mut tx, agent, secret.id, TicketPatch { is_confidential: Some(false), ..Default::default() })
        .await
        .unwrap();
    let history =
        store::ticket_history::list(&mut tx, secret.id, true, &store::ticket_history::LIST.all(100))
            .await
            .unwrap();
    assert!(
        history.iter().flat_map(|entry| &entry.item.changes.0).any(|change| change.field == "confidential")
    );
    let end_user = &desk.acme.end_user;
    let own = NewTicket { is_confidential: true, ..NewTicket::incident("mine", Source::Api) };
    assert!(matches!(open(&mut tx, end_user, own).await, Err(Error::Forbidden(_))));
    assert_eq!(end_user.rights().unwrap().role, Role::EndUser);
}
