//! Is anybody still working on this data?

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Every PostgreSQL process changes into its data folder, so a process whose working folder it is uses the data.
/// `None` when that cannot be told.
pub(crate) fn working_in(data: &Path) -> Option<Vec<u32>> {
    let data = fs::canonicalize(data).ok()?;
    let owner = data.metadata().ok()?.uid();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match fs::read_link(entry.path().join("cwd")) {
            Ok(folder) if folder == data => found.push(pid),
            Ok(_) => {}
            // The folder lets nobody in but its owner, so another account's PostgreSQL cannot be in there.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let same_account = entry.metadata().is_ok_and(|process| process.uid() == owner);
                if same_account
                    && fs::read_to_string(entry.path().join("comm"))
                        .is_ok_and(|name| name.trim() == "postgres")
                {
                    return None;
                }
            }
            Err(_) => {} // gone meanwhile, or a zombie
        }
    }
    Some(found)
}

/// Removes a pid file that a crash left behind. PostgreSQL does that itself unless some process has the old number again,
/// which in a container or after a reboot is likely. Call it only while holding the lock of the folder.
pub(crate) fn forget_stale_pid_file(data: &Path) {
    let file = data.join("postmaster.pid");
    if file.exists()
        && working_in(data).is_some_and(|found| found.is_empty())
        && fs::remove_file(&file).is_ok()
    {
        tracing::info!(file = %file.display(), "removed a stale pid file");
    }
}

/// The process number in the pid file, if there is one.
pub(crate) fn recorded_pid(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}
