use super::*;
use crate::mail::outgoing::{Mailer, Outgoing, Refused};
use std::sync::Mutex;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Keeps what it gets; `full@` cannot keep anything now, `slow@` only when the test lets it.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Taken>>>, Arc<Gate>);

#[derive(Default)]
struct Gate {
    reached: Notify,
    open: Notify,
}

type Taken = (Envelope, Vec<u8>);

impl Deliver for Sink {
    async fn accepts(&self, recipient: &EmailAddress) -> Verdict {
        match (recipient.local_part(), recipient.host()) {
            ("down", _) => Verdict::NotNow("the database is away".into()),
            (_, "desk.example" | "müller.example") => Verdict::Yes,
            _ => Verdict::Never("there is no such mailbox here".into()),
        }
    }

    async fn deliver(&self, envelope: &Envelope, message: Vec<u8>) -> Verdict {
        match envelope.recipients[0].local_part() {
            "full" => Verdict::NotNow("cannot be kept\r\nnow".into()),
            "slow" => {
                self.1.reached.notify_one();
                self.1.open.notified().await;
                self.0.lock().unwrap().push((envelope.clone(), message));
                Verdict::Yes
            }
            _ => {
                self.0.lock().unwrap().push((envelope.clone(), message));
                Verdict::Yes
            }
        }
    }
}

