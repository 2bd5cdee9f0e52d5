//! The supervisor against real processes: started, killed in every way, started again.

use embedded::{Cluster, Error, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use sqlx::{Connection, PgConnection, Row};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder that the unprivileged account can reach too.
fn folder() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = parent.path().join("cluster");
    (parent, dir)
}

fn start(dir: &Path) -> Cluster {
    Cluster::start(Options::new(dir)).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn ask(url: &str, sql: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let answer = sqlx::query(sql).fetch_one(&mut connection).await?.try_get(0);
    connection.close().await?;
    answer
}

#[tokio::main(flavor = "current_thread")]
async fn tell(url: &str, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await
}

/// Polls what only the kernel knows (foreign processes have no event to await).
fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "{what} did not happen within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no memory any more.
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|memory| !memory.starts_with("0 "))
}

/// Another process that runs the cluster of `dir` and waits; with the number of its PostgreSQL.
fn holder(dir: &Path) -> (Child, u32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .arg("--data")
        .arg(dir)
        .args(["sh", "-c", "echo ready; exec cat"]) // until our end of its input is closed
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid =
        fs::read_to_string(dir.join("data/postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap();
    (child, pid)
}

#[test]
fn it_is_durable_private_and_the_application_has_no_power() {
    let (_parent, dir) = folder();
    let cluster = start(&dir);
    let owner = cluster.owner_url("relaydesk");
    for (setting, expected) in [
        ("show fsync", "on"),
        ("show synchronous_commit", "on"),
        ("show full_page_writes", "on"),
        ("show data_checksums", "on"),
        ("show listen_addresses", ""),
        ("show password_encryption", "scram-sha-256"),
    ] {
        assert_eq!(ask(&owner, setting).unwrap(), expected, "{setting}");
    }
    let app = cluster.app_url("relaydesk");
    let powers = "select (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)::text from pg_roles where rolname = current_user";
    assert_eq!(ask(&app, powers).unwrap(), "false");
    let owned = "select count(*)::text from pg_class where relowner = (select oid from pg_roles where rolname = current_user)";
    assert_eq!(ask(&app, owned).unwrap(), "0");
    assert!(tell(&app, "create table t (x int)").is_err());
    let wrong = app.replace("relaydesk_app:", "relaydesk_app:x");
    assert!(
        ask(&wrong, "select 'in'").unwrap_err().to_string().contains("password"),
        "a wrong password is refused"
    );

    for name in ["owner.password", "app.password", "postgres.log", "lock"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let pid = cluster.pid().unwrap();
    cluster.stop();
    assert!(!is_alive(pid));
    assert!(!dir.join("data/postmaster.pid").exists());
    assert!(fs::read_to_string(dir.join("postgres.log")).unwrap().contains("database system is shut down"));
}

#[test]
fn as_root_it_drops_to_an_unprivileged_account() {
    if !Uid::effective().is_root() {
        return;
    }
    let (_parent, dir) = folder();
    let cluster = start(&dir);
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid().unwrap())).unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(line("Uid:").split_whitespace().all(|uid| uid != "0"), "{}", line("Uid:"));
    assert!(line("Gid:").split_whitespace().all(|gid| gid != "0"), "{}", line("Gid:"));
    assert_eq!(line("Groups:"), "");
    assert!(cluster.account().is_some());
}

#[test]
fn as_root_a_folder_out_of_reach_is_replaced_by_one_of_its_own() {
    if !Uid::effective().is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let dir = closed.path().join("cluster");
    let cluster = start(&dir);
    let used = cluster.dir().to_owned();
    assert!(used.starts_with("/var/lib/"), "{}", used.display());
    assert_eq!(cluster.instead_of(), Some(dir.as_path()));
    cluster.stop();
    let again = start(&dir);
    assert_eq!(again.dir(), used, "the same folder leads to the same place");
    again.stop();
    fs::remove_dir_all(used).unwrap();
}

#[test]
fn a_second_start_on_the_same_folder_is_refused_in_words() {
    let (_parent, dir) = folder();
    let cluster = start(&dir);
    let refused = Cluster::start(Options::new(&dir)).unwrap_err();
    assert!(matches!(refused, Error::InUse { pid: Some(_), .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    assert_eq!(ask(&cluster.app_url("relaydesk"), "select 'still there'").unwrap(), "still there");
}

#[test]
fn it_ends_with_its_parent_even_on_kill_9_and_goes_on_with_the_same_data() {
    let (_parent, dir) = folder();
    let cluster = start(&dir);
    tell(&cluster.owner_url("relaydesk"), "create table kept (x int); insert into kept values (42)").unwrap();
    cluster.stop();
    let (mut parent, pid) = holder(&dir);
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("PostgreSQL's end", Duration::from_secs(5), || !is_alive(pid));
    let cluster = start(&dir);
    assert_eq!(ask(&cluster.owner_url("relaydesk"), "select x::text from kept").unwrap(), "42");
}

#[test]
fn after_a_kill_9_of_parent_and_database_at_once_the_next_start_works_at_once() {
    let (_parent, dir) = folder();
    for _ in 0..3 {
        let (mut parent, pid) = holder(&dir);
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        parent.kill().unwrap();
        let cluster = start(&dir);
        assert_eq!(ask(&cluster.app_url("relaydesk"), "select 'back'").unwrap(), "back");
        cluster.stop();
        parent.wait().unwrap();
    }
}

#[test]
fn a_crash_of_the_database_is_noticed_and_mended() {
    let (_parent, dir) = folder();
    let cluster = start(&dir);
    for round in 1..=2 {
        let pid = cluster.pid().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        eventually("the restart", Duration::from_secs(15), || cluster.restarts() == round);
        assert_ne!(cluster.pid(), Some(pid));
        assert_eq!(ask(&cluster.app_url("relaydesk"), "select 'back'").unwrap(), "back");
    }
}

#[test]
fn a_stale_pid_file_is_survived_even_when_its_number_is_taken_again() {
    let (_parent, dir) = folder();
    start(&dir).stop();
    // A living process of the same account, so that PostgreSQL itself would believe the file.
    let mut sleeper = Command::new("sleep");
    sleeper.arg("600");
    if Uid::effective().is_root() {
        use std::os::unix::fs::MetadataExt;
        sleeper.uid(fs::metadata(dir.join("data")).unwrap().uid());
    }
    let mut sleeper = sleeper.spawn().unwrap();
    let data = dir.join("data");
    fs::write(
        data.join("postmaster.pid"),
        format!(
            "{}\n{}\n1700000000\n5432\n\n\n  5432001         0\nready   \n",
            sleeper.id(),
            data.display()
        ),
    )
    .unwrap();
    let started = Cluster::start(Options::new(&dir));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(ask(&started.unwrap().app_url("relaydesk"), "select 'back'").unwrap(), "back");
}

#[test]
fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let (parent, _) = folder();
    let dir = parent.path().join("a-rather-long-name-of-a-folder/".repeat(4)).join("cluster");
    let cluster = start(&dir);
    let url = cluster.app_url("relaydesk");
    assert!(url.contains("host=%2Ftmp%2Frelaydesk-"), "{url}");
    assert_eq!(ask(&url, "select 'in'").unwrap(), "in");
    let short = url.split("host=").nth(1).unwrap().split('&').next().unwrap().replace("%2F", "/");
    assert!(Path::new(&short).exists());
    cluster.stop();
    assert!(!Path::new(&short).exists(), "the short folder is gone");
}

#[test]
fn an_interrupted_first_start_begins_again_and_fresh_forgets() {
    let (_parent, dir) = folder();
    fs::create_dir_all(dir.join("data.new/base")).unwrap();
    fs::write(dir.join("data.new/PG_VERSION"), "15\n").unwrap();
    let cluster = start(&dir);
    tell(&cluster.owner_url("relaydesk"), "create table kept (x int)").unwrap();
    cluster.stop();
    let cluster = Cluster::start(Options { fresh: true, ..Options::new(&dir) }).unwrap();
    let found = "select count(*)::text from pg_class where relname = 'kept'";
    assert_eq!(ask(&cluster.owner_url("relaydesk"), found).unwrap(), "0");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let (_parent, dir) = folder();
    let nowhere = Options { binaries: Some("/nowhere".into()), ..Options::new(&dir) };
    let error = Cluster::start(nowhere).unwrap_err().to_string();
    assert!(error.contains("/nowhere") && !error.contains('\n'), "{error}");

    start(&dir).stop();
    fs::write(dir.join("data/PG_VERSION"), "14\n").unwrap();
    let error = Cluster::start(Options::new(&dir)).unwrap_err().to_string();
    assert!(error.contains("made by PostgreSQL 14") && error.contains("postgresql-14"), "{error}");
    fs::write(
        dir.join("data/PG_VERSION"),
        format!("{}\n", embedded::find_binaries(None, &embedded::usual_packs()).unwrap().major),
    )
    .unwrap();

    let wrong = Options { settings: vec![("shared_buffers".into(), "much".into())], ..Options::new(&dir) };
    let error = Cluster::start(wrong).unwrap_err().to_string();
    assert!(error.contains("shared_buffers") && error.contains("postgres.log"), "{error}");
}

#[test]
fn with_postgres_passes_on_the_exit_code_and_tidies_up() {
    let told = Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", "echo $RELAYDESK_TEST_CLUSTER; exit 7"])
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(7));
    let url = String::from_utf8(told.stdout).unwrap();
    let socket = url.split("host=").nth(1).unwrap().split('&').next().unwrap().replace("%2F", "/");
    assert!(!Path::new(&socket).parent().unwrap().exists(), "{url}");
}
