use crate::{house, opened};
use actions::tickets::{NewTicket, add_tag, open, resolve};
use domain::ticket::{Level, Priority, Source, Status};
use store::ticket_list::{After, Order, OrderBy, TicketFilter, list};

#[tokio::test]
async fn filters_and_words_find_tickets() {
    let (db, acme) = house().await;
    let printer = opened(&db, &acme.agent, "Printer db-01 prints only blanks").await;
    let network = opened(&db, &acme.end_user, "No network on floor three").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    add_tag(&mut tx, &acme.agent, printer.id, "paper").await.unwrap();
    resolve(&mut tx, &acme.agent, network.id, "cable").await.unwrap();
    let found = async |tx: &mut store::Tx, filter: TicketFilter| -> Vec<String> {
        let tickets =
            list(tx, &filter, Order { by: OrderBy::Number, descending: false }, None, 10).await.unwrap();
        tickets.into_iter().map(|ticket| ticket.number).collect()
    };
    let all = TicketFilter::default;
    let (first, second) = (vec![printer.number.clone()], vec![network.number.clone()]);
    for (filter, expected) in [
        (TicketFilter { q: Some("print".into()), ..all() }, &first),
        (TicketFilter { q: Some("db-01".into()), ..all() }, &first),
        (TicketFilter { q: Some("inc0000002".into()), ..all() }, &second),
        (TicketFilter { q: Some("network -printer".into()), ..all() }, &second),
        (TicketFilter { q: Some("\"floor three\"".into()), ..all() }, &second),
        (TicketFilter { q: Some("zzz".into()), ..all() }, &vec![]),
        (TicketFilter { q: Some("'); drop table tickets; --".into()), ..all() }, &vec![]),
        (TicketFilter { q: Some("& | ! <-> :* \\ '".into()), ..all() }, &vec![]),
        (TicketFilter { tag: Some("Paper".into()), ..all() }, &first),
        (TicketFilter { open: Some(true), ..all() }, &first),
        (TicketFilter { open: Some(false), ..all() }, &second),
        (TicketFilter { status: vec![Status::Resolved, Status::Closed], ..all() }, &second),
        (TicketFilter { requester: acme.end_user.user_id(), ..all() }, &second),
        (TicketFilter { assignee: Some(acme.agent.user_id()), ..all() }, &vec![]),
        (TicketFilter { source: vec![Source::Email], ..all() }, &vec![]),
        (TicketFilter { created_before: Some(printer.created_at), ..all() }, &vec![]),
        (TicketFilter { created_after: Some(network.created_at), ..all() }, &second),
        (TicketFilter { configuration_item: Some(domain::CiId::new()), ..all() }, &vec![]),
    ] {
        assert_eq!(&found(&mut tx, filter.clone()).await, expected, "{filter:?}");
    }
    let both =
        found(&mut tx, TicketFilter { assignee: Some(None), impact: vec![Level::Medium], ..all() }).await;
    assert_eq!(both, [printer.number, network.number]);
}

#[tokio::test]
async fn pages_in_every_order_hold_each_ticket_once() {
    let (db, acme) = house().await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    // In one transaction: all created at the same time, so that only the id tells them apart.
    for n in 0..11 {
        let urgency = Level::ALL[n % 3];
        let new = NewTicket { urgency, ..NewTicket::incident(format!("ticket {n}"), Source::Api) };
        open(&mut tx, &acme.agent, new).await.unwrap();
    }
    for by in [OrderBy::CreatedAt, OrderBy::UpdatedAt, OrderBy::Priority, OrderBy::Number] {
        for descending in [false, true] {
            let order = Order { by, descending };
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let page = list(&mut tx, &TicketFilter::default(), order, after.as_ref(), 4).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(After::of(order, last));
                seen.extend(page);
            }
            let whole = list(&mut tx, &TicketFilter::default(), order, None, 100).await.unwrap();
            assert_eq!(seen, whole, "{order:?}");
            assert_eq!(seen.len(), 11);
            if by == OrderBy::Priority && !descending {
                assert_eq!(seen[0].priority, Priority::High);
            }
        }
    }
}