struct Listener {
    address: std::net::SocketAddr,
    sink: Sink,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn listen(limits: Limits) -> Listener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, sink, stop) = (listener.local_addr().unwrap(), Sink::default(), CancellationToken::new());
    let task = tokio::spawn(serve(listener, sink.clone(), limits, stop.clone()));
    Listener { address, sink, stop, task }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(listener: &Listener) -> Client {
        let mut client =
            Client { stream: BufReader::new(TcpStream::connect(listener.address).await.unwrap()) };
        assert!(client.answer().await.starts_with("220 "));
        client
    }

    /// The last line of an answer; empty when the connection ended.
    async fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap_or(0);
            if line.len() < 4 || line.as_bytes()[3] == b' ' {
                return line.trim_end().to_owned();
            }
        }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref()).await;
    }

    async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.answer().await
    }

    async fn begin(&mut self, recipient: &str) {
        assert!(self.say("EHLO client.example").await.starts_with("250 "));
        assert!(self.say("MAIL FROM:<ada@example.org> BODY=8BITMIME").await.starts_with("250 "));
        assert!(self.say(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
    }
}

fn messages(listener: &Listener) -> Vec<String> {
    listener.sink.0.lock().unwrap().iter().map(|(_, m)| String::from_utf8_lossy(m).into_owned()).collect()
}

#[tokio::test]
async fn a_message_arrives_as_it_was_sent() {
    let listener = listen(Limits::default()).await;
    let mut client = Client::connect(&listener).await;
    client.begin("support@desk.example").await;
    assert!(client.say("RCPT TO:<Second@Desk.Example>").await.starts_with("250 "));
    assert!(client.say("DATA").await.starts_with("354 "));
    assert!(client.say("Subject: hi\r\n\r\n..dot\r\nb\u{fc}r\r\n.").await.starts_with("250 "));
    assert!(client.say("QUIT").await.starts_with("221 "));
    let kept = listener.sink.0.lock().unwrap().clone();
    let (envelope, message) = &kept[0];
    assert_eq!(envelope.sender.as_deref(), Some("ada@example.org"));
    assert_eq!(envelope.helo, "client.example");
    let recipients: Vec<&str> = envelope.recipients.iter().map(EmailAddress::as_str).collect();
    assert_eq!(recipients, ["support@desk.example", "second@desk.example"]);
    assert_eq!(String::from_utf8_lossy(message), "Subject: hi\r\n\r\n.dot\r\nbür\r\n");
}

#[tokio::test]
async fn unknown_recipients_and_wrong_orders() {
    let listener = listen(Limits::default()).await;
    let mut client = Client::connect(&listener).await;
    for (line, answer) in [
        ("MAIL FROM:<a@b.example>", "503"),
        ("EHLO x", "250"),
        ("RCPT TO:<support@desk.example>", "503"),
        ("DATA", "503"),
        ("NONSENSE", "500"),
        ("MAIL FROM:a@b", "501"),
        ("AUTH PLAIN AGEAYg==", "502"),
        ("STARTTLS", "502"),
        ("MAIL FROM:<>", "250"),
        ("MAIL FROM:<>", "503"),
        ("RCPT TO:<nobody@elsewhere.example>", "550"),
        ("RCPT TO:<\"a b\"@desk.example>", "550"),
        ("RCPT TO:<down@desk.example>", "451"),
        ("DATA", "554"),
        ("RSET", "250"),
        ("VRFY ada", "252"),
        ("NOOP", "250"),
        ("MAIL FROM:<j\u{fc}rgen@m\u{fc}ller.example> SMTPUTF8", "250"),
        ("RCPT TO:<j\u{fc}rgen@m\u{fc}ller.example>", "250"),
        ("HELO y", "250"),
        ("DATA", "503"),
        ("MAIL FROM:<a@b.example> SIZE=99999999999", "552"),
        ("MAIL FROM:<a@b.example> FOO=BAR", "555"),
        ("MAIL FROM:<a@b.example> BODY=BINARYMIME", "501"),
    ] {
        let got = client.say(line).await;
        assert!(got.starts_with(answer), "{line}: {got}");
    }
}

#[tokio::test]
async fn answers_to_a_pipeline_in_order() {
    let listener = listen(Limits::default()).await;
    let mut client = Client::connect(&listener).await;
    client
        .send(
            "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\n\
             one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\n.\r\nQUIT\r\n",
        )
        .await;
    for expected in ["250", "250", "550", "250", "354", "250", "250", "250", "354", "250", "221"] {
        let got = client.answer().await;
        assert!(got.starts_with(expected), "{expected}: {got}");
    }
    assert_eq!(messages(&listener), ["one\r\n", ""]);
    assert_eq!(listener.sink.0.lock().unwrap()[1].0.sender, None);
}

#[tokio::test]
async fn nothing_is_smuggled() {
    let listener = listen(Limits::default()).await;
    for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r.\r\n", "\r\n\0.\r\n"] {
        let mut client = Client::connect(&listener).await;
        client.begin("support@desk.example").await;
        client.say("DATA").await;
        let smuggled = "MAIL FROM:<ceo@desk.example>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\nevil\r\n";
        client.send(format!("real{end}{smuggled}\r\n.\r\n")).await;
        assert!(client.answer().await.starts_with("250 "), "{end:?}");
        assert!(client.say("QUIT").await.starts_with("221 "), "{end:?}");
    }
    let kept = listener.sink.0.lock().unwrap();
    assert_eq!(kept.len(), 6);
    assert!(kept.iter().all(|(envelope, _)| envelope.sender.as_deref() == Some("ada@example.org")));
}

#[tokio::test]
async fn too_big_is_refused_and_the_session_goes_on() {
    let limits = Limits { message: 1000, ..Limits::default() };
    let listener = listen(limits).await;
    let mut client = Client::connect(&listener).await;
    client.begin("support@desk.example").await;
    client.say("DATA").await;
    assert!(client.say(&format!("{}\r\n.", "x".repeat(1500))).await.starts_with("552 "));
    client.begin("support@desk.example").await;
    client.say("DATA").await;
    assert!(client.say("small\r\n.").await.starts_with("250 "));
    // Without end: sent away.
    client.begin("support@desk.example").await;
    client.say("DATA").await;
    client.send(vec![b'x'; 100_000]).await;
    assert!(client.answer().await.starts_with("552 "));
    assert_eq!(client.answer().await, "");
    assert_eq!(messages(&listener), ["small\r\n"]);
}

