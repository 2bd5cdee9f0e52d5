//! The program that tries an interface against its OpenAPI document.

use std::path::{Path, PathBuf};

/// Where `script/setup --tests` has put it; `None` where it is known that there is none.
///
/// # Panics
/// When there is none, unless `RELAYDESK_TESTS_WITHOUT_SCHEMATHESIS` says that this is known.
pub fn schemathesis() -> Option<PathBuf> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join(".relaydesk/schemathesis/bin/schemathesis");
    if program.exists() {
        return Some(program);
    }
    let known = std::env::var_os("RELAYDESK_TESTS_WITHOUT_SCHEMATHESIS").is_some();
    assert!(
        known,
        "there is no schemathesis: script/setup --tests gets it; or set RELAYDESK_TESTS_WITHOUT_SCHEMATHESIS=1 to leave such tests out"
    );
    eprintln!("testkit: this test is left out: there is no schemathesis");
    None
}
