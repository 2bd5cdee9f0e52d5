//! The live stream over a WebSocket: a real client on a real socket.

use crate::support::{Api, token_of};
use api::server::{self, Connections};
use axum::http::Method;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, handshake::client};
use tokio_util::sync::CancellationToken;

type Socket = WebSocketStream<TcpStream>;

/// Patience of a test on a slow machine.
const WAIT: Duration = Duration::from_secs(60);

/// As [`Settings`] have it by default.
const OWN_PAGES: &str = "http://127.0.0.1:8080";
const PASSWORD: &str = "correct horse battery";

/// A process of the API on a socket of its own.
async fn serve(router: axum::Router) -> SocketAddr {
    start(router, Connections::default(), CancellationToken::new()).await.0
}

async fn start(
    router: axum::Router,
    limits: Connections,
    end: CancellationToken,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(server::serve(listener, router, limits, end.cancelled_owned())))
}

async fn open(
    address: SocketAddr,
    query: &str,
    headers: &[(&'static str, String)],
) -> Result<(Socket, client::Response), Error> {
    let mut request = format!("ws://{address}/api/v1/events/ws{query}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let socket = TcpSocket::new_v4().unwrap();
    // So that a client that does not read is felt soon.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

async fn follow(address: SocketAddr, token: &str, query: &str) -> Socket {
    open(address, query, &[bearer(token)]).await.unwrap().0
}

/// The status of a handshake that is refused.
async fn refused(address: SocketAddr, headers: &[(&'static str, String)]) -> u16 {
    match open(address, "", headers).await {
        Err(Error::Http(response)) => Response::status(&response).as_u16(),
        other => panic!("{other:?}"),
    }
}

/// The next text message; `Err`: the code with which it was closed.
async fn next(socket: &mut Socket) -> Result<Value, Option<u16>> {
    loop {
        match tokio::time::timeout(WAIT, socket.next()).await.expect("a message in time") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(None),
        }
    }
}

/// Reads on until it is closed, and answers with which code.
async fn end(socket: &mut Socket) -> Option<u16> {
    loop {
        if let Err(code) = next(socket).await {
            return code;
        }
    }
}

#[tokio::test]
async fn it_tells_what_the_stream_tells_and_resumes_at_another_process() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = token_of(&api.test_db, &other.admin).await;
    // Two processes of one installation.
    let (one, two) = (serve(api.router.clone()).await, serve(api.another_process()).await);
    let (mut first, mut second) = (follow(one, &api.agent, "").await, follow(two, &api.agent, "").await);
    api.post("/api/v1/teams", &stranger, json!({"name": "foreign"})).await.expect(201);
    api.post("/api/v1/teams", &api.admin, json!({"name": "one"})).await.expect(201);
    api.post("/api/v1/departments", &api.admin, json!({"name": "two"})).await.expect(201);
    let team = next(&mut first).await.unwrap();
    assert_eq!((&team["event"], &team["data"]["kind"]), (&json!("team.created"), &json!("team.created")));
    assert!(team["data"]["payload"]["team"].is_string());
    let department = next(&mut first).await.unwrap();
    assert_eq!(department["event"], "department.created");
    assert_eq!(
        (next(&mut second).await.unwrap(), next(&mut second).await.unwrap()),
        (team.clone(), department.clone())
    );
    drop((first, second));
    api.post("/api/v1/teams", &api.admin, json!({"name": "three"})).await.expect(201);
    let mut again = follow(two, &api.agent, &format!("?last_event_id={}", team["id"])).await;
    while next(&mut again).await.unwrap() != department {}
    let missed = next(&mut again).await.unwrap();
    assert_eq!(missed["event"], "team.created");
    let headers = [bearer(&api.agent), ("last-event-id", department["id"].to_string())];
    let mut again = open(one, "", &headers).await.unwrap().0;
    // A process to which nobody has listened for a while begins some seconds back: what one has may come again.
    while next(&mut again).await.unwrap() != missed {}
}

#[tokio::test]
async fn each_hears_what_they_may_see() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let mut guest = follow(address, &api.end_user, "").await;
    let mut agent = follow(address, &api.agent, "").await;
    api.post("/api/v1/incidents", &api.admin, json!({"title": "salaries", "confidential": true}))
        .await
        .expect(201);
    api.post("/api/v1/incidents", &api.agent, json!({"title": "not theirs"})).await.expect(201);
    let own = api.post("/api/v1/incidents", &api.end_user, json!({"title": "theirs"})).await.expect(201).json;
    let told = next(&mut guest).await.unwrap();
    assert_eq!((&told["event"], &told["data"]["ticket"]), (&json!("incident.opened"), &own["id"]));
    assert!(told["data"].get("payload").is_none() && told["data"].get("actor").is_none());
    let titles = [next(&mut agent).await.unwrap(), next(&mut agent).await.unwrap()];
    let titles = titles.map(|told| told["data"]["payload"]["title"].clone());
    assert_eq!(titles, [json!("not theirs"), json!("theirs")]);
}

/// Cross-site WebSocket hijacking: a foreign page opens a socket with what the browser adds by itself.
#[tokio::test]
async fn a_foreign_page_gets_nothing() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let evil = || ("origin", "https://evil.example".to_owned());
    let cookie = || ("cookie", format!("token={0}; access={0}; Authorization=Bearer {0}", api.admin));
    assert_eq!(refused(address, &[]).await, 401);
    assert_eq!(refused(address, &[cookie(), evil()]).await, 403);
    assert_eq!(refused(address, &[cookie()]).await, 401);
    assert_eq!(refused(address, &[cookie(), ("origin", OWN_PAGES.to_owned())]).await, 401);
    // Not even with a token, should one have been stolen.
    assert_eq!(refused(address, &[bearer(&api.admin), evil()]).await, 403);
    let protocol = |token: &str| ("sec-websocket-protocol", format!("relaydesk.v1, bearer.{token}"));
    assert_eq!(refused(address, &[protocol(&api.admin), evil()]).await, 403);
    assert_eq!(refused(address, &[protocol(&api.admin), ("origin", "null".to_owned())]).await, 403);
    // A name of the page's that was bound to our address (DNS rebinding).
    let rebound = ("origin", format!("http://{address}"));
    assert_eq!(refused(address, &[protocol(&api.admin), rebound]).await, 403);
    assert_eq!(refused(address, &[protocol("rd_wrong")]).await, 401);
    // Nor is a token in the address looked at.
    let in_address = open(address, &format!("?access_token={}", api.admin), &[]).await;
    assert!(
        matches!(in_address, Err(Error::Http(response)) if [400, 401].contains(&response.status().as_u16()))
    );

    let ours = ("origin", OWN_PAGES.to_owned());
    let (mut socket, response) = open(address, "", &[protocol(&api.agent), ours]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "relaydesk.v1", "the token is not sent back");
    api.post("/api/v1/teams", &api.admin, json!({"name": "one"})).await.expect(201);
    assert_eq!(next(&mut socket).await.unwrap()["event"], "team.created");
}

#[tokio::test]
async fn it_ends_with_the_login_and_with_the_process() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let mut socket = follow(address, &api.agent, "").await;
    let path = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
    api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200);
    assert_eq!(end(&mut socket).await, Some(4401));
    assert_eq!(refused(address, &[bearer(&api.agent)]).await, 401);

    api.set_password(api.organization.admin.user_id().unwrap(), PASSWORD).await;
    let body = json!({"email": "admin@acme.example", "password": PASSWORD});
    let login = api.post("/api/v1/auth/login", "", body).await.expect(200).json;
    let access = login["access"].as_str().unwrap();
    let mut socket = follow(address, access, "").await;
    api.call(Method::POST, "/api/v1/auth/logout", access, None).await.expect(204);
    assert_eq!(end(&mut socket).await, Some(4401));

    let mut socket = follow(address, &api.admin, "").await;
    api.state.drain();
    assert_eq!(end(&mut socket).await, Some(1001));
}

