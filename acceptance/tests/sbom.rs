//! ASVS 5.0, 15.1.2: whoever asks what is in the program gets a list that is true.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Nothing: there is no Python for it here.
fn bill() -> Option<String> {
    let modern = Command::new("python3").args(["-c", "import tomllib"]).output();
    if !modern.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "script/sbom needs Python 3.11");
        eprintln!("skipped: script/sbom needs Python 3.11");
        return None;
    }
    let output = Command::new(root().join("script/sbom")).env("CARGO_NET_OFFLINE", "true").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

#[test]
fn the_bill_of_materials_is_what_is_locked() {
    let Some(bill) = bill() else { return };
    let parsed: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!((text(&parsed, "bomFormat"), text(&parsed, "specVersion")), ("CycloneDX", "1.6"));
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let locked: BTreeMap<(&str, &str), &str> = lock
        .split("[[package]]")
        .filter_map(|package| {
            let of = |name: &str| {
                package
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
            };
            Some(((of("name")?, of("version")?), of("checksum").unwrap_or_default()))
        })
        .collect();
    let components = parsed["components"].as_array().unwrap();
    assert!(components.len() > 300, "{}", components.len());
    let mut names = BTreeSet::new();
    for component in components {
        let (name, version) = (text(component, "name"), text(component, "version"));
        let checksum = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert_eq!(locked.get(&(name, version)), Some(&checksum), "{name} {version}");
        assert!(!text(&component["licenses"][0], "expression").is_empty(), "{name}");
        assert_eq!(component["purl"].is_string(), !checksum.is_empty(), "{name}");
        names.insert((name, text(component, "scope")));
    }
    // What answers, what only helps to compile, what only tests, what must not be there.
    for there in
        [("axum", "required"), ("sqlx", "required"), ("ring", "required"), ("serde_derive", "excluded")]
    {
        assert!(names.contains(&there), "{there:?}");
    }
    for absent in ["testkit", "proptest", "openssl", "native-tls", "aws-lc-rs"] {
        assert!(!names.iter().any(|(name, _)| *name == absent), "{absent}");
    }
    // Whatever depends or is depended on is listed.
    let refs: BTreeSet<&str> = components
        .iter()
        .chain([&parsed["metadata"]["component"]])
        .map(|component| text(component, "bom-ref"))
        .collect();
    for dependency in parsed["dependencies"].as_array().unwrap() {
        assert!(refs.contains(text(dependency, "ref")));
        for on in dependency["dependsOn"].as_array().unwrap() {
            assert!(refs.contains(on.as_str().unwrap()), "{on}");
        }
    }
    assert!(bill == self::bill().unwrap(), "the same commit gives the same bytes");
}
