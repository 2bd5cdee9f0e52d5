//! The lines in which jobs wait: one for each state, lane and tenant. An index holds each of them together, so that whoever
//! looks for the jobs of one does not read those of the others.

use super::JobState;
use sqlx::PgConnection;
use uuid::Uuid;

/// The index that a line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Ready or running, by rank.
    Ready,
    /// Scheduled, limited, suspended or dead, by id: the value of the column `aside`.
    Aside(&'static str),
}

impl Shelf {
    /// Where jobs that are not over are, by state.
    pub fn of(state: JobState) -> Option<Shelf> {
        match state {
            JobState::Ready | JobState::Running => Some(Shelf::Ready),
            JobState::Scheduled => Some(Shelf::Aside("s")),
            JobState::Limited => Some(Shelf::Aside("l")),
            JobState::Suspended => Some(Shelf::Aside("u")),
            JobState::Dead => Some(Shelf::Aside("d")),
            JobState::Done | JobState::Cancelled | JobState::Discarded => None,
        }
    }

    /// Which rows these are, as SQL without parameters.
    pub fn condition(self) -> &'static str {
        match self {
            Shelf::Ready => "state = 'ready'",
            Shelf::Aside("s") => "aside = 's' and state = 'scheduled'",
            Shelf::Aside("l") => "aside = 'l' and state = 'limited'",
            Shelf::Aside("u") => "aside = 'u' and state = 'suspended'",
            Shelf::Aside(_) => "aside = 'd' and state = 'dead'",
        }
    }
}

/// Whose line it is in the index; the nil UUID stands for jobs of no organization.
macro_rules! tenant {
    ($row:literal) => {
        concat!(
            "case when ",
            $row,
            ".organization_id is null then '00000000-0000-0000-0000-000000000000' else ",
            $row,
            ".organization_id end"
        )
    };
}
pub(super) use tenant;

pub(super) type Line = (String, Uuid);

/// Jumps from the head of one line to the next.
macro_rules! lines {
    ($rows:literal) => {
        concat!(
            "with recursive line as ( \
               (select j.lane, ",
            tenant!("j"),
            " as tenant from queue.jobs j where ",
            $rows,
            " \
                  and (j.lane, ",
            tenant!("j"),
            ") > ($1, $2) order by 1, 2 limit 1) \
               union all \
               select next.lane, next.tenant from line cross join lateral ( \
                 select j.lane, ",
            tenant!("j"),
            " as tenant from queue.jobs j where ",
            $rows,
            " \
                   and (j.lane, ",
            tenant!("j"),
            ") > (line.lane, line.tenant) order by 1, 2 limit 1) next) \
             select lane, tenant from line limit $3"
        )
    };
}

/// Up to so many lines after that one, in the order of lane and tenant. Of one organization there is one for each known lane, which may
/// be empty: it does not see the others, so it cannot jump over them.
pub(super) async fn after(
    connection: &mut PgConnection,
    shelf: Shelf,
    organization: Option<Uuid>,
    line: Option<&Line>,
    most: i64,
) -> Result<Vec<Line>, sqlx::Error> {
    if let Some(organization) = organization {
        let lanes: Vec<String> = sqlx::query_scalar(
            "select name from queue.lanes where $1::text is null or name > $1 order by name limit $2",
        )
        .bind(line.map(|line| line.0.as_str()))
        .bind(most)
        .fetch_all(connection)
        .await?;
        return Ok(lanes.into_iter().map(|lane| (lane, organization)).collect());
    }
    let statement = match shelf {
        Shelf::Ready => lines!("j.state = 'ready'"),
        Shelf::Aside("s") => lines!("j.aside = 's'"),
        Shelf::Aside("l") => lines!("j.aside = 'l'"),
        Shelf::Aside("u") => lines!("j.aside = 'u'"),
        Shelf::Aside(_) => lines!("j.aside = 'd'"),
    };
    let (lane, tenant) = line.map_or(("", Uuid::nil()), |line| (line.0.as_str(), line.1));
    sqlx::query_as(statement).bind(lane).bind(tenant).bind(most).fetch_all(connection).await
}

/// The lines that there are; with a lane only its own.
pub(super) async fn all(
    connection: &mut PgConnection,
    shelf: Shelf,
    organization: Option<Uuid>,
    lane: Option<&str>,
) -> Result<Vec<Line>, sqlx::Error> {
    if let (Some(organization), Some(lane)) = (organization, lane) {
        return Ok(vec![(lane.to_owned(), organization)]);
    }
    let mut lines = after(connection, shelf, organization, None, i64::from(i32::MAX)).await?;
    lines.retain(|line| lane.is_none_or(|lane| line.0 == lane));
    Ok(lines)
}
