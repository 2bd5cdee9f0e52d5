//! Clients on real connections that do not say what they want.

use crate::support::Api;
use api::server::{Connections, serve};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    end: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(api: &Api, limits: Connections) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, end) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve(listener, api.router.clone(), limits, end.clone().cancelled_owned()));
    Server { address, end, task }
}

async fn read_all(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(WAIT, socket.read_to_end(&mut text)).await.expect("the server closes");
    String::from_utf8_lossy(&text).into_owned()
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    read_all(&mut socket).await
}

/// All places are taken by clients that send nothing, or a head without an end: their time is up sometime, and the next one's turn comes.
#[tokio::test]
async fn slowloris_holds_no_place_for_ever() {
    let api = Api::start().await;
    let limits = Connections { most: 4, header_timeout: Duration::from_millis(300) };
    let server = start(&api, limits).await;
    let mut slow = Vec::new();
    for begun in ["", "G", "GET /livez HTTP/1.1\r\nHost: x\r\n", "POST /api/v1/teams HTTP/1.1\r\nX-A: b\r\n"]
    {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(begun.as_bytes()).await.unwrap();
        slow.push(socket);
    }
    let answer = ask(server.address, "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for mut socket in slow {
        let said = read_all(&mut socket).await;
        assert!(!said.contains("200 OK"), "{said}");
    }
    // Nor does one that rests after its answer.
    let mut resting = TcpStream::connect(server.address).await.unwrap();
    resting.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_all(&mut resting).await.starts_with("HTTP/1.1 200"));
    server.end.cancel();
    tokio::time::timeout(WAIT, server.task).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_head_without_measure_is_refused() {
    let api = Api::start().await;
    let server = start(&api, Connections::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let _ = socket.write_all(head.as_bytes()).await;
    let said = read_all(&mut socket).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    assert!(ask(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
}

/// What is being answered while the process stops is answered.
#[tokio::test]
async fn a_stop_lets_requests_come_to_their_end() {
    let api = Api::start().await;
    let server = start(&api, Connections::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"name":"Last one"}"#;
    let head = format!(
        "POST /api/v1/teams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        api.admin,
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // The handler waits for the body.
    let mut go_on = [0; 25];
    tokio::time::timeout(WAIT, socket.read_exact(&mut go_on)).await.expect("an answer").unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    server.end.cancel();
    socket.write_all(body.as_bytes()).await.unwrap();
    let answer = read_all(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    tokio::time::timeout(WAIT, server.task).await.expect("it stops").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
