//! Getting the bytes: over HTTP with checked destinations, or from a file below the one folder of the organization.

use super::MAX_BYTES;
use crate::http;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const TIMEOUT: Duration = Duration::from_secs(120);

/// Where an inventory stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Url(String),
    /// Below the folder that the operator allows.
    File(PathBuf),
}

impl Location {
    /// `http://…` and `https://…` are addresses; everything else is a path below the allowed folder.
    pub fn parse(text: &str) -> Location {
        let text = text.trim();
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("file") => Location::File(text["file://".len()..].into()),
            Some(_) => Location::Url(text.to_owned()),
            None => Location::File(text.into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error("files are read only below the folder of RELAYDESK_DISCOVERY_DIR, which is not set")]
    NoFolder,
    /// The same words whatever the reason: who names paths must not learn which files the host has. The log has the reason.
    #[error("{} is no readable file below the folder of this organization in RELAYDESK_DISCOVERY_DIR", .0.display())]
    File(PathBuf),
    #[error("the inventory is longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl ReadError {
    /// Another try may help: the peer was busy or away.
    pub fn is_transient(&self) -> bool {
        match self {
            ReadError::Http(http::Error::Timeout | http::Error::Unreachable(_)) => true,
            ReadError::Http(http::Error::Status { code, .. }) => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ReadError::Http(http::Error::Status { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

/// Reads inventories; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub http: http::Client,
    /// The one folder from which files may be read: that of the organization, never one that it shares with others.
    pub folder: Option<PathBuf>,
}

impl Reader {
    /// `header`: one more header, for example an authorization.
    pub async fn read(
        &self,
        location: &Location,
        header: Option<(&str, &str)>,
    ) -> Result<Vec<u8>, ReadError> {
        match location {
            Location::Url(url) => {
                let mut request = http::Request::get(url).timeout(TIMEOUT).response_limit(MAX_BYTES);
                if let Some((name, value)) = header {
                    request = request.header(name, value);
                }
                Ok(self.http.send(request).await?.body.to_vec())
            }
            Location::File(path) => self.file(path).await,
        }
    }

    async fn file(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let folder = self.folder.as_ref().ok_or(ReadError::NoFolder)?;
        match below(folder, path).await {
            Ok(bytes) if bytes.len() > MAX_BYTES => Err(ReadError::TooLong),
            Ok(bytes) => Ok(bytes),
            Err(reason) => {
                tracing::warn!(folder = %folder.display(), path = %path.display(), %reason, "an inventory file was not read");
                Err(ReadError::File(path.to_owned()))
            }
        }
    }
}

/// The beginning of the file, one byte more than is allowed.
async fn below(folder: &Path, path: &Path) -> std::io::Result<Vec<u8>> {
    let outside = || std::io::Error::other("it is not below the folder");
    let folder = tokio::fs::canonicalize(folder).await?;
    // Before anything is asked of the file system.
    let leads_up = path.components().any(|part| part == Component::ParentDir);
    if leads_up || (path.is_absolute() && !path.starts_with(&folder)) {
        return Err(outside());
    }
    // Links are followed, and what they lead to is judged.
    let real = tokio::fs::canonicalize(folder.join(path)).await?;
    if !real.starts_with(&folder) {
        return Err(outside());
    }
    let file = tokio::fs::File::open(&real).await?;
    // A pipe or a device would never end.
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
