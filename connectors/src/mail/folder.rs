//! Mails as files instead of through a relay: for the demo, and for looking at what would be sent. One `.eml` file per
//! Message-ID, so a mail that is sent again is still one.

use std::io;
use std::path::PathBuf;
use tokio::io::AsyncWriteExt;

#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Durable when it answers, for its owner's eyes only, and never half a file under its final name. Answers that name.
    pub async fn keep(&self, message_id: &str, message: &[u8]) -> io::Result<PathBuf> {
        let name: String = message_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "@.-_".contains(*c))
            .take(120)
            .collect();
        let path = self.0.join(format!("{}.eml", name.trim_start_matches('.')));
        let draft = path.with_extension("draft");
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).await?;
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft).await?;
        file.write_all(message).await?;
        file.sync_all().await?;
        tokio::fs::rename(&draft, &path).await?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_mail_is_one_file_in_the_folder_whatever_its_id_says() {
        let folder = tempfile::tempdir().unwrap();
        let mails = Folder(folder.path().join("outbox"));
        mails.keep("<one@desk.example>", b"first").await.unwrap();
        mails.keep("<one@desk.example>", b"again").await.unwrap();
        let escaped = mails.keep("<../../escape@desk.example>", b"x").await.unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&mails.0), mode(&escaped)), (0o700, 0o600));
        assert_eq!(escaped.parent(), Some(folder.path().join("outbox").as_path()));
        assert_eq!(std::fs::read(folder.path().join("outbox/one@desk.example.eml")).unwrap(), b"again");
        assert_eq!(std::fs::read_dir(folder.path().join("outbox")).unwrap().count(), 2);
    }
}
