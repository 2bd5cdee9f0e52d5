//! The live stream's source: one poller a process reads new events of all organizations, and what is new of jobs, while somebody
//! listens, and hands them to every listener. Listeners never ask the database by themselves.
//!
//! Positions (`events.seq`) are taken before their transactions commit, so a lower one can appear after a higher one. The
//! poller holds the higher ones back until every transaction that could still bring a lower one is over: then "everything up to here" is
//! true of every position it has handed out, and a client can resume from it.
//!
//! What jobs say has no position: the last word counts, and it is read again for as long as an earlier one may still appear.

use queue::JobId;
use queue::admin::{self, News};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::Db;
use store::events::Recorded;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(250);
const BATCH: i64 = 500;
/// A listener that is this many messages behind has to reconnect.
const BACKLOG: usize = 2048;

/// What listeners are told.
#[derive(Debug)]
pub enum Told {
    Event(Recorded),
    Job(News),
}

#[derive(Clone, Debug)]
pub struct Live {
    db: Db,
    sender: broadcast::Sender<Arc<Told>>,
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
    pub async fn follow(&self) -> store::Result<(broadcast::Receiver<Arc<Told>>, i64)> {
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
        let (mut failing, mut jobs) = (false, Jobs::default());
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
            match self.step(&mut sequencer, &mut jobs).await {
                Ok(()) => failing = false,
                Err(error) => {
                    // What was read and not told is read again.
                    sequencer.last = self.position.load(Ordering::SeqCst);
                    if !failing {
                        tracing::warn!(%error, "the live stream cannot read events; it goes on when the database answers");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn step(&self, sequencer: &mut Sequencer, jobs: &mut Jobs) -> store::Result<()> {
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
        // An error says that nobody listens any more.
        for row in rows.into_iter().take(ready) {
            self.position.store(row.event.seq, Ordering::SeqCst);
            let _ = self.sender.send(Arc::new(Told::Event(row)));
        }
        // After the events: they do not wait for it, whatever is wrong with it.
        let news = admin::news(&mut tx, None, None).await?;
        tx.rollback().await?;
        for news in jobs.unsaid(news) {
            let _ = self.sender.send(Arc::new(Told::Job(news)));
        }
        Ok(())
    }
}

/// What was last said of the jobs that are looked at.
#[derive(Debug, Default)]
struct Jobs(HashMap<JobId, News>);

impl Jobs {
    /// Of what was read, what is not said yet. A job that is not among it any more is forgotten.
    fn unsaid(&mut self, news: Vec<News>) -> Vec<News> {
        let said = std::mem::take(&mut self.0);
        let is_new = |news: &&News| said.get(&news.job).is_none_or(|said| !said.says_the_same(news));
        let unsaid = news.iter().filter(is_new).cloned().collect();
        self.0 = news.into_iter().map(|news| (news.job, news)).collect();
        unsaid
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
    fn what_a_job_says_is_told_once() {
        let news = |job: u128, progress: i64, second: i64| News {
            job: JobId(uuid::Uuid::from_u128(job)),
            organization: None,
            lane: "reports".into(),
            kind: "run_report".into(),
            state: admin::JobState::Running,
            attempt: Some(1),
            progress: Some(progress.into()),
            result: None,
            error: None,
            changed_at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
        };
        let mut jobs = Jobs::default();
        let mut told = |news: Vec<News>| -> Vec<u128> {
            jobs.unsaid(news).into_iter().map(|news| news.job.0.as_u128()).collect()
        };
        assert_eq!(told(vec![news(1, 10, 0), news(2, 10, 3)]), [1, 2]);
        // The same again, something else, and one that appears late.
        assert_eq!(told(vec![news(1, 10, 0), news(3, 7, 2), news(2, 20, 4)]), [3, 2]);
        assert_eq!(told(vec![news(3, 7, 2), news(2, 20, 5)]), []);
        assert_eq!(told(vec![news(2, 20, 5), news(1, 30, 6)]), [1]);
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
