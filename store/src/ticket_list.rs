//! Lists of tickets: filters, full text, order and keyset cursor.

use crate::tickets::{Row, Ticket};
use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::ticket::{Level, Priority, Source, Status, TicketKind};
use domain::{CiId, TeamId, TicketId, UserId};
use sqlx::{Postgres, QueryBuilder};
use std::fmt::Display;

/// Every condition that is given must hold; several values of one field mean any of them.
#[derive(Clone, Debug, Default)]
pub struct TicketFilter {
    pub kind: Option<TicketKind>,
    pub status: Vec<Status>,
    pub priority: Vec<Priority>,
    pub impact: Vec<Level>,
    pub urgency: Vec<Level>,
    pub source: Vec<Source>,
    /// `Some(None)`: assigned to nobody.
    pub assignee: Option<Option<UserId>>,
    pub team: Option<Option<TeamId>>,
    pub requester: Option<UserId>,
    pub tag: Option<String>,
    pub configuration_item: Option<CiId>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    pub updated_after: Option<DateTime<Utc>>,
    pub open: Option<bool>,
    /// Words as a person types them into a search field: quotes, `or` and `-` work as in web searches.
    pub q: Option<String>,
    /// Only tickets that this person requested or watches: for end users.
    pub participant: Option<UserId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    #[default]
    CreatedAt,
    UpdatedAt,
    Priority,
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: OrderBy,
    pub descending: bool,
}

impl Default for Order {
    /// The newest first.
    fn default() -> Self {
        Order { by: OrderBy::CreatedAt, descending: true }
    }
}

/// The last ticket of the page before: what it is sorted by, as text, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub key: String,
    pub id: TicketId,
}

impl OrderBy {
    /// The expression to sort by, and how a cursor's text becomes its type.
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            OrderBy::CreatedAt => ("t.created_at", "timestamptz"),
            OrderBy::UpdatedAt => ("t.updated_at", "timestamptz"),
            OrderBy::Priority => {
                ("array_position(array['critical', 'high', 'medium', 'low'], t.priority)", "integer")
            }
            // Numbers grow in length at some time; digits alone would sort 10000000 before 9999999.
            OrderBy::Number => ("(length(t.number) || ' ' || t.number)", "text"),
        }
    }

    /// False when the text cannot be a cursor of this order: it came from outside, so it is checked before SQL sees it.
    fn reads(self, key: &str) -> bool {
        match self {
            OrderBy::CreatedAt | OrderBy::UpdatedAt => DateTime::parse_from_rfc3339(key).is_ok(),
            OrderBy::Priority => key.parse::<i32>().is_ok(),
            OrderBy::Number => !key.contains('\0'),
        }
    }

    /// The cursor's text for a ticket.
    fn key(self, ticket: &Ticket) -> String {
        match self {
            OrderBy::CreatedAt => ticket.created_at.to_rfc3339(),
            OrderBy::UpdatedAt => ticket.updated_at.to_rfc3339(),
            OrderBy::Priority => ticket.priority.rank().to_string(),
            OrderBy::Number => format!("{} {}", ticket.number.len(), ticket.number),
        }
    }
}

impl After {
    pub fn of(order: Order, ticket: &Ticket) -> After {
        After { key: order.by.key(ticket), id: ticket.id }
    }
}

/// One page of at most `limit` tickets. A cursor that does not fit the order gives the first page.
pub async fn list(
    tx: &mut Tx,
    filter: &TicketFilter,
    order: Order,
    after: Option<&After>,
    limit: i64,
) -> Result<Vec<Ticket>> {
    let mut sql = QueryBuilder::new(
        "select t.id, t.kind, t.number, t.title, t.description, t.status, t.impact, t.urgency, t.priority, \
         t.requester_id, t.assignee_id, t.team_id, t.source, t.resolution, t.first_responded_at, t.resolved_at, \
         t.closed_at, t.reopened_count, t.version, t.created_by, t.created_at, t.updated_at from tickets t where true",
    );
    conditions(&mut sql, filter);
    let (expression, cast) = order.by.sql();
    let (compare, direction) = if order.descending { ("<", "desc") } else { (">", "asc") };
    if let Some(after) = after.filter(|after| order.by.reads(&after.key)) {
        sql.push(format_args!(" and ({expression}, t.id) {compare} ("));
        sql.push_bind(after.key.clone());
        sql.push(format_args!("::{cast}, ")).push_bind(after.id.0).push(")");
    }
    sql.push(format_args!(" order by {expression} {direction}, t.id {direction} limit ")).push_bind(limit);
    let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(Ticket::try_from).collect()
}

