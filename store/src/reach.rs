//! `domain::permission`'s rule of who sees which ticket, in SQL.

use crate::{Result, Tx};
use domain::TicketId;
use domain::permission::{Reach, Rights, Scope, Standing, Tickets};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// Adds ` and …`: of the tickets that the query calls `t` only those that are within reach.
pub fn condition(sql: &mut QueryBuilder<Postgres>, reach: &Reach) {
    match reach {
        Reach::Everything => {}
        Reach::Nothing => drop(sql.push(" and false")),
        Reach::Some(tickets) => {
            if tickets.scope < Scope::Organization {
                sql.push(" and (");
                within(sql, tickets, tickets.scope);
                sql.push(")");
            }
            if tickets.confidential < Some(Scope::Organization) {
                sql.push(" and (not t.is_confidential or ");
                within(sql, tickets, tickets.confidential.unwrap_or(Scope::Team).max(Scope::Team));
                sql.push(")");
            }
        }
    }
}

/// The same of a table whose rows may name a ticket in `column`: those that name none are seen.
pub fn condition_on(sql: &mut QueryBuilder<Postgres>, column: &str, reach: &Reach) {
    if *reach != Reach::Everything {
        sql.push(format_args!(
            " and ({column} is null or exists (select from tickets t where t.id = {column}"
        ));
        condition(sql, reach);
        sql.push("))");
    }
}

fn within(sql: &mut QueryBuilder<Postgres>, tickets: &Tickets, scope: Scope) {
    let user = tickets.user.0;
    sql.push("t.requester_id = ").push_bind(user).push(" or t.assignee_id = ").push_bind(user);
    sql.push(" or exists (select from ticket_watchers w where w.ticket_id = t.id and w.user_id = ");
    sql.push_bind(user).push(")");
    if scope >= Scope::Team && !tickets.teams.is_empty() {
        let teams: Vec<Uuid> = tickets.teams.iter().map(|team| team.0).collect();
        sql.push(" or t.team_id = any(").push_bind(teams).push(")");
    }
    if scope >= Scope::Department && !tickets.departments.is_empty() {
        let departments: Vec<Uuid> = tickets.departments.iter().map(|department| department.0).collect();
        sql.push(" or t.team_id in (select id from teams where department_id = any(");
        sql.push_bind(departments.clone());
        sql.push(")) or t.requester_id in (select id from users where department_id = any(");
        sql.push_bind(departments).push("))");
    }
}

/// How a person stands to a ticket.
pub async fn standing(tx: &mut Tx, rights: &Rights, ticket: TicketId) -> Result<Standing> {
    let teams: Vec<Uuid> = rights.teams.iter().map(|team| team.0).collect();
    let departments: Vec<Uuid> = rights.departments.iter().map(|department| department.0).collect();
    let row = sqlx::query!(
        r#"select coalesce(t.requester_id = $2, false) as "is_requester!", coalesce(t.assignee_id = $2, false) as "is_assignee!",
                  exists (select from ticket_watchers w where w.ticket_id = t.id and w.user_id = $2) as "is_watcher!",
                  coalesce(t.team_id = any($3), false) as "is_in_team!",
                  (exists (select from teams m where m.id = t.team_id and m.department_id = any($4))
                   or exists (select from users u where u.id = t.requester_id and u.department_id = any($4))) as "is_in_department!",
                  t.is_confidential
             from tickets t where t.id = $1"#,
        ticket.0,
        rights.user.0,
        &teams,
        &departments,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(crate::Error::NotFound)?;
    Ok(Standing {
        is_requester: row.is_requester,
        is_watcher: row.is_watcher,
        is_assignee: row.is_assignee,
        is_in_team: row.is_in_team,
        is_in_department: row.is_in_department,
        is_confidential: row.is_confidential,
    })
}
