//! Moves what hooks have put into the broker into the inbox.

use actions::hooks::{self, Moved, move_in, queues};
use queue::BrokerConfig;
use queue::messages::{Fate, Message, NotNow, Receive, Subscriber};
use store::Db;
use tokio_util::sync::CancellationToken;

/// Until `stop`. Any number of processes may do it at once.
pub async fn run(db: Db, broker: BrokerConfig, name: String, stop: CancellationToken) {
    let subscriber = Subscriber::new(&broker, &name, "hooks_out");
    let mover = Mover(db);
    let [small, large, unknown] = queues();
    futures::join!(
        subscriber.run(&small, &mover, &stop),
        subscriber.run(&large, &mover, &stop),
        subscriber.run(&unknown, &mover, &stop),
    );
    subscriber.close().await;
}

struct Mover(Db);

impl Receive for Mover {
    async fn receive(&self, batch: &[Message]) -> Result<Vec<Fate>, NotNow> {
        match move_in(&self.0, batch).await {
            Ok(moved) => Ok(moved.into_iter().map(fate).collect()),
            // One of them; the others need not suffer.
            Err(error) if is_about_the_data(&error) => {
                let mut fates = Vec::with_capacity(batch.len());
                for message in batch {
                    fates.push(self.alone(message).await?);
                }
                Ok(fates)
            }
            Err(error) => Err(anyhow::Error::from(error).into()),
        }
    }
}

impl Mover {
    async fn alone(&self, message: &Message) -> Result<Fate, NotNow> {
        match move_in(&self.0, std::slice::from_ref(message)).await {
            Ok(moved) => Ok(moved.into_iter().map(fate).next().unwrap_or(Fate::Dead)),
            Err(error) if is_about_the_data(&error) => {
                tracing::error!(%error, inbox.id = %message.id, kind = message.kind, "what came in by a hook cannot be kept");
                Ok(Fate::Dead)
            }
            Err(error) => Err(anyhow::Error::from(error).into()),
        }
    }
}

fn fate(moved: Moved) -> Fate {
    match moved {
        Moved::Kept => Fate::Taken("kept"),
        Moved::Again => Fate::Taken("again"),
        Moved::Revoked => Fate::Taken("revoked"),
        Moved::Nobody => Fate::Taken("nobody"),
        Moved::Unreadable => Fate::Dead,
    }
}

fn is_about_the_data(error: &actions::Error) -> bool {
    matches!(error, actions::Error::Store(error) if hooks::is_about_the_data(error))
}
