//! The organization's impact × urgency → priority table.

use crate::{Result, Tx, words::word};
use domain::ticket::PriorityMatrix;

/// Cells that were never stored have the default's value.
pub async fn get(tx: &mut Tx) -> Result<PriorityMatrix> {
    let rows =
        sqlx::query!("select impact, urgency, priority from priority_matrix").fetch_all(&mut **tx).await?;
    let mut matrix = PriorityMatrix::default();
    for row in rows {
        matrix.set(word(&row.impact)?, word(&row.urgency)?, word(&row.priority)?);
    }
    Ok(matrix)
}

pub async fn put(tx: &mut Tx, matrix: &PriorityMatrix) -> Result<()> {
    let organization = tx.organization();
    let (mut impacts, mut urgencies, mut priorities) = (Vec::new(), Vec::new(), Vec::new());
    for (impact, urgency, priority) in matrix.cells() {
        impacts.push(impact.to_string());
        urgencies.push(urgency.to_string());
        priorities.push(priority.to_string());
    }
    sqlx::query!(
        "insert into priority_matrix (organization_id, impact, urgency, priority)
         select $1, * from unnest($2::text[], $3::text[], $4::text[])
         on conflict on constraint priority_matrix_pkey do update set priority = excluded.priority",
        organization.0,
        &impacts,
        &urgencies,
        &priorities
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
