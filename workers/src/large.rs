//! Large messages, few at a time: each is in memory several times while it is written or read (as it came, as the database
//! wants it, its parts).

use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes from which a message is large.
pub const LARGE: usize = 1024 * 1024;
static ROOM: Semaphore = Semaphore::const_new(2);

/// Waits until there is room for a message of so many bytes; keep it as long as the message is in memory. Small ones need
/// none.
pub async fn room(bytes: usize) -> Option<SemaphorePermit<'static>> {
    // It is never closed.
    if bytes < LARGE { None } else { ROOM.acquire().await.ok() }
}

/// As [`room`]; false when there was none in this time.
pub async fn room_within(
    bytes: usize,
    time: Duration,
) -> Result<Option<SemaphorePermit<'static>>, tokio::time::error::Elapsed> {
    tokio::time::timeout(time, room(bytes)).await
}
