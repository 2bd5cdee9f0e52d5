//! API tokens: made (and shown once), revoked.

/// What every API token begins with.
pub const PREFIX: &str = "rd_";
