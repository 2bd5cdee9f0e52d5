//! One node: its folder, its processes.
//!
//! ```text
//! DIR/lock            held while the node is supervised
//! DIR/home/           the cookie of the Erlang distribution (0400)
//! DIR/data/mnesia/    what the broker keeps
//! DIR/rabbitmq.conf   written at each start
//! DIR/rabbitmq.log    what it says
//! ```

use super::{BrokerOptions, free_port};
use crate::Error;
use crate::error::Context;
use crate::folder::{private_file, random_hex, take_lock};
use crate::supervise::die_with_parent;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "relaydesk@localhost";
const VHOST: &str = "relaydesk";
/// A slow machine that does other work too.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Node {
    options: BrokerOptions,
    password: String,
    cookie: String,
    port: u16,
    distribution: u16,
    mapper_port: u16,
    mapper: Option<Child>,
    node: Option<Child>,
    _lock: File,
}

impl Node {
    pub fn make(options: BrokerOptions) -> Result<Node, Error> {
        let dir = &options.dir;
        for folder in [dir.clone(), dir.join("home"), dir.join("data")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .context(|| format!("cannot make {}", folder.display()))?;
        }
        let lock = take_lock(dir, Duration::from_secs(2))?;
        let random = |bytes| random_hex(bytes).context(|| "no randomness from /dev/urandom".to_owned());
        let cookie = random(16)?;
        let file = dir.join("home/.erlang.cookie");
        let _ = fs::remove_file(&file);
        fs::write(&file, &cookie)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o400)))
            .context(|| format!("cannot write {}", file.display()))?;
        Ok(Node {
            password: random(12)?,
            cookie,
            port: free_port()?,
            distribution: free_port()?,
            mapper_port: free_port()?,
            mapper: None,
            node: None,
            _lock: lock,
            options,
        })
    }

    pub fn url(&self) -> String {
        format!("amqp://relaydesk:{}@127.0.0.1:{}/{VHOST}", self.password, self.port)
    }

    /// Returns when it takes connections.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.node.is_some() {
            return Ok(());
        }
        self.write_settings()?;
        let runtime = &self.options.programs.runtime;
        if self.mapper.is_none() {
            let mut epmd = Command::new(runtime.join("epmd"));
            epmd.args(["-port", &self.mapper_port.to_string(), "-address", "127.0.0.1"]);
            self.mapper = Some(spawn(epmd, self.options.dir.join("data"), Stdio::null())?);
        }
        let log_file = self.log();
        let log = private_file(&log_file)
            .append(true)
            .open(&log_file)
            .context(|| format!("cannot write {}", log_file.display()))?;
        let mut erl = Command::new(runtime.join("erlexec"));
        // What RabbitMQ's own start script passes; that script stays between us and the node, and its shell would not
        // take the node with it when it is killed.
        erl.args(["-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w", "+B", "i"])
            .args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"])
            .args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
            .args(["-kernel", "prevent_overlapping_partitions", "false"])
            .args(["-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"]);
        erl.env_clear().envs(self.environment());
        self.node = Some(spawn(erl, self.options.dir.join("data"), log.into())?);
        self.until_ready()
    }

    pub fn stop(&mut self) -> Result<(), Error> {
        self.end(Signal::SIGTERM)
    }

    pub fn kill(&mut self) -> Result<(), Error> {
        self.end(Signal::SIGKILL)
    }

    pub fn wipe(&mut self) -> Result<(), Error> {
        if self.node.is_some() {
            return Err(Error::Broker("stop it before its data is wiped".to_owned()));
        }
        let data = self.options.dir.join("data");
        for name in ["mnesia", "generated"] {
            let folder = data.join(name);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context(|| format!("cannot remove {}", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A watermark of nothing is over at once.
    pub fn memory_alarm(&mut self, on: bool) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            match self.set_watermark(on) {
                // A node that takes connections may not be quite there for its like.
                Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                done => return done,
            }
        }
    }

    fn set_watermark(&self, on: bool) -> Result<(), Error> {
        let watermark = if on { "[0]" } else { "[{absolute, \"512MiB\"}]" };
        let told = Command::new(self.options.programs.runtime.join("erl_call"))
            .args(["-sname", NAME, "-c", &self.cookie, "-a"])
            .arg(format!("vm_memory_monitor set_vm_memory_high_watermark {watermark}"))
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .output()
            .context(|| "cannot run erl_call".to_owned())?;
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        if told.status.success() && said.trim() == "ok" {
            return Ok(());
        }
        Err(Error::Broker(format!(
            "the alarm could not be set: {said}{}",
            String::from_utf8_lossy(&told.stderr)
        )))
    }

    pub fn freeze(&mut self, on: bool) -> Result<(), Error> {
        let Some(node) = &self.node else { return Ok(()) };
        let signal = if on { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(node.id().cast_signed()), signal).context(|| "cannot freeze RabbitMQ".to_owned())
    }

    fn end(&mut self, signal: Signal) -> Result<(), Error> {
        let Some(mut node) = self.node.take() else { return Ok(()) };
        let _ = kill(Pid::from_raw(node.id().cast_signed()), signal);
        let begun = Instant::now();
        while let Ok(None) = node.try_wait() {
            if begun.elapsed() > Duration::from_secs(40) {
                let _ = node.kill();
                let _ = node.wait();
                return Err(Error::Broker("RabbitMQ did not stop in time".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.options.dir.join("rabbitmq.log")
    }

    fn write_settings(&self) -> Result<(), Error> {
        let mut settings = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", self.port),
            "default_user = relaydesk".to_owned(),
            format!("default_pass = {}", self.password),
            format!("default_vhost = {VHOST}"),
            "log.console = true".to_owned(),
            "log.console.level = warning".to_owned(),
            "log.file = false".to_owned(),
            "vm_memory_high_watermark.absolute = 512MiB".to_owned(),
            "disk_free_limit.absolute = 64MiB".to_owned(),
            "raft.wal_max_size_bytes = 33554432".to_owned(),
        ];
        settings.extend(self.options.settings.iter().cloned());
        for (name, text) in
            [("rabbitmq.conf", settings.join("\n") + "\n"), ("enabled_plugins", "[].\n".to_owned())]
        {
            let path = self.options.dir.join(name);
            let write = || private_file(&path).truncate(true).open(&path)?.write_all(text.as_bytes());
            write().context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let BrokerOptions { dir, programs, .. } = &self.options;
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("HOME", path(dir.join("home"))),
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("ROOTDIR", path(programs.erlang.clone())),
            ("BINDIR", path(programs.runtime.clone())),
            ("EMU", "beam".to_owned()),
            ("PROGNAME", "erl".to_owned()),
            ("ERL_LIBS", path(programs.server.join("plugins"))),
            ("ERL_EPMD_PORT", self.mapper_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_HOME", path(programs.server.clone())),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_NODENAME", NAME.to_owned()),
            ("RABBITMQ_CONFIG_FILE", path(dir.join("rabbitmq.conf"))),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path(dir.join("enabled_plugins"))),
            ("RABBITMQ_MNESIA_BASE", path(dir.join("data/mnesia"))),
            ("RABBITMQ_GENERATED_CONFIG_DIR", path(dir.join("data/generated"))),
            ("RABBITMQ_LOG_BASE", path(dir.join("data/log"))),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string()),
        ]
    }

    /// Until it answers the greeting of AMQP 0-9-1 with a frame of its own.
    fn until_ready(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            if self.greets().is_ok_and(|answer| answer == [1]) {
                return Ok(());
            }
            let ended = self.node.as_mut().and_then(|node| node.try_wait().transpose());
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let _ = self.kill();
                let said = fs::read_to_string(self.log()).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(15).collect();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(Error::Broker(format!("RabbitMQ did not start:\n{last}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn greets(&self) -> std::io::Result<[u8; 1]> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
        if let Some(mut mapper) = self.mapper.take() {
            let _ = mapper.kill();
            let _ = mapper.wait();
        }
        let _ = fs::remove_dir_all(&self.options.dir);
    }
}

/// In `folder`, so that it can be seen who still uses it.
fn spawn(mut command: Command, folder: PathBuf, output: Stdio) -> Result<Child, Error> {
    command.current_dir(folder).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
    die_with_parent(&mut command, Signal::SIGKILL);
    let program = PathBuf::from(command.get_program());
    command.spawn().context(|| format!("cannot run {}", program.display()))
}