#[tokio::test]
async fn chunks() {
    let listener = listen(Limits { message: 1000, ..Limits::default() }).await;
    let mut client = Client::connect(&listener).await;
    client.send("BDAT 5\r\nhello").await;
    assert!(client.answer().await.starts_with("503 "));
    client.begin("support@desk.example").await;
    client.send("BDAT 7\r\none\r\n.\r").await;
    assert!(client.answer().await.starts_with("250 "));
    assert!(client.say("DATA").await.starts_with("503 "));
    client.send("BDAT 4 LAST\r\n\ntwoMAIL FROM:<>\r\n").await;
    assert!(client.answer().await.starts_with("250 "));
    assert!(client.answer().await.starts_with("250 "));
    client.say("RCPT TO:<support@desk.example>").await;
    client.send(["BDAT 1500\r\n".to_owned(), "x".repeat(1500)].concat()).await;
    assert!(client.answer().await.starts_with("552 "));
    assert!(client.say("BDAT 0 LAST").await.starts_with("552 "));
    assert_eq!(messages(&listener), ["one\r\n.\r\ntwo"]);
    assert!(client.say("NOOP").await.starts_with("250 "));
}

#[tokio::test]
async fn limits_on_lines_errors_and_patience() {
    let limits = Limits { idle: Duration::from_millis(200), errors: 5, ..Limits::default() };
    let listener = listen(limits).await;
    let mut client = Client::connect(&listener).await;
    assert!(client.say(&"x".repeat(100_000)).await.starts_with("500 "));
    for _ in 0..4 {
        assert!(client.say("WHAT").await.starts_with("500 "));
    }
    client.say("WHAT").await;
    assert!(client.answer().await.starts_with("421 "));
    assert_eq!(client.answer().await, "");

    let mut silent = Client::connect(&listener).await;
    assert!(silent.answer().await.starts_with("421 "));
    // A client that trickles a message is cut off as well.
    let mut trickle = Client::connect(&listener).await;
    trickle.begin("support@desk.example").await;
    trickle.say("DATA").await;
    assert!(trickle.answer().await.starts_with("421 "));
    assert!(messages(&listener).is_empty());
}