fn conditions(sql: &mut QueryBuilder<Postgres>, filter: &TicketFilter) {
    if let Some(kind) = filter.kind {
        sql.push(" and t.kind = ").push_bind(kind.as_str());
    }
    any_of(sql, "status", &filter.status);
    any_of(sql, "priority", &filter.priority);
    any_of(sql, "impact", &filter.impact);
    any_of(sql, "urgency", &filter.urgency);
    any_of(sql, "source", &filter.source);
    match filter.assignee {
        Some(Some(user)) => drop(sql.push(" and t.assignee_id = ").push_bind(user.0)),
        Some(None) => drop(sql.push(" and t.assignee_id is null")),
        None => {}
    }
    match filter.team {
        Some(Some(team)) => drop(sql.push(" and t.team_id = ").push_bind(team.0)),
        Some(None) => drop(sql.push(" and t.team_id is null")),
        None => {}
    }
    if let Some(user) = filter.requester {
        sql.push(" and t.requester_id = ").push_bind(user.0);
    }
    if let Some(tag) = &filter.tag {
        sql.push(" and exists (select from ticket_tags g where g.ticket_id = t.id and g.tag = ");
        sql.push_bind(tag.trim().to_lowercase()).push(")");
    }
    if let Some(ci) = filter.configuration_item {
        sql.push(
            " and exists (select from ticket_configuration_items c where c.ticket_id = t.id and c.ci_id = ",
        );
        sql.push_bind(ci.0).push(")");
    }
    for (comparison, time) in [
        ("created_at >= ", filter.created_after),
        ("created_at < ", filter.created_before),
        ("updated_at >= ", filter.updated_after),
    ] {
        if let Some(time) = time {
            sql.push(" and t.").push(comparison).push_bind(time);
        }
    }
    match filter.open {
        Some(true) => drop(sql.push(" and t.status in ('new', 'assigned', 'in_progress', 'pending')")),
        Some(false) => drop(sql.push(" and t.status not in ('new', 'assigned', 'in_progress', 'pending')")),
        None => {}
    }
    if let Some(q) = filter.q.as_deref().map(str::trim).filter(|q| !q.is_empty()) {
        let q = q.replace('\0', " ");
        sql.push(" and t.search @@ (websearch_to_tsquery('simple', ").push_bind(q.clone()).push(")");
        if let Some(prefixes) = prefix_query(&q) {
            sql.push(" || to_tsquery('simple', ").push_bind(prefixes).push(")");
        }
        sql.push(")");
    }
    if let Some(user) = filter.participant {
        sql.push(" and (t.requester_id = ").push_bind(user.0);
        sql.push(" or exists (select from ticket_watchers w where w.ticket_id = t.id and w.user_id = ");
        sql.push_bind(user.0).push("))");
    }
}

fn any_of<T: Display>(sql: &mut QueryBuilder<Postgres>, column: &str, values: &[T]) {
    if !values.is_empty() {
        let words: Vec<String> = values.iter().map(T::to_string).collect();
        sql.push(format_args!(" and t.{column} = any(")).push_bind(words).push(")");
    }
}

/// Plain words also match as beginnings of words (`print` finds `printer`), unless the search uses operators.
fn prefix_query(q: &str) -> Option<String> {
    let words: Vec<&str> = q.split_whitespace().collect();
    if q.contains('"') || words.iter().any(|word| word.starts_with('-') || word.eq_ignore_ascii_case("or")) {
        return None;
    }
    let quoted = words.iter().map(|word| format!("'{}':*", word.replace('\\', "\\\\").replace('\'', "''")));
    Some(quoted.collect::<Vec<_>>().join(" & "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_become_prefixes_and_operators_do_not() {
        assert_eq!(prefix_query("print db-01").as_deref(), Some("'print':* & 'db-01':*"));
        assert_eq!(prefix_query(r"it's \ ").as_deref(), Some(r"'it''s':* & '\\':*"));
        for operators in ["\"paper jam\"", "printer -laser", "printer or scanner"] {
            assert_eq!(prefix_query(operators), None, "{operators}");
        }
    }

    #[test]
    fn foreign_cursors_are_not_passed_on() {
        assert!(OrderBy::CreatedAt.reads("2026-11-21T08:00:00.123456+00:00"));
        assert!(!OrderBy::CreatedAt.reads("3"));
        assert!(!OrderBy::Priority.reads("2026-11-21T08:00:00Z"));
    }
}
