//! ClamAV's daemon, asked what it thinks of some bytes (clamd(8), `INSTREAM`).
//!
//! Whatever is not plainly "nothing found" about all of the bytes is not that: an answer that nobody knows is an error.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use url::{Host, Url};

/// The port that is clamd's by custom.
const PORT: u16 = 3310;
/// From the wait for one's turn to the answer.
const TIMEOUT: Duration = Duration::from_secs(45);
const PATIENCE: Duration = Duration::from_secs(5);
/// Files that one process has scanned at a time; clamd has ten threads of its own, unless it is told otherwise.
const AT_A_TIME: usize = 8;
const CHUNK: usize = 64 * 1024;
/// Bytes of an answer; what is found has a short name.
const LONGEST_ANSWER: u64 = 4096;

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: Host, port: u16 },
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither tcp://host[:port] nor unix:/path")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() { Ok(Address::Unix(path)) } else { Err(NotAnAddress) };
        }
        let url: Url = text.parse().map_err(|_| NotAnAddress)?;
        let is_bare = matches!(url.path(), "" | "/")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        // Of a scheme that is none of the web's, the host is not understood any further.
        let host =
            Host::parse(url.host_str().filter(|_| url.scheme() == "tcp" && is_bare).ok_or(NotAnAddress)?);
        Ok(Address::Tcp { host: host.map_err(|_| NotAnAddress)?, port: url.port().unwrap_or(PORT) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// What it is called.
    Found(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scanner cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the scanner did not answer in time")]
    Timeout,
    /// `INSTREAM size limit exceeded. ERROR`: its `StreamMaxLength`.
    #[error(
        "the scanner takes no file as large as this: set its StreamMaxLength to RELAYDESK_MAX_MESSAGE_BYTES at least"
    )]
    TooLarge,
    #[error("the scanner answered {0:?}")]
    Answer(String),
    /// Not its fault.
    #[error("the file cannot be read: {0}")]
    File(io::Error),
}

trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// Cheap to clone; clones share their turns.
#[derive(Clone, Debug)]
pub struct Scanner {
    address: Address,
    turns: Arc<Semaphore>,
    timeout: Duration,
}

impl Scanner {
    pub fn new(address: Address) -> Self {
        Scanner { address, turns: Arc::new(Semaphore::new(AT_A_TIME)), timeout: TIMEOUT }
    }

