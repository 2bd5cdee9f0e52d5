//! A real OpenID Connect provider: `oidc-provider-mock`, made of Authlib, which answers anybody who says who they are.

use crate::free_port;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Runs until it is dropped.
pub struct OidcProvider {
    _child: Child,
    pub issuer: String,
}

impl OidcProvider {
    /// With these people, each with their claims (`sub` among them). `None` where it is known that there is no such program.
    ///
    /// # Panics
    /// When there is none, unless `RELAYDESK_TESTS_WITHOUT_OIDC_PROVIDER` says that this is known; when it does not answer within a minute.
    pub async fn start(people: &[Value]) -> Option<OidcProvider> {
        let Some(program) = program() else {
            let known = std::env::var_os("RELAYDESK_TESTS_WITHOUT_OIDC_PROVIDER").is_some();
            assert!(
                known,
                "there is no OpenID Connect provider: script/setup --tests gets it; or set RELAYDESK_TESTS_WITHOUT_OIDC_PROVIDER=1 to leave such tests out"
            );
            eprintln!("testkit: this test is left out: there is no OpenID Connect provider");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--require-nonce", "true", "--token-max-age", "300"]);
        for person in people {
            command.args(["--user-claims", &person.to_string()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the provider starts");
        let issuer = format!("http://127.0.0.1:{port}");
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), up)
            .await
            .expect("the provider answers within a minute");
        Some(OidcProvider { _child: child, issuer })
    }
}

fn program() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let program = root.join(".relaydesk/oidc-provider/bin/oidc-provider-mock");
    program.exists().then_some(program)
}