/// Places of connections and streams are few: a socket keeps the one and takes the other until it is closed.
#[tokio::test]
async fn a_socket_takes_a_place_until_it_is_closed() {
    let api = Api::start().await;
    let (end_of_server, only_one) = (CancellationToken::new(), Connections { most: 1, ..Default::default() });
    let (address, server) = start(api.router.clone(), only_one, end_of_server.clone()).await;
    let socket = follow(address, &api.agent, "").await;
    let mut next_one = tokio::spawn(async move { ask(address).await });
    // It would be answered at once, were there a place.
    let waited = tokio::time::timeout(Duration::from_millis(500), &mut next_one).await;
    assert!(waited.is_err(), "{waited:?}");
    drop(socket);
    let answer = tokio::time::timeout(WAIT, next_one).await.expect("its turn").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A process that stops waits for it, and says so.
    let mut socket = follow(address, &api.agent, "").await;
    end_of_server.cancel();
    api.state.drain();
    assert_eq!(end(&mut socket).await, Some(1001));
    tokio::time::timeout(WAIT, server).await.expect("it stops").unwrap();
}

async fn ask(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn nobody_takes_all_streams() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(follow(address, &api.agent, "").await);
    }
    let full = open(address, "", &[bearer(&api.agent)]).await;
    let Err(Error::Http(answer)) = full else { panic!("{full:?}") };
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"5".parse().unwrap()));
    // The stream counts with them; others are not concerned.
    api.get("/api/v1/events/stream", &api.agent).await.expect(429);
    sockets.push(follow(address, &api.admin, "").await);
    drop(sockets.remove(0));
    let again = async {
        loop {
            if let Ok((socket, _)) = open(address, "", &[bearer(&api.agent)]).await {
                return socket;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, again).await.expect("its seat is free");
}

#[tokio::test]
async fn nobody_has_anything_to_say() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let mut socket = follow(address, &api.agent, "").await;
    socket.send(Message::Ping("there?".into())).await.unwrap();
    let pong = async {
        loop {
            if let Message::Pong(bytes) = socket.next().await.unwrap().unwrap() {
                return bytes;
            }
        }
    };
    assert_eq!(tokio::time::timeout(WAIT, pong).await.unwrap(), "there?");
    socket.send(Message::Text("hello".into())).await.unwrap();
    assert_eq!(end(&mut socket).await, Some(1008));
    // A large one is not even read.
    let mut socket = follow(address, &api.agent, "").await;
    let _ = socket.send(Message::Binary(vec![0; 1 << 20].into())).await;
    assert!(matches!(end(&mut socket).await, Some(1008) | None));
    let mut socket = follow(address, &api.agent, "").await;
    for _ in 0..1_000 {
        if socket.send(Message::Pong("".into())).await.is_err() {
            break;
        }
    }
    assert!(matches!(end(&mut socket).await, Some(1008) | None));
    // Nothing that cannot be understood, either: a frame of a reserved kind, one without a mask.
    for frame in [[0x83, 0x80, 1, 2, 3, 4].as_slice(), &[0x89, 0x00], &[0xff; 64]] {
        let mut socket = follow(address, &api.agent, "").await;
        socket.get_mut().write_all(frame).await.unwrap();
        assert!(matches!(end(&mut socket).await, Some(1008) | None), "{frame:?}");
    }
    // A request that is no handshake.
    api.get("/api/v1/events/ws", &api.agent).await.expect(400);
    api.get("/api/v1/events/ws", "").await.expect(401);
}

