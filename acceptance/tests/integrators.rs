//! Story: somebody who has never seen Relaydesk follows the integrator's page, command by command. What the page says is what is run.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use testkit::Demo;
use tokio::process::Command;

const PAGE: &str = include_str!("../../docs/integrators.md");

/// The shell blocks of a page, one after the other.
fn commands(page: &str) -> String {
    let mut script = String::new();
    let mut is_shell = false;
    for line in page.lines() {
        match (is_shell, line) {
            (false, "```sh") => is_shell = true,
            (true, "```") => is_shell = false,
            (true, line) => {
                script.push_str(line);
                script.push('\n');
            }
            (false, _) => {}
        }
    }
    script
}

async fn is_there(program: &str) -> bool {
    let look = format!("command -v {program}");
    let found = Command::new("sh").args(["-c", &look]).stdout(Stdio::null()).status().await;
    found.is_ok_and(|status| status.success())
}

/// Runs it as people would paste it, except that it ends at the first command that fails.
async fn run(script: &str, folder: &Path, demo: &Path) -> (bool, String) {
    let file = folder.join("page.sh");
    // Whatever it has started ends with it.
    let whole = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script}");
    std::fs::write(&file, whole).unwrap();
    let child = Command::new("bash")
        .arg(&file)
        .current_dir(folder)
        .env("DEMO", demo)
        .env("TMPDIR", folder)
        .env_remove("DESK")
        .env_remove("EMAIL")
        .env_remove("PASSWORD")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = tokio::time::timeout(Duration::from_secs(180), child.wait_with_output()).await;
    let output = output.expect("the page is done within three minutes").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_as_it_stands() {
    for program in ["bash", "curl", "jq", "openssl", "python3"] {
        if !is_there(program).await {
            assert!(std::env::var_os("CI").is_none(), "the page needs {program}, which is not here");
            eprintln!("skipped: the page needs {program}, which is not here");
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]).await;
    let script = commands(PAGE);
    assert!(script.contains("openssl dgst") && script.contains("events/stream"), "the page has its commands");
    let (good, said) = run(&script, folder.path(), &folder.path().join("data/demo.json")).await;
    assert!(good, "{said}");
    for expected in
        ["webhook.test", " is new", "resolved", "The certificate was renewed.", "the signature is right"]
    {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    let incidents = demo.client.all("/api/v1/incidents?q=Customers").await;
    let ours: Vec<_> = incidents.iter().filter(|item| item["title"] == "Customers cannot log in").collect();
    assert_eq!((ours.len(), ours[0]["status"].as_str()), (1, Some("resolved")), "asked for twice, made once");
    assert_eq!(demo.process.terminate().await, Some(0));
}

#[test]
fn only_shell_blocks_are_commands() {
    let page = "text\n```sh\nA=1\n```\n```json\n{}\n```\nmore\n```sh\necho $A\n```\n";
    assert_eq!(commands(page), "A=1\necho $A\n");
}
