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
/// More are not remembered; the oldest go.
const MOST: usize = 50_000;
/// Anybody can ask for tokens that nobody has: they take no room from those that somebody has.
const MOST_NOBODY: usize = 10_000;

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
    tokens: HashMap<String, (T, Instant)>,
    nobody: HashMap<String, Instant>,
    away_until: Option<Instant>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Known { seen: Mutex::new(Seen { tokens: HashMap::new(), nobody: HashMap::new(), away_until: None }) }
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
            let Seen { tokens, nobody, .. } = &mut *seen;
            match tokens.get_mut(token_hash) {
                Some((found, at)) if at.elapsed() < STALE => {
                    if is_away || at.elapsed() < FRESH {
                        return Ok(Sought::Known(found.clone()));
                    }
                    let old = (found.clone(), *at);
                    // Others go on with what there is while this one asks.
                    *at = Instant::now();
                    Some(old)
                }
                _ if nobody.get(token_hash).is_some_and(|at| at.elapsed() < FRESH_NOBODY) => {
                    return Ok(Sought::Nobody);
                }
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
            // Whatever keeps it from answering: a lock, a full disk, a server that restarts.
            Ok(Err(error @ store::Error::Database(_))) if !super::is_about_the_data(&error) => {
                error.to_string()
            }
            Ok(Err(error)) => return Err(Error::Store(error)),
            Err(_) => format!("no answer within {patience:?}"),
        };
        let mut seen = self.lock();
        seen.away_until = Some(Instant::now() + AWAY);
        tracing::debug!(why, "tokens of hooks are judged by what is remembered");
        Ok(match old {
            Some((found, at)) => {
                // As old as it was: asked again as soon as there is somebody to ask.
                seen.tokens.insert(token_hash.to_owned(), (found.clone(), at));
                Sought::Known(found)
            }
            None => Sought::Unknown,
        })
    }

    fn remember(&self, token_hash: &str, found: Option<T>) {
        let mut seen = self.lock();
        seen.away_until = None;
        let now = Instant::now();
        match found {
            Some(found) => {
                seen.nobody.remove(token_hash);
                make_room(&mut seen.tokens, MOST, |(_, at)| *at);
                seen.tokens.insert(token_hash.to_owned(), (found, now));
            }
            None => {
                seen.tokens.remove(token_hash);
                make_room(&mut seen.nobody, MOST_NOBODY, |at| *at);
                seen.nobody.insert(token_hash.to_owned(), now);
            }
        }
    }
}

/// Of a full map the oldest tenth goes.
fn make_room<T>(map: &mut HashMap<String, T>, most: usize, at: impl Fn(&T) -> Instant) {
    if map.len() < most {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&at).collect();
    let (_, until, _) = times.select_nth_unstable(most / 10);
    let until = *until;
    map.retain(|_, value| at(value) > until);
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
        let Seen { tokens, nobody, .. } = &mut *seen;
        let times = tokens.values_mut().map(|(_, at)| at).chain(nobody.values_mut());
        times.for_each(|at| *at = at.checked_sub(by).unwrap());
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
            known.remember(&n.to_string(), Some(n as u32));
        }
        let newest = (MOST + 9) as u32;
        assert_eq!(find(&known, &newest.to_string(), away()).await, Sought::Known(newest));
        assert_eq!(find(&known, "0", away()).await, Sought::Unknown, "the oldest went");
        let seen = known.lock();
        assert!((MOST / 2..=MOST).contains(&seen.tokens.len()), "{}", seen.tokens.len());
    }

    #[tokio::test]
    async fn a_stranger_cannot_make_it_forget_what_it_knows() {
        let known = Known::default();
        known.remember("real", Some(1));
        age(&known, FRESH * 2);
        for n in 0..MOST + 10 {
            known.remember(&n.to_string(), None);
        }
        assert!(known.lock().nobody.len() <= MOST_NOBODY);
        assert_eq!(find(&known, "real", away()).await, Sought::Known(1));
    }

    /// 25006 and 53100 are errors of the server too; what matters is that there was no answer.
    #[tokio::test]
    async fn every_failure_to_answer_counts_as_away() {
        let known = Known::default();
        known.remember("real", Some(1));
        age(&known, FRESH * 2);
        let broken = || Err(store::Error::Database(sqlx::Error::Protocol("cut off".into())));
        assert_eq!(find(&known, "real", broken()).await, Sought::Known(1));
        age(&known, Duration::ZERO);
        assert_eq!(find(&known, "other", broken()).await, Sought::Unknown);
    }
}
