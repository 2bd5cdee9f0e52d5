//! What all jobs share.

use store::Db;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared {
    pub db: Db,
}
