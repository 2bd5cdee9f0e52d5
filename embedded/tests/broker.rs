//! The private RabbitMQ against real processes.

use embedded::{Broker, BrokerOptions, find_broker};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Numbers of the processes that work in a folder.
fn working_in(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn greets(url: &str) -> bool {
    let address = url.split(['@', '/']).nth(3).unwrap();
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).is_ok_and(|()| answer == [1])
}

/// In another process: a broker that is held until that process is killed.
const HOLDS: &str = "BROKER_TEST_HOLDS";

#[test]
fn it_dies_with_its_parent_even_on_kill_9() {
    let programs = find_broker().unwrap_or_else(|error| panic!("{error}"));
    if let Some(dir) = std::env::var_os(HOLDS) {
        let broker =
            Broker::start(BrokerOptions { dir: dir.into(), programs, settings: Vec::new() }).unwrap();
        std::fs::write(Path::new(&std::env::var_os(HOLDS).unwrap()).join("ready"), broker.url()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("broker");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "it_dies_with_its_parent_even_on_kill_9"])
        .env(HOLDS, &dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !dir.join("ready").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(90) && holder.try_wait().unwrap().is_none(),
            "it starts"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(working_in(&dir).len() >= 2, "a node and its port mapper");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let begun = Instant::now();
    while !working_in(&dir).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} are left", working_in(&dir));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One story, because each start takes seconds.
#[test]
fn it_starts_and_ends_in_every_way_and_leaves_nothing() {
    let programs = find_broker().unwrap_or_else(|error| panic!("{error}"));
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("broker");
    let broker = Broker::start(BrokerOptions { dir: dir.clone(), programs, settings: Vec::new() }).unwrap();
    assert!(greets(broker.url()), "{}", broker.url());
    broker.memory_alarm(true).unwrap();
    broker.memory_alarm(false).unwrap();
    assert!(broker.wipe().is_err(), "not while it runs");

    broker.kill().unwrap();
    assert!(!greets(broker.url()));
    broker.wipe().unwrap();
    broker.start_again().unwrap();
    assert!(greets(broker.url()), "with the address of before");

    drop(broker);
    assert_eq!(working_in(&dir), [] as [u32; 0], "no node, no port mapper");
    assert!(!dir.exists());
}