#[tokio::test]
async fn too_many_connections() {
    let listener = listen(Limits { connections_per_peer: 2, ..Limits::default() }).await;
    let first = Client::connect(&listener).await;
    let _second = Client::connect(&listener).await;
    let mut third = Client { stream: BufReader::new(TcpStream::connect(listener.address).await.unwrap()) };
    assert!(third.answer().await.starts_with("421 "));
    drop(first);
    // The seat is free again as soon as the server has seen the end.
    let seated = async {
        loop {
            let stream = TcpStream::connect(listener.address).await.unwrap();
            if (Client { stream: BufReader::new(stream) }).answer().await.starts_with("220 ") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seated).await.expect("the seat is given back");
}

#[tokio::test]
async fn memory_is_bounded_and_given_back() {
    let listener = listen(Limits { memory: 10_000, ..Limits::default() }).await;
    let mut holder = Client::connect(&listener).await;
    holder.begin("support@desk.example").await;
    // The answer to a chunk says that it is held.
    holder.send([b"BDAT 9000\r\n".as_slice(), &[b'x'; 9_000]].concat()).await;
    assert!(holder.answer().await.starts_with("250 "));
    let mut other = Client::connect(&listener).await;
    other.begin("support@desk.example").await;
    other.say("DATA").await;
    assert!(other.say(&format!("{}\r\n.", "y".repeat(5_000))).await.starts_with("452 "));
    drop(holder);
    // Tried again, as senders do, until the server has seen the end.
    let taken = async {
        loop {
            other.begin("support@desk.example").await;
            other.say("DATA").await;
            let answer = other.say(&format!("{}\r\n.", "y".repeat(5_000))).await;
            if answer.starts_with("250 ") {
                return;
            }
            assert!(answer.starts_with("452 "), "{answer}");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.expect("the memory is given back");
}

#[tokio::test]
async fn what_cannot_be_kept_is_the_senders_again() {
    let listener = listen(Limits::default()).await;
    let mut client = Client::connect(&listener).await;
    client.begin("full@desk.example").await;
    client.say("DATA").await;
    assert_eq!(client.say("x\r\n.").await, "451 4.3.0 cannot be kept  now");
    client.begin("support@desk.example").await;
    client.say("DATA").await;
    let loops = "Received: from a by b\r\n".repeat(60);
    assert!(client.say(&format!("{loops}\r\nx\r\n.")).await.starts_with("554 5.4.6"));
}

#[tokio::test]
async fn a_stop_finishes_the_message_in_hand() {
    let listener = listen(Limits::default()).await;
    let mut idle = Client::connect(&listener).await;
    let mut busy = Client::connect(&listener).await;
    busy.begin("slow@desk.example").await;
    busy.say("DATA").await;
    busy.send("x\r\n.\r\n").await;
    listener.sink.1.reached.notified().await;
    listener.stop.cancel();
    assert!(idle.answer().await.starts_with("421 "));
    listener.sink.1.open.notify_one();
    assert!(busy.answer().await.starts_with("250 "));
    assert!(busy.answer().await.starts_with("421 "));
    tokio::time::timeout(Duration::from_secs(5), listener.task).await.unwrap().unwrap();
    assert_eq!(listener.sink.0.lock().unwrap().len(), 1);
    assert!(TcpStream::connect(listener.address).await.is_err());
}

#[tokio::test]
async fn our_own_client_gets_through() {
    let listener = listen(Limits::default()).await;
    let mailer = Mailer::new(&format!("smtp://{}", listener.address)).unwrap();
    let mail = Outgoing {
        from: "support@desk.example".parse().unwrap(),
        from_name: "Tëst Desk".into(),
        to: "ada@desk.example".parse().unwrap(),
        to_name: None,
        subject: "Übung".into(),
        text: ".\r\n.dots\n.\n".into(),
        html: Some("<p>hi</p>".into()),
        message_id: "1@desk.example".into(),
        in_reply_to: None,
        references: vec![],
        auto_submitted: Some("auto-replied".into()),
        loop_mark: Some("x".into()),
        date: chrono::DateTime::UNIX_EPOCH,
        files: vec![],
    };
    assert_eq!(mailer.send(&mail).await.unwrap().code, 250);
    assert_eq!(listener.sink.0.lock().unwrap()[0].0.sender, None);
    let refused = Outgoing { to: "ada@elsewhere.example".parse().unwrap(), ..mail.clone() };
    let Err(Refused::Permanent { code: 550, response }) = mailer.send(&refused).await else { panic!() };
    assert!(response.contains("no such mailbox"), "{response}");
    let later = Outgoing { to: "full@desk.example".parse().unwrap(), ..mail.clone() };
    assert!(matches!(mailer.send(&later).await, Err(Refused::Transient { code: 451, .. })));
    listener.stop.cancel();
    listener.task.await.unwrap();
    assert!(matches!(mailer.send(&mail).await, Err(Refused::Unreachable(_))));
}

#[tokio::test]
async fn fast_enough() {
    let listener = listen(Limits::default()).await;
    let started = Instant::now();
    let body = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(800);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = Client::connect(&listener).await;
        let body = body.clone();
        clients.spawn(async move {
            for _ in 0..50 {
                client.begin("support@desk.example").await;
                client.say("DATA").await;
                client.send(&body).await;
                assert!(client.say(".").await.starts_with("250 "));
            }
            let mut rest = Vec::new();
            client.say("QUIT").await;
            let _ = client.stream.read_to_end(&mut rest).await;
        });
    }
    clients.join_all().await;
    // 200 messages of 50 KB; the goal for the whole way is 50 a second.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
