//! A private RabbitMQ as a child process, for tests: started, stopped, killed, its data wiped, its memory alarm raised.
//!
//! Nothing of it outlives its parent, however that ends: the node and its port mapper (epmd) run in the foreground as
//! children that the kernel kills together with the thread that spawned them. Without a port mapper of our own
//! the node would start a daemon on all addresses, which stays.

mod node;
mod programs;

pub use programs::{BrokerNotFound, BrokerPrograms, find_broker};

use crate::Error;
use crate::error::Context;
use node::Node;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What takes longer to fail does not fail because of a port.
const SLOW: Duration = Duration::from_secs(60);

/// How to run a broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// A folder of its own.
    pub dir: PathBuf,
    pub programs: BrokerPrograms,
    /// More lines of `rabbitmq.conf`.
    pub settings: Vec<String>,
}

/// A RabbitMQ that runs as long as this value lives. Its address stays the same over stops and starts.
#[derive(Debug)]
pub struct Broker {
    url: String,
    commands: Option<mpsc::Sender<(Command, Answer)>>,
    thread: Option<JoinHandle<()>>,
}

type Answer = mpsc::Sender<Result<(), Error>>;

#[derive(Clone, Copy, Debug)]
enum Command {
    Start,
    Stop,
    Kill,
    Wipe,
    MemoryAlarm(bool),
    Freeze(bool),
}

impl Broker {
    /// Blocks until it takes connections: five to ten seconds.
    pub fn start(options: BrokerOptions) -> Result<Broker, Error> {
        let (commands, received) = mpsc::channel::<(Command, Answer)>();
        let (made, making) = mpsc::channel();
        // One thread does all the spawning and lives as long as the broker: the children die with it.
        let work = move || {
            let mut node = match started(&options) {
                Ok(node) => node,
                Err(error) => return drop(made.send(Err(error))),
            };
            if made.send(Ok(node.url())).is_err() {
                return;
            }
            for (command, answer) in received {
                let done = match command {
                    Command::Start => node.start(),
                    Command::Stop => node.stop(),
                    Command::Kill => node.kill(),
                    Command::Wipe => node.wipe(),
                    Command::MemoryAlarm(on) => node.memory_alarm(on),
                    Command::Freeze(on) => node.freeze(on),
                };
                let _ = answer.send(done);
            }
        };
        let thread = std::thread::Builder::new()
            .name("rabbitmq".to_owned())
            .spawn(work)
            .context(|| "no thread".to_owned())?;
        let url = making.recv().map_err(|_| Error::Broker("the supervising thread died".to_owned()))??;
        Ok(Broker { url, commands: Some(commands), thread: Some(thread) })
    }

    /// `amqp://user:password@127.0.0.1:port/relaydesk`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill`].
    pub fn start_again(&self) -> Result<(), Error> {
        self.tell(Command::Start)
    }

    /// Ends it in order.
    pub fn stop(&self) -> Result<(), Error> {
        self.tell(Command::Stop)
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<(), Error> {
        self.tell(Command::Kill)
    }

    /// Deletes all it has kept. Only while it does not run.
    pub fn wipe(&self) -> Result<(), Error> {
        self.tell(Command::Wipe)
    }

    /// With the alarm, it takes nothing from publishers and says so (`connection.blocked`).
    pub fn memory_alarm(&self, on: bool) -> Result<(), Error> {
        self.tell(Command::MemoryAlarm(on))
    }

    /// Stops it where it is: connections stay open, and nobody answers. Until it is told `false`.
    pub fn freeze(&self, on: bool) -> Result<(), Error> {
        self.tell(Command::Freeze(on))
    }

    fn tell(&self, command: Command) -> Result<(), Error> {
        let gone = || Error::Broker("the supervising thread died".to_owned());
        let (answer, answered) = mpsc::channel();
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send((command, answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Without it the thread ends, and the node with it.
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Its ports are free when they are chosen; somebody else may have them before the node does. Then with others.
fn started(options: &BrokerOptions) -> Result<Node, Error> {
    let mut tries = 1;
    loop {
        let begun = Instant::now();
        let mut node = Node::make(options.clone())?;
        match node.start() {
            Ok(()) => return Ok(node),
            Err(_) if tries < 3 && begun.elapsed() < SLOW => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .context(|| "no free port".to_owned())
}
