use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every connection with the same bytes and counts them.
async fn peer(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, hits) = (Arc::new(answer.into()), Arc::new(AtomicUsize::new(0)));
    let counter = hits.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    (address, hits)
}

fn closed() -> Client {
    Client::new(Destinations::default()).unwrap()
}

fn open() -> Client {
    Client::new(Destinations::allowing(["127.0.0.0/8".parse().unwrap()])).unwrap()
}

/// Hosts that lead inside, in all notations that somebody ever got through a filter.
const INSIDE: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.127.127.127",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "0.1.2.3",
    // decimal, octal, hexadecimal, mixed
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.01",
    "00000177.0.0.1",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "0x7F.0.0.01",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "025177524776",
    "3232235777",
    "0xc0a80101",
    "0300.0250.1.1",
    "167772161",
    "10.1",
    "192.168.257",
    "172.1048577",
    // full-width digits and dots, percent-encoding, a trailing dot
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1",
    "127.0.0.1.",
    "0x7f.1.",
    // private, shared, link-local, special
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "192.0.0.192",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    // IPv6 in its own forms
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[fc00::1]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fdff:ffff::1]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[2001:10::1]",
    "[100::1]",
    "[5f00::1]",
    "[4000::1]",
    // IPv4 inside IPv6
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2002:c0a8:101::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:4860::5efe:127.0.0.1]",
    "[2001:4860::200:5efe:10.0.0.1]",
    // names that lead inside
    "localhost",
    "LOCALHOST",
];

#[tokio::test]
async fn nothing_inside_is_connected_to() {
    let (address, hits) = peer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(INSIDE.len() >= 80, "{}", INSIDE.len());
    let client = closed();
    for host in INSIDE {
        for url in
            [format!("http://{host}:{}/", address.port()), format!("http://user@{host}:{}/", address.port())]
        {
            let error = client.send(Request::get(&url)).await.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{url}: {error}");
        }
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_no_plain_web_address_is_refused() {
    let client = closed();
    for url in [
        "",
        "relative",
        "//host/",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "gopher://1.1.1.1/",
        "unix:/run/x",
        "data:text/plain,x",
        "http://",
        "http://[fe80::1%25eth0]/",
        "http://[::1%lo]/",
        "http://256.0.0.1/",
        "http://1.1.1.1.1/",
        "http://0x100000000/",
        "http://exa mple/",
    ] {
        assert!(matches!(client.send(Request::get(url)).await, Err(Error::Address(_))), "{url}");
    }
}

#[tokio::test]
async fn redirects_are_an_answer_not_an_order() {
    let (inside, hits) = peer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for code in [301, 302, 303, 307, 308] {
        let answer =
            format!("HTTP/1.1 {code} Moved\r\nlocation: http://{inside}/\r\ncontent-length: 0\r\n\r\n");
        let (address, _) = peer(answer).await;
        let error = open().send(Request::get(format!("http://{address}/"))).await.unwrap_err();
        assert!(matches!(error, Error::Status { code: got, .. } if got == code), "{error}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

/// A name with a public and a private address, or one that changes between look-ups, leads to the public one only.
#[test]
fn only_checked_addresses_are_handed_to_the_connection() {
    let both = vec!["10.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()];
    let rule = Destinations::default();
    assert_eq!(checked(&rule, both).unwrap(), ["1.1.1.1:0".parse().unwrap()]);
    assert!(checked(&rule, vec!["10.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).is_err());
}

#[tokio::test]
async fn errors_say_what_happened_without_the_secret_path() {
    let (address, _) =
        peer("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nslow\ndown").await;
    let client = open();
    let error = client.send(Request::get(format!("http://{address}/s3cret"))).await.unwrap_err();
    let Error::Status { code: 429, retry_after, excerpt } = error else { panic!("{error}") };
    assert_eq!((retry_after, excerpt.as_str()), (Some(Duration::from_secs(7)), "slow down"));

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = client.send(Request::get(format!("http://{gone}/s3cret"))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)) && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn long_and_slow_answers_end() {
    let (address, _) = peer(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000))).await;
    let client = open();
    let request = Request::get(format!("http://{address}/")).response_limit(50_000);
    assert!(matches!(client.send(request).await, Err(Error::TooLong { limit: 50_000, status: 200 })));

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request =
        Request::get(format!("http://{}/", silent.local_addr().unwrap())).timeout(Duration::from_millis(100));
    assert!(matches!(client.send(request).await, Err(Error::Timeout)));
}

/// Names that are not listed are not even looked up; what is listed gets around none of the other rules.
#[tokio::test]
async fn only_listed_hosts_are_connected_to() {
    let (address, hits) = peer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let rule = |hosts: &[String]| {
        Destinations::allowing(["127.0.0.0/8".parse().unwrap()])
            .only(hosts.iter().map(|host| host.parse().unwrap()))
    };
    let port = address.port();
    let listed = Client::new(rule(&["*.example.com".into(), format!("127.0.0.1:{port}")])).unwrap();
    listed.send(Request::get(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    listed.send(Request::get(format!("http://2130706433:{port}/"))).await.unwrap();
    assert_eq!(hits.load(Ordering::SeqCst), 2);
    for url in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1:{port}@localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://127.0.0.1/".into(),
        "https://evil.example/s3cret".into(),
        "https://example.com.evil.example/s3cret".into(),
    ] {
        let error = listed.send(Request::get(&url)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NotListed { .. }), "{url}: {error}");
        assert!(text.contains("RELAYDESK_EGRESS_HOSTS") && !text.contains("s3cret"), "{text}");
    }
    // A redirect to a host that is not listed is an answer, too.
    let (inside, unseen) = peer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let away = format!("HTTP/1.1 307 Moved\r\nlocation: http://{inside}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = peer(away).await;
    let listed = Client::new(rule(&[address.to_string()])).unwrap();
    let error = listed.send(Request::get(format!("http://{address}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Status { code: 307, .. }), "{error}");
    // Being listed makes nothing public.
    let listed = Destinations::default().only(["127.0.0.1".parse().unwrap()]);
    let error =
        Client::new(listed).unwrap().send(Request::get(format!("http://{inside}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!((hits.load(Ordering::SeqCst), unseen.load(Ordering::SeqCst)), (2, 0));
}
