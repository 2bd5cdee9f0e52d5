//! The way between a program and a server, with faults on it.

use sqlx::postgres::PgConnectOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What is done to whatever passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Open,
    /// Connections are taken and stay open, and nothing comes out at the other end, as when a cable is pulled: half-open. What was
    /// sent meanwhile is lost for the connection that it was sent on, which therefore ends when the way is open again.
    Silent,
    /// Every piece arrives so much later.
    Slow(Duration),
    /// So many bytes a second each way.
    Narrow(u32),
    /// New connections are reset at once.
    Closed,
}

#[derive(Clone, Debug)]
enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Listens on loopback until it is dropped, which cuts all connections.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    /// Raised to end all connections; true: by a reset.
    cuts: watch::Sender<(u64, bool)>,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Proxy {
        Proxy::start(Upstream::Tcp(server)).await
    }

    /// To PostgreSQL, and the URL that leads through here.
    ///
    /// # Panics
    /// When the URL is none of a test cluster, which listens on a unix socket.
    pub async fn to_database(url: &str) -> (Proxy, String) {
        let options: PgConnectOptions = url.parse().expect("a database URL");
        let socket = options.get_socket().expect("a socket").join(format!(".s.PGSQL.{}", options.get_port()));
        let proxy = Proxy::start(Upstream::Unix(socket)).await;
        let (start, rest) = url.split_once("@localhost/").expect("a URL of a test cluster");
        let database = rest.split('?').next().unwrap_or_default();
        let through = format!("{start}@{}/{database}?sslmode=disable", proxy.address);
        (proxy, through)
    }

    /// To RabbitMQ, and the URL that leads through here.
    ///
    /// # Panics
    /// When the URL names no host that can be found.
    pub async fn to_broker(url: &str) -> (Proxy, String) {
        let (start, rest) = url.rsplit_once('@').expect("a URL with a user");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:5672") };
        let mut found = tokio::net::lookup_host(host).await.expect("a host");
        let proxy = Proxy::to(found.next().expect("an address")).await;
        let through = format!("{start}@{}/{path}", proxy.address);
        (proxy, through)
    }

    async fn start(upstream: Upstream) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (way, cuts) = (watch::Sender::new(Way::Open), watch::Sender::new((0, false)));
        let (way_here, cuts_here) = (way.subscribe(), cuts.subscribe());
        tokio::spawn(async move {
            let mut gone = cuts_here.clone();
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // The proxy was dropped.
                    () = async { while gone.changed().await.is_ok() {} } => return,
                };
                let Ok((client, _)) = client else { continue };
                if *way_here.borrow() == Way::Closed {
                    let _ = client.set_zero_linger();
                    continue;
                }
                tokio::spawn(connection(client, upstream.clone(), way_here.clone(), cuts_here.clone()));
            }
        });
        Proxy { address, way, cuts }
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Ends all connections that there are, in order.
    pub fn cut(&self) {
        self.cuts.send_modify(|cut| *cut = (cut.0 + 1, false));
    }

    /// Ends them with a reset.
    pub fn reset(&self) {
        self.cuts.send_modify(|cut| *cut = (cut.0 + 1, true));
    }
}

async fn connection(
    client: TcpStream,
    upstream: Upstream,
    way: watch::Receiver<Way>,
    mut cuts: watch::Receiver<(u64, bool)>,
) {
    cuts.mark_unchanged();
    match upstream {
        Upstream::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                carry(client, server, way, cuts).await;
            }
        }
        Upstream::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                carry(client, server, way, cuts).await;
            }
        }
    }
}

async fn carry(
    mut client: TcpStream,
    server: impl AsyncRead + AsyncWrite,
    way: watch::Receiver<Way>,
    mut cuts: watch::Receiver<(u64, bool)>,
) {
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let was_cut = {
        let (mut from_client, mut to_client) = client.split();
        let up = pump(&mut from_client, &mut to_server, way.clone());
        let down = pump(&mut from_server, &mut to_client, way);
        tokio::select! {
            () = up => false,
            () = down => false,
            _ = cuts.changed() => true,
        }
    };
    if was_cut && cuts.borrow().1 {
        let _ = client.set_zero_linger();
    }
}

/// Until one end closes; or, after a silence in which something was lost, until the way is open again.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut way: watch::Receiver<Way>,
) {
    let mut piece = vec![0; 16 * 1024];
    let mut lost = false;
    loop {
        let now = *way.borrow_and_update();
        if lost && now != Way::Silent {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            changed = way.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        };
        let Ok(length @ 1..) = read else {
            if now == Way::Silent {
                // The end of a connection is not heard of either.
                let _ = way.wait_for(|way| *way != Way::Silent).await;
            }
            return;
        };
        let now = *way.borrow();
        match now {
            Way::Silent => {
                lost = true;
                continue;
            }
            Way::Slow(delay) => tokio::time::sleep(delay).await,
            Way::Narrow(rate) => {
                tokio::time::sleep(Duration::from_secs_f64(length as f64 / f64::from(rate.max(1)))).await;
            }
            Way::Open | Way::Closed => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
