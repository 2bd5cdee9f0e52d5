//! Statements over given ids keep one plan (ADR 0166), also with tables that are large enough for a plan of their own to look cheaper each time.

use crate::support::Api;
use domain::{EventId, TicketId};
use serde_json::json;
use sqlx::Row;
use store::events::{self, NewEvent};

const PEOPLE: &str = "
    insert into users (id, organization_id, email, name, role, kind, created_at, updated_at)
    select gen_random_uuid(), $1, 'p' || n || '@acme.example', 'P' || n, 'end_user', 'person', now(), now()
      from generate_series(1, 20000) n";

const TICKETS: &str = "
    insert into tickets
    select (jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid(), 'number', 'C' || n))).*
      from tickets t, generate_series(1, 5000) n where t.id = $1";

const EVENTS: &str = "
    insert into events (id, organization_id, kind, ticket_id, actor_kind, payload, created_at)
    select gen_random_uuid(), organization_id, 'ticket.created', id, 'system', '{}', now() from tickets where id <> $1";

#[tokio::test]
async fn what_is_read_by_given_ids_is_planned_once() {
    let api = Api::start().await;
    let one = api.post("/api/v1/incidents", &api.agent, json!({"title": "one"})).await.expect(201);
    let ticket: TicketId = one.json["id"].as_str().unwrap().parse().unwrap();
    let mut owner = api.test_db.owner().await;
    for (many, id) in [(PEOPLE, api.organization.id.0), (TICKETS, ticket.0), (EVENTS, ticket.0)] {
        sqlx::query(many).bind(id).execute(&mut owner).await.unwrap();
    }
    sqlx::raw_sql("analyze").execute(&mut owner).await.unwrap();
    let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
    const ROUNDS: i64 = 12;
    for _ in 0..ROUNDS {
        let tickets = store::tickets::get_all(&mut tx, &[ticket]).await.unwrap();
        store::ticket_beside::of(&mut tx, &tickets, true, true).await.unwrap();
        store::ticket_facts::of(&mut tx, ticket).await.unwrap();
        store::sla_clocks::of_tickets(&mut tx, &[ticket]).await.unwrap();
        let id = EventId::new();
        let event = NewEvent {
            id,
            kind: "ticket.updated".into(),
            ticket: Some(ticket),
            actor_kind: "system",
            actor: None,
            payload: json!({}),
            trace_parent: None,
        };
        events::insert(&mut tx, &[event]).await.unwrap();
        events::get(&mut tx, id).await.unwrap();
    }
    let rows = sqlx::query("select statement, custom_plans, generic_plans from pg_prepared_statements")
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    let mut seen = 0;
    for row in rows {
        let (statement, anew, kept): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if anew + kept >= ROUNDS {
            // PostgreSQL tries five times before it decides.
            assert!(anew <= 5, "planned anew {anew} times: {statement}");
            seen += 1;
        }
    }
    assert_eq!(seen, 7, "tickets, what is beside them, facts, tags, clocks, events written and read");
}
