//! Whether a plan is to be believed. An inventory that was cut off, or whose fields have other names since yesterday, reads
//! like one from which nearly everything has disappeared.

use super::{Known, Plan, RowError};

/// Where the source does not say how many of its items may go missing at once.
const USUAL_PERCENT: u8 = 50;
/// Fewer than these may always go missing: of three machines two are easily gone.
const FEW: usize = 10;

/// `Err` says why nothing must be changed. `refused`: rows that never got as far as the plan; `known`: what it was made on.
pub fn verdict(
    plan: &Plan,
    refused: &[RowError],
    known: &[Known],
    max_missing_percent: Option<u8>,
) -> Result<(), String> {
    let used = plan.created.len() + plan.updated.len() + plan.unchanged.len();
    let failed = plan.failed.len() + refused.len();
    if used == 0
        && let Some(first) = refused.iter().chain(&plan.failed).min_by_key(|failure| failure.row)
    {
        return Err(format!(
            "none of the {failed} rows can be used, so nothing was changed; row {}: {}",
            first.row, first.error
        ));
    }
    let present = known.iter().filter(|ci| ci.is_ours && ci.missing_since.is_none()).count();
    let percent = max_missing_percent.unwrap_or(USUAL_PERCENT);
    let missing = plan.missing.len();
    if missing >= FEW && missing * 100 > present * usize::from(percent) {
        return Err(format!(
            "{missing} items would go missing, of {present}, which is more than {percent} %, so nothing was changed: mend the \
             inventory, or raise the option max_missing_percent"
        ));
    }
    Ok(())
}
