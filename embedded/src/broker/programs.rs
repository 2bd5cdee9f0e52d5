//! Finding RabbitMQ and the Erlang it runs on.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of RabbitMQ and Erlang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerPrograms {
    /// `…/rabbitmq_server-VERSION`, with `plugins` in it.
    pub server: PathBuf,
    /// `…/erlang`, with `lib`, `releases` and the runtime.
    pub erlang: PathBuf,
    /// `…/erts-VERSION/bin`: the emulator, epmd, erl_call.
    pub runtime: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no RabbitMQ was found: run `script/setup --tests`, or install it (Debian, Ubuntu: `apt-get install rabbitmq-server`)"
)]
pub struct BrokerNotFound;

/// Those of the system (Debian's layout), else those that `script/setup` has unpacked.
pub fn find_broker() -> Result<BrokerPrograms, BrokerNotFound> {
    let here = std::env::current_dir().unwrap_or_default();
    // A test runs in the folder of its crate, the tools lie in that of the workspace.
    let unpacked = here.ancestors().map(|folder| folder.join(".relaydesk/tools/usr/lib"));
    std::iter::once(PathBuf::from("/usr/lib"))
        .chain(unpacked.filter(|lib| crate::binaries::is_trusted(lib)))
        .find_map(|lib| inside(&lib))
        .ok_or(BrokerNotFound)
}

fn inside(lib: &Path) -> Option<BrokerPrograms> {
    let server = newest(&lib.join("rabbitmq/lib"), "rabbitmq_server-")?;
    let erlang = lib.join("erlang");
    let runtime = newest(&erlang, "erts-")?.join("bin");
    let complete = server.join("plugins").is_dir()
        && ["erlexec", "beam.smp", "epmd", "erl_call"].iter().all(|name| runtime.join(name).is_file());
    complete.then_some(BrokerPrograms { server, erlang, runtime })
}

fn newest(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .max()
}
