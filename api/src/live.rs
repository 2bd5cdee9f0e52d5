//! The live stream's source: one poller a process reads new events of all organizations, while somebody listens, and hands
//! them to every listener. Listeners never ask the database by themselves.
//!
//! Positions (`events.seq`) are taken before their transactions commit, so a lower one can appear after a higher one. The
//! poller holds the higher ones back until it is sure that nothing is missing below them: then "everything up to here" is
//! true of every position it has handed out, and a client can resume from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use store::Db;
use store::events::Recorded;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(250);
const BATCH: i64 = 500;
/// A listener that is this many events behind has to reconnect.
const BACKLOG: usize = 2048;
/// How long a gap below a seen event is waited for at most: longer transactions come out of order.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let rows = store::events::after(&mut tx, sequencer.last, BATCH).await?;
        tx.rollback().await?;
        let Some(newest) = rows.last() else { return Ok(()) };
        let (running_since, begun_before) = (newest.running_since, newest.begun_before);
        let positions: Vec<i64> = rows.iter().map(|row| row.event.seq).collect();
        let ready = sequencer.ready(&positions, running_since, begun_before, Instant::now());
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
    /// When all transactions before this one are over, nothing up to `up_to` can appear any more.
    until_over: i64,
    since: Instant,
}

impl Sequencer {
    fn new(last: i64) -> Self {
        Sequencer { last, settled: last, waiting: None }
    }

    fn ready(&mut self, positions: &[i64], running_since: i64, begun_before: i64, now: Instant) -> usize {
        if let Some(waiting) = &self.waiting
            && (running_since >= waiting.until_over || now.duration_since(waiting.since) >= PATIENCE)
        {
            self.settled = waiting.up_to;
            self.waiting = None;
        }
        let mut ready = 0;
        for position in positions {
            if *position != self.last + 1 && *position > self.settled {
                break;
            }
            self.last = *position;
            ready += 1;
        }
        if let (true, None, Some(newest)) = (ready < positions.len(), &self.waiting, positions.last()) {
            self.waiting = Some(Waiting { up_to: *newest, until_over: begun_before, since: now });
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_gaps_go_at_once() {
        let mut sequencer = Sequencer::new(4);
        assert_eq!(sequencer.ready(&[5, 6, 7], 10, 20, Instant::now()), 3);
        assert_eq!(sequencer.last, 7);
    }

    #[test]
    fn a_gap_is_waited_for_while_its_transaction_may_run() {
        let (mut sequencer, now) = (Sequencer::new(4), Instant::now());
        assert_eq!(sequencer.ready(&[5, 7], 10, 20, now), 1);
        assert_eq!(sequencer.ready(&[7, 8], 15, 25, now), 0);
        // It committed after all.
        assert_eq!(sequencer.ready(&[6, 7, 8], 15, 25, now), 3);
    }

    #[test]
    fn a_gap_that_was_rolled_back_is_passed_over() {
        let (mut sequencer, now) = (Sequencer::new(4), Instant::now());
        assert_eq!(sequencer.ready(&[7, 9], 10, 20, now), 0);
        // Everything that ran then is over; 11 has a gap below it that is younger.
        assert_eq!(sequencer.ready(&[7, 9, 11], 20, 30, now), 2);
        assert_eq!(sequencer.ready(&[11], 25, 40, now), 0);
        assert_eq!(sequencer.ready(&[11], 30, 40, now), 1);
    }

    #[test]
    fn patience_ends() {
        let (mut sequencer, now) = (Sequencer::new(4), Instant::now());
        assert_eq!(sequencer.ready(&[7], 10, 20, now), 0);
        assert_eq!(sequencer.ready(&[7], 10, 50, now + PATIENCE), 1);
    }
}
