//! Lists of tickets: filters, full text, order and keyset cursor.

use crate::listing::{self, After, Condition, Field, Key, Kind, List, Order, Placed, field, within};
use crate::search::{Search, Searched};
use crate::tickets::{Row, Ticket};
use crate::{Result, Tx};
use domain::permission::Reach;
use domain::ticket::{Level, Priority, Source, Status, TicketKind};
use serde_json::Value;
use sqlx::{FromRow, QueryBuilder};

/// What tickets can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "t.id"),
    // Numbers grow in length at some time; digits alone would sort 10000000 before 9999999.
    field("number", Kind::Text, "t.number").by("lpad(t.number, 20, '0')", "text"),
    field("status", Kind::Words(Status::WORDS), "t.status").by(
        "array_position(array['new', 'assigned', 'in_progress', 'pending', 'resolved', 'closed', 'cancelled'], t.status)",
        "integer",
    ),
    field("priority", Kind::Words(Priority::WORDS), "t.priority")
        .by("array_position(array['critical', 'high', 'medium', 'low'], t.priority)", "integer"),
    field("impact", Kind::Words(Level::WORDS), "t.impact")
        .by("array_position(array['high', 'medium', 'low'], t.impact)", "integer"),
    field("urgency", Kind::Words(Level::WORDS), "t.urgency")
        .by("array_position(array['high', 'medium', 'low'], t.urgency)", "integer"),
    field("source", Kind::Words(Source::WORDS), "t.source"),
    field("requester", Kind::Id, "t.requester_id").or_null(),
    field("assignee", Kind::Id, "t.assignee_id").or_null(),
    field("team", Kind::Id, "t.team_id").or_null(),
    within(
        "tag",
        Kind::LowerText,
        "exists (select from ticket_tags g where g.ticket_id = t.id and g.tag",
    ),
    within(
        "configuration_item",
        Kind::Id,
        "exists (select from ticket_configuration_items c where c.ticket_id = t.id and c.ci_id",
    ),
    field("open", Kind::Flag, "(t.status in ('new', 'assigned', 'in_progress', 'pending'))"),
    field("confidential", Kind::Flag, "t.is_confidential"),
    field("reopened_count", Kind::Number, "t.reopened_count"),
    field("created_at", Kind::Time, "t.created_at").by("t.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "t.updated_at").by("t.updated_at", "timestamptz"),
    field("first_responded_at", Kind::Time, "t.first_responded_at").or_null(),
    field("resolved_at", Kind::Time, "t.resolved_at").or_null(),
    field("closed_at", Kind::Time, "t.closed_at").or_null(),
];

pub const LIST: List =
    List { from: "tickets t", fields: FIELDS, usual: "-created_at", id: Key::uuid("t.id") };

/// Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct TicketFilter {
    pub kind: Option<TicketKind>,
    /// On [`FIELDS`].
    pub conditions: Vec<Condition>,
    /// Words as a person types them into a search field: quotes, `or` and `-` work as in web searches.
    pub q: Option<String>,
}

/// By these of [`FIELDS`], with true: descending. The usual order is the newest first.
pub fn order(by: &[(&str, bool)]) -> Order {
    let field = |(name, descending): &(&str, bool)| Some((*listing::find(FIELDS, name)?, *descending));
    Order { by: by.iter().filter_map(field).collect(), id: LIST.id }
}

#[derive(FromRow)]
struct PlacedRow {
    #[sqlx(flatten)]
    ticket: Row,
    #[sqlx(json)]
    sort_key: Vec<Value>,
}

/// Longer descriptions are cut in lists, to one character more than is shown: so that it is seen.
pub const DESCRIPTION: usize = 1000;

/// One page of at most `limit` tickets, of those that are within reach.
///
/// Limit, kind and words of closed sets are written into the statement: each shape of a list is planned for what it is, once in a connection,
/// and partial indexes fit. Bound, they would have it planned anew each time, which takes longer than reading the page.
pub async fn list(
    tx: &mut Tx,
    reach: &Reach,
    filter: &TicketFilter,
    order: &Order,
    after: Option<&After>,
    limit: i64,
) -> Result<Vec<Placed<Ticket>>> {
    let search = Search::of(filter.q.as_deref());
    let candidates = match &search {
        Some(search) => search.candidates(tx, Searched::Tickets).await?,
        None => None,
    };
    if candidates.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let most = DESCRIPTION + 1;
    let mut sql = QueryBuilder::new("select t.id, t.kind, t.number, t.title, ");
    // How many bytes there are is known without looking at the text, how many characters is not.
    sql.push("case when octet_length(t.description) > ").push(most).push(" then left(t.description, ").push(most).push(
        ") else t.description end as description, t.status, t.impact, t.urgency, t.priority, t.requester_id, t.assignee_id, t.team_id, t.source, \
         t.resolution, t.first_responded_at, t.resolved_at, t.closed_at, t.reopened_count, t.is_confidential, t.version, \
         t.created_by, t.created_at, t.updated_at",
    );
    order.select(&mut sql);
    sql.push(" from tickets t where true");
    crate::reach::condition(&mut sql, reach);
    if let Some(kind) = filter.kind {
        sql.push(" and t.kind = '").push(kind.as_str()).push("'");
    }
    listing::conditions(&mut sql, &filter.conditions);
    if let Some(candidates) = candidates {
        sql.push(" and t.id = any(").push_bind(candidates).push(")");
    }
    if let Some(search) = search {
        search.condition(&mut sql, Searched::Tickets);
    }
    if let Some(after) = after {
        order.after(&mut sql, after);
    }
    order.by(&mut sql);
    sql.push(" limit ").push(limit);
    let rows: Vec<PlacedRow> = sql.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(|row| Ok(Placed { item: row.ticket.try_into()?, place: row.sort_key })).collect()
}
