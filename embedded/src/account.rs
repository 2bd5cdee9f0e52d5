//! Who PostgreSQL runs as. It refuses to run as root, and so do we: root drops to an unprivileged account.

use crate::Error;
use nix::unistd::{Gid, Uid, User};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An unprivileged account that a root process drops to.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub uid: Uid,
    pub gid: Gid,
    pub name: String,
}

impl Account {
    /// `None` when this process is not root and simply goes on as itself. Root takes the owner of data that is there
    /// already, else `postgres`, else `nobody`.
    pub fn choose(data: &Path) -> Result<Option<Account>, Error> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(found) = data.metadata()
            && found.uid() != 0
        {
            let uid = Uid::from_raw(found.uid());
            let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
            return Ok(Some(Account { uid, gid: Gid::from_raw(found.gid()), name }));
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root())
            .ok_or(Error::NoAccount)?;
        Ok(Some(Account { uid: user.uid, gid: user.gid, name: user.name }))
    }

    /// True when this account can pass through `folder` and everything above it. Judged by the mode bits: an access
    /// list that says otherwise shows up as an error of `initdb`.
    pub fn may_enter(&self, folder: &Path) -> bool {
        folder.ancestors().filter(|part| !part.as_os_str().is_empty()).all(|part| {
            part.metadata().is_ok_and(|found| {
                let shift = if found.uid() == self.uid.as_raw() {
                    6
                } else if found.gid() == self.gid.as_raw() {
                    3
                } else {
                    0
                };
                found.mode() >> shift & 0o1 != 0
            })
        })
    }
}
