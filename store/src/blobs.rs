//! Files, by the SHA-256 of their bytes: `DIR/<organization>/<first two digits>/<sha256>`.
//!
//! A path is made of an id and a hash that were computed here, never of a name that somebody sent. A blob is on disk
//! (contents, name and folder synced) before the row that names it commits; a rollback leaves a blob without a row,
//! until the job `prune` takes it away. The same bytes are kept once an organization.

use crate::{Error, Result};
use domain::OrganizationId;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// Where files lie while they are written; never the first two digits of a hash.
const TEMPORARY: &str = "tmp";

/// The folder of all blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: Arc<Path>,
}

/// What a blob is found by, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub size_bytes: i64,
}

impl Blobs {
    /// Folders are made when they are first needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Blobs { dir: dir.into().into() }
    }

    pub async fn put(&self, organization: OrganizationId, bytes: &[u8]) -> Result<Stored> {
        let mut writer = self.writer(organization).await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// For bytes that come piece by piece.
    pub async fn writer(&self, organization: OrganizationId) -> Result<BlobWriter> {
        let folder = self.dir.join(organization.to_string());
        let temporary = folder.join(TEMPORARY);
        fs::create_dir_all(&temporary).await?;
        let path = temporary.join(uuid::Uuid::new_v4().to_string());
        let file = File::create_new(&path).await?;
        Ok(BlobWriter { folder, path: Some(path), file, hash: Sha256::new(), size_bytes: 0 })
    }

    /// The blob for reading piece by piece. [`Error::NotFound`] when there is none.
    pub async fn open(&self, organization: OrganizationId, sha256: &str) -> Result<File> {
        match File::open(self.path(organization, sha256)?).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound),
            other => Ok(other?),
        }
    }

    /// All its bytes.
    pub async fn read(&self, organization: OrganizationId, sha256: &str) -> Result<Vec<u8>> {
        match fs::read(self.path(organization, sha256)?).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound),
            other => Ok(other?),
        }
    }

    /// Removes what processes that were killed in the middle of writing left behind, if it is older than `age`. How many
    /// files it was.
    pub async fn remove_leftovers(&self, age: Duration) -> Result<usize> {
        let mut removed = 0;
        let mut folders = match fs::read_dir(&*self.dir).await {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        while let Some(folder) = folders.next_entry().await? {
            let Ok(mut files) = fs::read_dir(folder.path().join(TEMPORARY)).await else { continue };
            while let Some(file) = files.next_entry().await? {
                if is_older(&file.metadata().await?, age)? && fs::remove_file(file.path()).await.is_ok() {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// The hashes that begin with this byte and were last put longer ago than `age`.
    pub async fn older(&self, organization: OrganizationId, first: u8, age: Duration) -> Result<Vec<String>> {
        let folder = self.dir.join(organization.to_string()).join(hex::encode([first]));
        let mut files = match fs::read_dir(&folder).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut older = BTreeSet::new();
        while let Some(file) = files.next_entry().await? {
            let Ok(mut name) = file.file_name().into_string() else { continue };
            if let Some(put_aside) = name.strip_suffix(ASIDE) {
                // Somebody was killed in the middle of `remove`: as if nothing had been done.
                name = put_aside.to_owned();
                put_back(&folder, &name).await?;
            }
            // The folder may have guests: what a file system or a backup leaves there is none of ours.
            if !is_hash(&name) {
                continue;
            }
            let Ok(about) = fs::metadata(folder.join(&name)).await else { continue };
            if is_older(&about, age)? {
                older.insert(name);
            }
        }
        Ok(older.into_iter().collect())
    }

    /// Takes a blob away that nobody names, unless it was put again within `age`: who is about to name it has put it before. Answers whether it
    /// is gone.
    pub async fn remove(&self, organization: OrganizationId, sha256: &str, age: Duration) -> Result<bool> {
        let path = self.path(organization, sha256)?;
        let Some(folder) = path.parent() else { return Ok(false) };
        let aside = folder.join(format!("{sha256}{ASIDE}"));
        match fs::rename(&path, &aside).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        }
        // Who puts it from here on makes a file of its own. Was it put just before?
        if is_older(&fs::metadata(&aside).await?, age)? {
            fs::remove_file(&aside).await?;
            return Ok(true);
        }
        put_back(folder, sha256).await?;
        Ok(false)
    }

    fn path(&self, organization: OrganizationId, sha256: &str) -> Result<PathBuf> {
        if !is_hash(sha256) {
            return Err(Error::Corrupt(format!("not a SHA-256: {sha256:?}")));
        }
        Ok(self.dir.join(organization.to_string()).join(&sha256[..2]).join(sha256))
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The ending of a file that is being removed; no hash has it.
const ASIDE: &str = ".aside";

async fn put_back(folder: &Path, sha256: &str) -> Result<()> {
    let aside = folder.join(format!("{sha256}{ASIDE}"));
    // Never over one that was put again meanwhile: the bytes are equal, but that one is young, and who put it is about to name it.
    match fs::hard_link(&aside, folder.join(sha256)).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    sync_folder(folder).await?;
    match fs::remove_file(&aside).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A clock that was set back makes no age: such a file waits for the next time.
fn is_older(about: &std::fs::Metadata, age: Duration) -> io::Result<bool> {
    Ok(about.modified()?.elapsed().is_ok_and(|since| since > age))
}

/// Takes a blob's bytes. Dropped without [`BlobWriter::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    folder: PathBuf,
    /// The file while it is being written.
    path: Option<PathBuf>,
    file: File,
    hash: Sha256,
    size_bytes: i64,
}

impl BlobWriter {
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size_bytes += bytes.len() as i64;
        Ok(self.file.write_all(bytes).await?)
    }

    pub fn size_bytes(&self) -> i64 {
        self.size_bytes
    }

    /// Puts the blob in its place, durably.
    pub async fn finish(mut self) -> Result<Stored> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        let folder = self.folder.join(&sha256[..2]);
        let is_new_folder = !fs::try_exists(&folder).await?;
        fs::create_dir_all(&folder).await?;
        if let Some(path) = &self.path {
            // Over an equal file, if there is one: the bytes are the same.
            fs::rename(path, folder.join(&sha256)).await?;
            self.path = None;
        }
        sync_folder(&folder).await?;
        if is_new_folder {
            sync_folder(&self.folder).await?;
            if let Some(parent) = self.folder.parent() {
                sync_folder(parent).await?;
            }
        }
        Ok(Stored { sha256, size_bytes: self.size_bytes })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Best effort: what stays is a file that nothing names.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A name is durable when its folder is synced (fsync(2)).
async fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder).await?.sync_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_is_put_is_read_back_under_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path().join("blobs")), OrganizationId::new());
        let stored = blobs.put(org, b"abc").await.unwrap();
        // FIPS 180-4's example.
        assert_eq!(stored.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(stored.size_bytes, 3);
        assert_eq!(blobs.read(org, &stored.sha256).await.unwrap(), b"abc");
        assert_eq!(blobs.put(org, b"abc").await.unwrap(), stored);
        let folder = dir.path().join("blobs").join(org.to_string());
        assert_eq!(names(&folder), ["ba", "tmp"]);
        assert_eq!(names(&folder.join("ba")), [stored.sha256.as_str()]);
        assert!(names(&folder.join("tmp")).is_empty());
    }

    #[tokio::test]
    async fn organizations_do_not_share_and_paths_cannot_be_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path()), OrganizationId::new());
        let stored = blobs.put(org, b"secret").await.unwrap();
        assert!(matches!(blobs.open(OrganizationId::new(), &stored.sha256).await, Err(Error::NotFound)));
        for odd in ["../../etc/passwd", "", &stored.sha256.to_uppercase(), "ä"] {
            assert!(matches!(blobs.open(org, odd).await, Err(Error::Corrupt(_))), "{odd}");
        }
    }

    #[tokio::test]
    async fn an_unfinished_writer_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path()), OrganizationId::new());
        let mut writer = blobs.writer(org).await.unwrap();
        writer.write(b"half").await.unwrap();
        drop(writer);
        assert!(names(&dir.path().join(org.to_string()).join("tmp")).is_empty());
    }

    #[tokio::test]
    async fn leftovers_of_the_killed_are_removed_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path().join("blobs")), OrganizationId::new());
        assert_eq!(blobs.remove_leftovers(Duration::ZERO).await.unwrap(), 0);
        let stored = blobs.put(org, b"kept").await.unwrap();
        let mut writer = blobs.writer(org).await.unwrap();
        writer.write(b"half").await.unwrap();
        std::mem::forget(writer);
        assert_eq!(blobs.remove_leftovers(Duration::from_secs(3600)).await.unwrap(), 0);
        assert_eq!(blobs.remove_leftovers(Duration::ZERO).await.unwrap(), 1);
        assert_eq!(blobs.read(org, &stored.sha256).await.unwrap(), b"kept");
    }

    #[tokio::test]
    async fn what_was_put_again_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path()), OrganizationId::new());
        let (stored, day) = (blobs.put(org, b"abc").await.unwrap(), Duration::from_secs(86_400));
        let hash = &stored.sha256;
        let path = dir.path().join(org.to_string()).join("ba").join(hash);
        let age = |path: &Path| {
            let long_ago = std::fs::metadata(path).unwrap().modified().unwrap() - day * 2;
            std::fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
        };
        assert!(blobs.older(org, 0xba, day).await.unwrap().is_empty());
        assert!(!blobs.remove(org, hash, day).await.unwrap());
        age(&path);
        assert_eq!(blobs.older(org, 0xba, day).await.unwrap(), [hash.as_str()]);
        assert!(blobs.older(org, 0xbb, day).await.unwrap().is_empty());
        // Put again between the look and the removal.
        blobs.put(org, b"abc").await.unwrap();
        assert!(!blobs.remove(org, hash, day).await.unwrap());
        assert_eq!(blobs.read(org, hash).await.unwrap(), b"abc");
        // Killed in the middle of a removal, and put again since: the young one stays.
        age(&path);
        std::fs::rename(&path, path.with_extension("aside")).unwrap();
        blobs.put(org, b"abc").await.unwrap();
        assert!(blobs.older(org, 0xba, day).await.unwrap().is_empty());
        assert_eq!(names(path.parent().unwrap()), [hash.as_str()]);
        assert!(!blobs.remove(org, hash, day).await.unwrap());
        // Names that are no hashes are others' files.
        let guest = path.with_file_name(".nfs0000000001");
        std::fs::write(&guest, "").unwrap();
        age(&guest);
        assert!(blobs.older(org, 0xba, day).await.unwrap().is_empty());
        std::fs::remove_file(guest).unwrap();
        // Killed in the middle of a removal.
        age(&path);
        std::fs::rename(&path, path.with_extension("aside")).unwrap();
        assert_eq!(blobs.older(org, 0xba, day).await.unwrap(), [hash.as_str()]);
        assert_eq!(blobs.read(org, hash).await.unwrap(), b"abc");
        assert!(blobs.remove(org, hash, day).await.unwrap());
        assert!(matches!(blobs.open(org, hash).await, Err(Error::NotFound)));
        assert!(names(path.parent().unwrap()).is_empty());
        assert!(!blobs.remove(org, hash, day).await.unwrap());
    }

    #[tokio::test]
    async fn equal_bytes_written_at_once_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, org) = (Blobs::new(dir.path()), OrganizationId::new());
        let bytes = vec![7u8; 300_000];
        let (a, b, c) = tokio::join!(blobs.put(org, &bytes), blobs.put(org, &bytes), blobs.put(org, &bytes));
        let a = a.unwrap();
        assert_eq!((&a, &a), (&b.unwrap(), &c.unwrap()));
        assert_eq!(blobs.read(org, &a.sha256).await.unwrap(), bytes);
    }
}