    /// How long one file may take, with the wait for its turn.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What it thinks of all these bytes.
    pub async fn scan(&self, bytes: &mut (impl AsyncRead + Unpin)) -> Result<Verdict, Error> {
        let asked = async {
            let _turn = self.turns.acquire().await;
            let mut line = self.connect().await?;
            let sent = match send(bytes, &mut line).await {
                Err(Broken::File(error)) => return Err(Error::File(error)),
                Err(Broken::Line(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            // It may have ended the stream with a word about why.
            match (answer(&mut line).await, sent) {
                (Ok(answer), sent) if !answer.is_empty() => understand(&answer, sent.is_ok()),
                (_, Err(error)) | (Err(error), Ok(())) => Err(Error::Unreachable(error)),
                (Ok(_), Ok(())) => Err(Error::Unreachable(io::ErrorKind::UnexpectedEof.into())),
            }
        };
        tokio::time::timeout(self.timeout, asked).await.map_err(|_| Error::Timeout)?
    }

    /// Whether it is there; answers its version.
    pub async fn version(&self) -> Result<String, Error> {
        let asked = async {
            let mut line = self.connect().await?;
            line.write_all(b"zVERSION\0").await.map_err(Error::Unreachable)?;
            let answer = answer(&mut line).await.map_err(Error::Unreachable)?;
            if answer.starts_with("ClamAV ") { Ok(answer) } else { Err(Error::Answer(answer)) }
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Error::Timeout)?
    }

    async fn connect(&self) -> Result<Box<dyn Line>, Error> {
        let connected = async {
            Ok::<Box<dyn Line>, io::Error>(match &self.address {
                Address::Tcp { host: Host::Domain(name), port } => {
                    Box::new(TcpStream::connect((name.as_str(), *port)).await?)
                }
                Address::Tcp { host: Host::Ipv4(ip), port } => {
                    Box::new(TcpStream::connect((*ip, *port)).await?)
                }
                Address::Tcp { host: Host::Ipv6(ip), port } => {
                    Box::new(TcpStream::connect((*ip, *port)).await?)
                }
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        tokio::time::timeout(PATIENCE, connected)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(Error::Unreachable)
    }
}

enum Broken {
    File(io::Error),
    Line(io::Error),
}

/// Chunks with their length before them, and one of no length at the end.
async fn send(bytes: &mut (impl AsyncRead + Unpin), line: &mut Box<dyn Line>) -> Result<(), Broken> {
    line.write_all(b"zINSTREAM\0").await.map_err(Broken::Line)?;
    let mut chunk = vec![0; 4 + CHUNK];
    loop {
        let length = bytes.read(&mut chunk[4..]).await.map_err(Broken::File)?;
        chunk[..4].copy_from_slice(&(length as u32).to_be_bytes());
        line.write_all(&chunk[..4 + length]).await.map_err(Broken::Line)?;
        if length == 0 {
            return line.flush().await.map_err(Broken::Line);
        }
    }
}

async fn answer(line: &mut Box<dyn Line>) -> io::Result<String> {
    let mut answer = Vec::new();
    line.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let text = text.trim_end_matches(['\0', '\n']);
    Ok(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect())
}

fn understand(answer: &str, is_all: bool) -> Result<Verdict, Error> {
    let found = answer.strip_prefix("stream: ").and_then(|rest| rest.strip_suffix(" FOUND"));
    match found.map(str::trim) {
        Some(name) if !name.is_empty() => Ok(Verdict::Found(name.chars().take(200).collect())),
        _ if answer == "stream: OK" && is_all => Ok(Verdict::Clean),
        _ if answer.contains("size limit exceeded") => Err(Error::TooLarge),
        _ => Err(Error::Answer(answer.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn an_address_leads_to_one_daemon() {
        for (text, shown) in [
            ("tcp://127.0.0.1", "tcp://127.0.0.1:3310"),
            ("tcp://scanner.example:9999/", "tcp://scanner.example:9999"),
            ("tcp://[::1]:3310", "tcp://[::1]:3310"),
            ("unix:/run/clamav/clamd.ctl", "unix:/run/clamav/clamd.ctl"),
            ("unix:///run/clamav/clamd.ctl", "unix:/run/clamav/clamd.ctl"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            "clamd",
            "tcp:",
            "tcp://",
            "tcp://user@host",
            "tcp://host/path",
            "tcp://host?x",
            "http://host",
            "unix:",
            "unix:run/clamd",
            "tcp://host:99999",
            "127.0.0.1:3310",
        ] {
            assert_eq!(wrong.parse::<Address>(), Err(NotAnAddress), "{wrong}");
        }
    }

    #[test]
    fn only_one_answer_is_clean() {
        assert_eq!(understand("stream: OK", true).unwrap(), Verdict::Clean);
        assert_eq!(understand("stream: Eicar FOUND", false).unwrap(), Verdict::Found("Eicar".into()));
        assert!(matches!(understand("INSTREAM size limit exceeded. ERROR", true), Err(Error::TooLarge)));
        // Who ends the stream early cannot know the rest.
        assert!(understand("stream: OK", false).is_err());
        for odd in [
            "OK",
            "stream: ok",
            "stream: OK FOUND OK",
            " stream: OK",
            "stream:  FOUND",
            "PONG",
            "stream: OK\nx",
            "UNKNOWN COMMAND",
            "stream: OK, probably",
            "stream: Can't allocate memory ERROR",
        ] {
            assert!(matches!(understand(odd, true), Err(Error::Answer(_))), "{odd}");
        }
    }

    /// A daemon that is out of order: takes so many bytes, says this, and closes or stays silent.
    async fn odd(takes: usize, says: &'static str, closes: bool) -> Scanner {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut line, _) = listener.accept().await.unwrap();
            let mut taken = vec![0; takes];
            line.read_exact(&mut taken).await.unwrap();
            line.write_all(says.as_bytes()).await.unwrap();
            if !closes {
                std::future::pending::<()>().await;
            }
        });
        Scanner::new(address.parse().unwrap()).timeout(Duration::from_millis(500))
    }

    #[tokio::test]
    async fn whatever_goes_wrong_is_no_verdict() {
        let file = vec![7; 3 << 20];
        for (takes, says, closes) in [
            (0, "", true),
            (10, "stream: OK\0", true),
            (14, "", false),
            (1000, "stream: OK\0", false),
            (10, "\0\0", true),
        ] {
            let asked = odd(takes, says, closes).await.scan(&mut &file[..]).await;
            assert!(asked.is_err(), "{takes} {says:?} {closes}: {asked:?}");
        }
        let endless: &str = Box::leak("stream: ".repeat(10_000).into_boxed_str());
        assert!(odd(10, endless, true).await.scan(&mut &b""[..]).await.is_err());
        let gone = Scanner::new("tcp://127.0.0.1:1".parse().unwrap());
        assert!(matches!(gone.scan(&mut &b""[..]).await, Err(Error::Unreachable(_))));
        assert!(matches!(gone.version().await, Err(Error::Unreachable(_))));
    }
}
