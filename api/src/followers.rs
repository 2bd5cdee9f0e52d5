//! Who follows what happens at this process, so that one person does not take all its connections.

use crate::{ApiResult, Problem};
use domain::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Streams (Server-Sent Events and WebSockets together) that one person or service account may have open at a process.
const MOST: usize = 20;

/// Pages of missed events that a process reads at a time, for all who have come back: in the order in which they asked, and never with more
/// than these connections of the pool.
const PAGES: usize = 2;

#[derive(Debug)]
pub(crate) struct Followers {
    seats: Mutex<HashMap<UserId, usize>>,
    pages: Semaphore,
}

impl Default for Followers {
    fn default() -> Self {
        Followers { seats: Mutex::default(), pages: Semaphore::new(PAGES) }
    }
}

/// One stream; dropped when it is over.
#[derive(Debug)]
pub(crate) struct Seat {
    followers: Arc<Followers>,
    person: UserId,
}

impl Followers {
    /// Whose turn it is to read a page of what they missed.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.pages.acquire().await.expect("it is never closed")
    }

    pub fn seat(self: &Arc<Self>, person: UserId) -> ApiResult<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(person).or_default();
        if *taken >= MOST {
            let detail = format!("{MOST} live streams of this account are open: close one of them");
            return Err(Problem::too_many_requests(detail, 5));
        }
        *taken += 1;
        Ok(Seat { followers: self.clone(), person })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.followers.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&self.person) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_its_stream_is_over() {
        let followers = Arc::new(Followers::default());
        let (one, other) = (UserId(uuid::Uuid::from_u128(1)), UserId(uuid::Uuid::from_u128(2)));
        let mut seats: Vec<Seat> = (0..MOST).map(|_| followers.seat(one).unwrap()).collect();
        assert_eq!(followers.seat(one).unwrap_err().status(), 429);
        seats.push(followers.seat(other).unwrap());
        seats.remove(0);
        seats.push(followers.seat(one).unwrap());
        drop(seats);
        assert!(followers.seats.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
