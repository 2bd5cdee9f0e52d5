//! The first start: `initdb`, the application's role, the database. Everything happens in `data.new`, which is renamed
//! when it is complete, so that a start that was interrupted simply begins again.

use crate::error::Context;
use crate::folder::{Folder, give, private_file};
use crate::supervise::prepare;
use crate::{APP_ROLE, Binaries, Error, OWNER, Options};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Makes the cluster unless it is there already.
pub(crate) fn initialize(folder: &Folder, binaries: &Binaries, options: &Options) -> Result<(), Error> {
    let data = folder.data();
    if data.join("PG_VERSION").exists() {
        return Ok(());
    }
    let new = folder.dir.join("data.new");
    if new.exists() {
        fs::remove_dir_all(&new).context(|| format!("cannot remove {}", new.display()))?;
    }
    folder.make_its_own(&new)?;

    let mut initdb = Command::new(binaries.program("initdb"));
    initdb.args(["-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums", "-D"]).arg(&new);
    // In the socket folder, because the account must be able to read it.
    let password_file = folder.socket.join("initdb.password");
    if options.throw_away {
        initdb.args(["--auth=trust", "--no-sync"]);
    } else {
        let failed = || format!("cannot write {}", password_file.display());
        let _ = fs::remove_file(&password_file);
        let mut file = private_file(&password_file).create_new(true).open(&password_file).context(failed)?;
        file.write_all(folder.password("owner")?.as_bytes()).context(failed)?;
        give(&password_file, folder.account.as_ref())?;
        initdb.arg("--auth=scram-sha-256").arg(format!("--pwfile={}", password_file.display()));
    }
    let done = run("initdb", initdb, folder, "");
    let _ = fs::remove_file(&password_file);
    done?;

    let mut single = Command::new(binaries.program("postgres"));
    single.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(&new).arg("postgres");
    // One statement a line; the passwords are hexadecimal and need no quoting.
    let mut script = format!("create role {APP_ROLE} login nosuperuser nobypassrls nocreatedb nocreaterole");
    if !options.throw_away {
        script.push_str(&format!(" password '{}'", folder.password("app")?));
    }
    script.push_str(&format!("\ncreate database \"{}\"\n", options.database));
    run("postgres --single", single, folder, &script)?;

    fs::rename(&new, &data).context(|| format!("cannot rename {}", new.display()))?;
    let parent = fs::File::open(&folder.dir).context(|| format!("cannot open {}", folder.dir.display()))?;
    parent.sync_all().context(|| format!("cannot sync {}", folder.dir.display()))
}

fn run(program: &'static str, mut command: Command, folder: &Folder, input: &str) -> Result<(), Error> {
    prepare(&mut command, folder);
    let failed = |source| Error::Io { what: format!("cannot run {program}"), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that has stopped early says why on its standard error.
        let _ = pipe.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(failed)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let output = if lines.is_empty() { done.status.to_string() } else { lines.join(" / ") };
    Err(Error::Program { program, output })
}
