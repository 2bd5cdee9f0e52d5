//! Story: a client developer takes the OpenAPI document at its word. schemathesis reads it as they would, tries every operation with
//! inputs that it makes up, good and bad, and compares status, content type and body of each answer with what is written.

use std::process::Stdio;
use testkit::{App, in_full, schemathesis};
use tokio::process::Command;

/// Answers that break the document, and answers of a server that broke.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth";

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_document_says() {
    let Some(program) = schemathesis() else { return };
    let app = App::start().await;
    // The same inputs at each run. The long variant (`script/faults`) also walks through all edges of the schemas.
    let (phases, cases) =
        if in_full() { ("examples,coverage,fuzzing", "50") } else { ("examples,fuzzing", "6") };
    let output = Command::new(program)
        .args(["run", &format!("{}/api/openapi.json", app.process.base)])
        .args(["--header", &format!("Authorization: Bearer {}", app.client.token)])
        // It never ends. (`events/ws` answers who brings no handshake.)
        .args(["--exclude-path", "/api/v1/events/stream"])
        .args(["--checks", CHECKS, "--phases", phases, "--max-examples", cases, "--seed", "1"])
        .args([
            "--continue-on-failure",
            "--request-timeout",
            "60",
            "--no-color",
            "--warnings",
            "off",
            "--suppress-health-check",
            "all",
        ])
        .env("SCHEMATHESIS_HOOKS", concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis_hooks.py"))
        .current_dir(app.folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Tested:") && said.contains("No issues found"), "it tried nothing: {said}");
    assert_eq!(app.client.get("/readyz").await.status, 200);
}
