//! The live stream's source: one poller a process reads new events of all organizations, while somebody listens, and hands
//! them to every listener. Listeners never ask the database by themselves.
//!
//! Positions (`events.seq`) are taken before their transactions commit, so a lower one can appear after a higher one. The
//! poller holds the higher ones back until every transaction that could still bring a lower one is over: then "everything up to here" is
//! true of every position it has handed out, and a client can resume from it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::Db;
use store::events::Recorded;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(250);
const BATCH: i64 = 500;
/// A listener that is this many events behind has to reconnect.
const BACKLOG: usize = 2048;

#[derive(Clone, Debug)]
pub struct Live {
    db: Db,
    sender: broadcast::Sender<Arc<Recorded>>,
    /// Everything up to here was handed out. Set before the event is sent.
    position: Arc<AtomicI64>,
    running: Arc<Mutex<bool>>,
    stop: CancellationToken,
}

impl Live {
    pub fn new(db: Db, stop: CancellationToken) -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Live { db, sender, position: Arc::default(), running: Arc::default(), stop }
    }

    /// What comes after the position that is answered too. Starts the poller if it sleeps.
    pub async fn follow(&self) -> store::Result<(broadcast::Receiver<Arc<Recorded>>, i64)> {
        let mut running = self.running.lock().await;
        if !*running {
            let mut tx = self.db.begin_system().await?;
            let beginning = store::events::beginning(&mut tx).await?;
            self.position.store(beginning, Ordering::SeqCst);
        }
        let receiver = self.sender.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(self.clone().poll(Sequencer::new(self.position.load(Ordering::SeqCst))));
        }
        Ok((receiver, self.position.load(Ordering::SeqCst)))
    }

    async fn poll(self, mut sequencer: Sequencer) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.stop.cancelled() => return,
            }
            {
                let mut running = self.running.lock().await;
                if self.sender.receiver_count() == 0 {
                    *running = false;
                    return;
                }
            }
            match self.step(&mut sequencer).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the live stream cannot read events; it goes on when the database answers");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn step(&self, sequencer: &mut Sequencer) -> store::Result<()> {
        let mut tx = self.db.begin_system().await?;
        // Before the rows are read: a transaction that is over now has its rows among them.
        if sequencer.waiting.is_some() {
            sequencer.settle(&store::events::writers(&mut tx).await?);
        }
        let rows = store::events::after(&mut tx, sequencer.last, BATCH).await?;
        let positions: Vec<i64> = rows.iter().map(|row| row.event.seq).collect();
        let ready = sequencer.ready(&positions);
        if let (None, Some(newest)) = (&sequencer.waiting, positions[ready..].last()) {
            // After the rows were read: who took a position below them and is not among them still writes, or is over just now.
            let writers = store::events::writers(&mut tx).await?;
            sequencer.waiting = Some(Waiting { up_to: *newest, writers });
        }
        tx.rollback().await?;
        for row in rows.into_iter().take(ready) {
            self.position.store(row.event.seq, Ordering::SeqCst);
            // An error says that nobody listens any more.
            let _ = self.sender.send(Arc::new(row));
        }
        Ok(())
    }
}

/// Decides how many of the rows read can be handed out.
#[derive(Debug)]
struct Sequencer {
    last: i64,
    /// Gaps up to here are for ever: their transactions rolled back.
    settled: i64,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    up_to: i64,
    /// When all of these are over, nothing up to `up_to` can appear any more.
    writers: HashSet<String>,
}

impl Sequencer {
    fn new(last: i64) -> Self {
        Sequencer { last, settled: last, waiting: None }
    }

    /// Told who writes at this moment, before the rows are read.
    fn settle(&mut self, writers: &HashSet<String>) {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.writers.is_disjoint(writers)) {
            self.settled = waiting.up_to;
        }
    }

    fn ready(&mut self, positions: &[i64]) -> usize {
        let mut ready = 0;
        for position in positions {
            if *position != self.last + 1 && *position > self.settled {
                break;
            }
            self.last = *position;
            ready += 1;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn wait(sequencer: &mut Sequencer, up_to: i64, names: &[&str]) {
        sequencer.waiting = Some(Waiting { up_to, writers: writers(names) });
    }

    #[test]
    fn rows_without_gaps_go_at_once() {
        let mut sequencer = Sequencer::new(4);
        assert_eq!(sequencer.ready(&[5, 6, 7]), 3);
        assert_eq!(sequencer.last, 7);
    }

    #[test]
    fn a_gap_is_waited_for_while_its_transaction_may_run() {
        let mut sequencer = Sequencer::new(4);
        assert_eq!(sequencer.ready(&[5, 7]), 1);
        wait(&mut sequencer, 7, &["3/12"]);
        sequencer.settle(&writers(&["3/12", "4/1"]));
        assert_eq!(sequencer.ready(&[7, 8]), 0);
        // It committed after all.
        sequencer.settle(&writers(&["4/1"]));
        assert_eq!(sequencer.ready(&[6, 7, 8]), 3);
    }

    #[test]
    fn a_gap_that_was_rolled_back_is_passed_over() {
        let mut sequencer = Sequencer::new(4);
        assert_eq!(sequencer.ready(&[7, 9]), 0);
        wait(&mut sequencer, 9, &["3/12"]);
        // Everything that wrote then is over; 11 has a gap below it that is younger.
        sequencer.settle(&writers(&["5/2"]));
        assert_eq!(sequencer.ready(&[7, 9, 11]), 2);
        wait(&mut sequencer, 11, &["5/2"]);
        sequencer.settle(&writers(&["5/2"]));
        assert_eq!(sequencer.ready(&[11]), 0);
        sequencer.settle(&writers(&[]));
        assert_eq!(sequencer.ready(&[11]), 1);
    }
}
