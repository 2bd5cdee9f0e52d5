//! A PgBouncer of one test's own, in transaction mode.

use crate::TestDb;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Between clients and a test's database; killed when it is dropped.
pub struct Pooler {
    /// As the application connects with.
    pub url: String,
    /// Who its sessions on the server belong to: a role of their own, so that they can be told from others.
    pub role: String,
    _process: Child,
    _folder: tempfile::TempDir,
}

/// Whether there is a PgBouncer for [`Pooler::start`].
///
/// # Panics
/// When there is none, unless `RELAYDESK_TESTS_WITHOUT_POOLER` says that this is known.
pub fn has_pooler() -> bool {
    if program().is_some() {
        return true;
    }
    let known = std::env::var_os("RELAYDESK_TESTS_WITHOUT_POOLER").is_some();
    assert!(
        known,
        "there is no PgBouncer: script/setup --tests gets it; or set RELAYDESK_TESTS_WITHOUT_POOLER=1 to leave such tests out"
    );
    eprintln!("testkit: this test is left out: there is no PgBouncer");
    false
}

fn program() -> Option<PathBuf> {
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join(".relaydesk/tools/usr/sbin/pgbouncer");
    [PathBuf::from("/usr/sbin/pgbouncer"), unpacked].into_iter().find(|program| program.exists())
}

impl Pooler {
    /// With so many sessions on the server at most, and more lines of its `[pgbouncer]` section.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(db: &TestDb, sessions: u32, settings: &[&str]) -> Pooler {
        let role = format!("pooled_{}", uuid::Uuid::now_v7().simple());
        let grant = format!("create role {role} login in role relaydesk_app");
        sqlx::query(sqlx::AssertSqlSafe(grant)).execute(&mut db.owner().await).await.expect("a role");
        let server: sqlx::postgres::PgConnectOptions = db.app_url.parse().expect("a database URL");
        let socket = server.get_socket().expect("tests reach PostgreSQL by a unix socket");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pgbouncer.ini");
        // Somebody else may have the port before it does: then with another.
        for _ in 0..3 {
            let port = crate::free_port();
            let text = format!(
                "[databases]\n{name} = host={} port={} user={role}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions}\nmax_client_conn = 200\n{}\n",
                socket.display(),
                server.get_port(),
                settings.join("\n"),
                name = db.name,
            );
            std::fs::write(&file, text).expect("its settings");
            let mut process = command(&file, socket).spawn().expect("pgbouncer starts");
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(30) {
                if process.try_wait().expect("its state").is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    let url = format!("postgresql://relaydesk_app@127.0.0.1:{port}/{}", db.name);
                    return Pooler { url, role, _process: process, _folder: folder };
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!(
            "pgbouncer did not start: {}",
            std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        )
    }
}

/// It refuses to run as root, and must reach the server's socket: so it runs as whoever owns that.
fn command(file: &Path, socket: &Path) -> Command {
    use std::os::unix::fs::MetadataExt;
    let program = program().expect("asked before");
    let log = std::fs::File::create(file.with_file_name("log")).expect("a log file");
    let mut command = Command::new(program);
    let owner = socket.metadata().expect("the server's socket").uid();
    if std::fs::metadata("/proc/self").expect("this process").uid() == 0 {
        let accounts = std::fs::read_to_string("/etc/passwd").expect("the accounts");
        let name = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(owner)).then_some(name)
        });
        command.args(["-u", name.expect("an account that owns the server's socket")]);
    }
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command
}