/// Reads the numbers from `from` to `to` without a gap. Who is cut off comes back with the last id.
async fn read_on(api: &Api, address: SocketAddr, last: &Value, from: i64, to: i64) {
    let mut last = last.clone();
    let mut expected = from;
    while expected <= to {
        let mut socket = follow(address, &api.agent, &format!("?last_event_id={last}")).await;
        while expected <= to {
            match next(&mut socket).await {
                Ok(told) if told["event"] == "team.updated" => {
                    assert_eq!(told["data"]["payload"]["n"], expected);
                    (last, expected) = (told["id"].clone(), expected + 1);
                }
                Ok(_) => {}
                Err(Some(4429)) => break,
                Err(code) => panic!("closed with {code:?} before {expected}"),
            }
        }
    }
}

/// Who does not read costs a line of messages, not memory without end, and loses nothing.
#[tokio::test]
async fn a_slow_reader_is_cut_off_and_comes_back_for_the_rest() {
    let api = Api::start().await;
    let address = serve(api.router.clone()).await;
    let mut slow = follow(address, &api.agent, "").await;
    api.post("/api/v1/teams", &api.admin, json!({"name": "first"})).await.expect(201);
    let mut quick = follow(address, &api.agent, "?last_event_id=0").await;
    let first = next(&mut quick).await.unwrap();
    let many = 5_000;
    sqlx::query(
        "insert into events (id, organization_id, kind, actor_kind, payload, created_at)
         select gen_random_uuid(), $1, 'team.updated', 'system', jsonb_build_object('n', n, 'x', repeat('x', 8000)), now()
         from generate_series(1, $2::int) n order by n",
    )
    .bind(api.organization.id.0)
    .bind(i32::try_from(many).unwrap())
    .execute(&mut api.test_db.owner().await)
    .await
    .unwrap();
    // Others have all of it while this one has not read a word.
    read_on(&api, address, &first["id"], 1, many).await;
    let (mut last, mut seen) = (first["id"].clone(), 0);
    let code = loop {
        match next(&mut slow).await {
            Ok(told) if told["event"] == "team.updated" => {
                seen += 1;
                assert_eq!(told["data"]["payload"]["n"], seen);
                last = told["id"].clone();
            }
            Ok(_) => {}
            Err(code) => break code,
        }
    };
    // None: it did not read for so long that its line was cut without a word.
    assert!(matches!(code, Some(4429) | None), "{code:?} after {seen} messages");
    assert!(seen < many, "it was not slow");
    read_on(&api, address, &last, seen + 1, many).await;
}
