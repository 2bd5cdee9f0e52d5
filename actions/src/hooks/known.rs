//! Tokens that were looked up lately, by their hashes: asked again now and then while the database answers, believed while it
//! does not.

use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For so long nobody is asked.
const FRESH: Duration = Duration::from_secs(10);
/// A token that nobody has is asked for again sooner.
const FRESH_NOBODY: Duration = Duration::from_secs(5);
/// Without an answer from the database, a token counts as known for so long.
const STALE: Duration = Duration::from_secs(86_400);
/// For the answer, when there is an old one.
const PATIENCE: Duration = Duration::from_millis(300);
/// And when there is none.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(2);
/// After a question without an answer nobody is asked for so long.
const AWAY: Duration = Duration::from_secs(2);
/// More are not remembered.
const MOST: usize = 50_000;

/// What is known of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Sought<T> {
    Known(T),
    /// The database says so.
    Nobody,
    /// The database does not answer, and it was not asked before.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Known<T> {
    seen: Mutex<Seen<T>>,
}

#[derive(Debug)]
struct Seen<T> {
    tokens: HashMap<String, (Option<T>, Instant)>,
    away_until: Option<Instant>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known { seen: Mutex::new(Seen { tokens: HashMap::new(), away_until: None }) }
    }
}

impl<T: Clone> Known<T> {
    fn lock(&self) -> MutexGuard<'_, Seen<T>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `ask` is the database's answer; it is asked once at a time for a token of which there is an old answer.
    pub async fn find(
        &self,
        token_hash: &str,
        ask: impl AsyncFnOnce() -> std::result::Result<Option<T>, store::Error>,
    ) -> Result<Sought<T>> {
        let old = {
            let mut seen = self.lock();
            let is_away = seen.away_until.is_some_and(|until| Instant::now() < until);
            match seen.tokens.get_mut(token_hash) {
                Some((Some(found), at)) if at.elapsed() < STALE => {
                    if is_away || at.elapsed() < FRESH {
                        return Ok(Sought::Known(found.clone()));
                    }
                    let old = (found.clone(), *at);
                    // Others go on with what there is while this one asks.
                    *at = Instant::now();
                    Some(old)
                }
                Some((None, at)) if at.elapsed() < FRESH_NOBODY => return Ok(Sought::Nobody),
                _ if is_away => return Ok(Sought::Unknown),
                _ => None,
            }
        };
        let patience = if old.is_some() { PATIENCE } else { PATIENCE_UNKNOWN };
        let why = match tokio::time::timeout(patience, ask()).await {
            Ok(Ok(found)) => {
                self.remember(token_hash, found.clone());
                return Ok(found.map_or(Sought::Nobody, Sought::Known));
            }
            Ok(Err(error)) if error.is_unavailable() => error.to_string(),
            Ok(Err(error)) => return Err(Error::Store(error)),
            Err(_) => format!("no answer within {patience:?}"),
        };
        let mut seen = self.lock();
        seen.away_until = Some(Instant::now() + AWAY);
        tracing::debug!(why, "tokens of hooks are judged by what is remembered");
        Ok(match old {
            Some((found, at)) => {
                // As old as it was: asked again as soon as there is somebody to ask.
                seen.tokens.insert(token_hash.to_owned(), (Some(found.clone()), at));
                Sought::Known(found)
            }
            None => Sought::Unknown,
        })
    }

    fn remember(&self, token_hash: &str, found: Option<T>) {
        let mut seen = self.lock();
        seen.away_until = None;
        if seen.tokens.len() >= MOST {
            seen.tokens.retain(|_, (found, at)| found.is_some() && at.elapsed() < FRESH);
        }
        if seen.tokens.len() < MOST {
            seen.tokens.insert(token_hash.to_owned(), (found, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = std::result::Result<Option<u32>, store::Error>;

    fn away() -> Answer {
        Err(store::Error::Database(sqlx::Error::PoolTimedOut))
    }

    async fn find(known: &Known<u32>, token: &str, answer: Answer) -> Sought<u32> {
        known.find(token, async || answer).await.unwrap()
    }

    fn age(known: &Known<u32>, by: Duration) {
        let mut seen = known.lock();
        seen.away_until = None;
        seen.tokens.values_mut().for_each(|(_, at)| *at = at.checked_sub(by).unwrap());
    }

    #[tokio::test]
    async fn a_token_is_asked_for_now_and_then_and_believed_while_nobody_answers() {
        let known = Known::default();
        assert_eq!(find(&known, "a", away()).await, Sought::Unknown);
        age(&known, Duration::ZERO);
        assert_eq!(find(&known, "a", Ok(Some(1))).await, Sought::Known(1));
        assert_eq!(find(&known, "a", Ok(None)).await, Sought::Known(1), "nobody is asked so soon");
        age(&known, FRESH);
        assert_eq!(find(&known, "a", away()).await, Sought::Known(1));
        assert_eq!(find(&known, "a", Ok(None)).await, Sought::Known(1), "nobody is asked while it is away");
        assert_eq!(find(&known, "b", Ok(Some(2))).await, Sought::Unknown);
        age(&known, Duration::ZERO);
        assert_eq!(find(&known, "a", Ok(None)).await, Sought::Nobody, "it was revoked");
        assert_eq!(find(&known, "a", Ok(Some(3))).await, Sought::Nobody);
        age(&known, FRESH_NOBODY);
        assert_eq!(find(&known, "a", Ok(Some(3))).await, Sought::Known(3));
    }

    #[tokio::test]
    async fn a_database_that_says_nothing_is_asked_once() {
        let known: Known<u32> = Known::default();
        let never = async || std::future::pending().await;
        assert_eq!(known.find("a", never).await.unwrap(), Sought::Unknown);
        let asked = async || panic!("asked again at once");
        assert_eq!(known.find("b", asked).await.unwrap(), Sought::Unknown);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let known = Known::default();
        for n in 0..MOST + 10 {
            known.remember(&n.to_string(), None);
        }
        assert!(known.lock().tokens.len() <= MOST);
        known.remember("a", Some(1));
        assert_eq!(find(&known, "a", away()).await, Sought::Known(1));
    }
}
