//! From a request that is in the broker to its answer.

use super::desk::{Place, Said};
use super::{LOST, NotPerformed, PICK, answer};
use std::time::Duration;

/// How often it is looked whether a silence has an end.
const LOOK: Duration = Duration::from_secs(1);
/// Of what a station says to people.
const LONGEST_TEXT: usize = 500;

/// What the platform can do while it waits.
pub(super) trait Line: Sync {
    /// Whether a station that speaks is heard, and one that is spoken to hears.
    fn is_open(&self) -> bool;

    /// False: it has certainly not been told.
    fn tell_to_go(&self, station: &str) -> impl Future<Output = bool> + Send;
}

pub(super) async fn wait(place: &mut Place, line: &impl Line, lane: &str) -> Result<Vec<u8>, NotPerformed> {
    let (mut is_taken, mut silence) = (false, Duration::ZERO);
    loop {
        let said = match tokio::time::timeout(LOOK, place.told.recv()).await {
            Ok(Some(said)) => said,
            Ok(None) => return Err(NotPerformed::Stopped),
            Err(_) => {
                if !is_taken || line.is_open() {
                    silence += LOOK;
                } else {
                    // Nobody is heard while the broker is away from here, and perhaps was not before that was noticed: it counts anew. The
                    // job's own time limit holds all the same.
                    silence = Duration::ZERO;
                }
                if is_taken && silence >= LOST {
                    let why = format!("the remote worker that had it was not heard of for {LOST:?}");
                    return Err(NotPerformed::Failed(why));
                }
                if !is_taken && silence >= PICK {
                    let why = format!(
                        "no remote worker took it within {PICK:?}: is there one for the lane {lane}?"
                    );
                    return Err(NotPerformed::NotBegun(why));
                }
                continue;
            }
        };
        silence = Duration::ZERO;
        match said.kind.as_str() {
            answer::TAKEN => {
                if line.tell_to_go(&said.about.from).await {
                    is_taken = true;
                } else if !is_taken {
                    place.open_again();
                }
                // Else it may have heard an earlier word, and be at it.
            }
            answer::BEAT => is_taken = true,
            answer::DONE => return Ok(said.body),
            answer::REFUSED => return Err(NotPerformed::NotBegun(text(&said))),
            answer::TOO_LARGE => return Err(NotPerformed::Impossible(text(&said))),
            _ => return Err(NotPerformed::Failed(text(&said))),
        }
    }
}

/// Somebody else's words, for the ledger and the log.
fn text(said: &Said) -> String {
    let text = String::from_utf8_lossy(&said.body[..said.body.len().min(4 * LONGEST_TEXT)]);
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT);
    line.collect()
}

#[cfg(test)]
mod tests {
    use super::super::desk::tests::World;
    use super::*;
    use std::sync::Mutex;
    use std::time::Instant;
    use uuid::Uuid;

    /// Whether each of the words goes out.
    struct Words(Mutex<Vec<bool>>);

    impl Line for Words {
        fn is_open(&self) -> bool {
            true
        }

        async fn tell_to_go(&self, _: &str) -> bool {
            self.0.lock().unwrap().remove(0)
        }
    }

    /// Until `left` of the words were not asked for.
    async fn until(words: &Words, left: usize) {
        let begun = Instant::now();
        while words.0.lock().unwrap().len() > left {
            assert!(begun.elapsed() < Duration::from_secs(30), "a station that asks is not told");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn who_was_told_to_go_keeps_the_request_when_a_later_word_is_lost() {
        let (world, id) = (World::new(), Uuid::now_v7());
        let mut place = world.place(id);
        let words = Words(Mutex::new(vec![true, false]));
        let asks = async {
            assert_eq!(world.says("a", id, answer::TAKEN), "taken");
            until(&words, 1).await;
            assert_eq!(world.says("a", id, answer::TAKEN), "taken", "it has not heard that it may");
            until(&words, 0).await;
            assert_eq!(world.says("b", id, answer::TAKEN), "second");
            assert_eq!(world.says("a", id, answer::BEAT), "beat");
            assert_eq!(world.says("a", id, answer::DONE), "answer");
        };
        let (answer, ()) = tokio::join!(wait(&mut place, &words, "lane"), asks);
        assert_eq!(answer.unwrap(), b"42");
    }

    #[tokio::test]
    async fn who_could_not_be_told_leaves_the_request_to_another() {
        let (world, id) = (World::new(), Uuid::now_v7());
        let mut place = world.place(id);
        let words = Words(Mutex::new(vec![false, true]));
        let asks = async {
            assert_eq!(world.says("a", id, answer::TAKEN), "taken");
            until(&words, 1).await;
            assert_eq!(world.says("b", id, answer::TAKEN), "taken");
            until(&words, 0).await;
            assert_eq!(world.says("b", id, answer::DONE), "answer");
        };
        let (answer, ()) = tokio::join!(wait(&mut place, &words, "lane"), asks);
        assert_eq!(answer.unwrap(), b"42");
    }

    #[tokio::test]
    async fn one_that_gives_it_back_after_it_has_asked_is_no_attempt() {
        let (world, id) = (World::new(), Uuid::now_v7());
        let mut place = world.place(id);
        let words = Words(Mutex::new(vec![true]));
        assert_eq!(world.says("a", id, answer::TAKEN), "taken");
        assert_eq!(world.says("a", id, answer::REFUSED), "answer");
        let error = wait(&mut place, &words, "lane").await.unwrap_err();
        assert!(matches!(&error, NotPerformed::NotBegun(why) if why == "42"), "{error:?}");
    }
}
