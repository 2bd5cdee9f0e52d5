use super::*;
use proptest::prelude::*;
use serde_json::json;

fn options(value: serde_json::Value) -> InventoryOptions {
    serde_json::from_value(value).unwrap()
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn read(format: InventoryFormat, bytes: &[u8], given: serde_json::Value) -> Result<Inventory, String> {
    parse(format, bytes, &keys(&["serial"]), &options(given)).map_err(|error| error.to_string())
}

#[test]
fn csv_of_a_spreadsheet() {
    let inventory =
        read(InventoryFormat::Csv, include_bytes!("../../fixtures/discovery/servers.csv"), json!({}))
            .unwrap();
    assert_eq!(inventory.items.len(), 3);
    assert_eq!(inventory.items[0].name.as_deref(), Some("db1"));
    assert_eq!(inventory.items[1].attributes["location"], "Köln; Halle 2");
    assert!(inventory.items[2].attributes["location"].is_null());
    assert_eq!(inventory.errors, [RowError { row: 5, error: "has 2 fields, the header has 5".into() }]);
}

#[test]
fn json_in_an_envelope() {
    let bytes = include_bytes!("../../fixtures/discovery/hosts.json");
    let inventory =
        read(InventoryFormat::Json, bytes, json!({"items": "/data/hosts", "mapping": {"class": "kind"}}))
            .unwrap();
    assert_eq!(inventory.items.len(), 2);
    assert_eq!(inventory.items[0].class.as_deref(), Some("virtual_machine"));
    assert_eq!(inventory.errors[0].row, 3);
    assert!(
        read(InventoryFormat::Json, bytes, json!({"items": "/nowhere"})).unwrap_err().contains("/nowhere")
    );
}

#[test]
fn what_a_refused_row_names_is_there() {
    let inventory = read(InventoryFormat::Csv, b"serial,name,rack\nS1,a,1\nS2,b\n,c\n", json!({})).unwrap();
    assert_eq!((inventory.items.len(), inventory.errors.len()), (1, 2));
    assert_eq!(inventory.seen, [("serial".to_owned(), "S2".to_owned())]);
    let long = json!([{"serial": "S3", "note": "x".repeat(30_000)}, 7]).to_string();
    let inventory = read(InventoryFormat::Json, long.as_bytes(), json!({})).unwrap();
    assert_eq!((inventory.items.len(), inventory.errors.len()), (0, 2));
    assert_eq!(inventory.seen, [("serial".to_owned(), "S3".to_owned())]);
}

#[test]
fn charsets_and_marks() {
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain("serial\tname\nS1\tKöln\n".encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    for (bytes, charset) in [
        (utf16, json!({})),
        (b"\xef\xbb\xbfserial,name\r\nS1,K\xc3\xb6ln\r\n".to_vec(), json!({})),
        (b"serial|name\nS1|K\xf6ln".to_vec(), json!({"charset": "windows-1252"})),
        (b"sep=;\nserial;name\nS1;K\xc3\xb6ln".to_vec(), json!({})),
    ] {
        let inventory = read(InventoryFormat::Csv, &bytes, charset).unwrap();
        assert_eq!(inventory.items[0].name.as_deref(), Some("Köln"), "{bytes:?}");
        assert_eq!(inventory.items[0].identifiers, [("serial".to_owned(), "S1".to_owned())]);
    }
    assert!(read(InventoryFormat::Csv, b"serial\nK\xf6ln", json!({})).unwrap_err().contains("windows-1252"));
    assert!(
        read(InventoryFormat::Csv, b"serial", json!({"charset": "klingon"})).unwrap_err().contains("klingon")
    );
}

#[test]
fn the_whole_can_be_unusable() {
    assert!(read(InventoryFormat::Json, b" ", json!({})).unwrap_err().contains("empty"));
    assert!(read(InventoryFormat::Json, b"{", json!({})).unwrap_err().contains("not valid JSON"));
    assert!(
        read(InventoryFormat::Json, br#"{"a": [], "b": []}"#, json!({}))
            .unwrap_err()
            .contains("several arrays")
    );
    assert!(read(InventoryFormat::Csv, b"a,a,serial\n1,2,3", json!({})).unwrap_err().contains("twice"));
    let error = read(InventoryFormat::Csv, b"name;sn\nx;y", json!({})).unwrap_err();
    assert!(error.contains("no column for any identification key (serial)"), "{error}");
}

#[tokio::test]
async fn files_are_read_only_below_the_folder() {
    let (all, secret) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let (own, others) = (all.path().join("own"), all.path().join("others"));
    for folder in [&own, &others] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("a.csv"), "serial\nS1\n").unwrap();
    }
    std::fs::write(own.join("mine.csv"), "serial\nS1\n").unwrap();
    std::os::unix::fs::symlink(secret.path(), own.join("link.csv")).unwrap();
    std::os::unix::fs::symlink(&others, own.join("folder")).unwrap();
    let http = crate::http::Client::new(crate::http::Destinations::default()).unwrap();
    let reader = Reader { http, folder: Some(own.clone()) };
    let read = async |path: &str| reader.read(&Location::parse(path), None).await;
    assert_eq!(read("a.csv").await.unwrap(), b"serial\nS1\n");
    assert_eq!(read(&format!("file://{}/mine.csv", own.display())).await.unwrap().len(), 10);
    // What is there and what is not get the same answer.
    for path in [
        "../others/a.csv",
        "x/../../others/a.csv",
        "folder/a.csv",
        "link.csv",
        "none.csv",
        ".",
        "/etc/passwd",
        "/etc/no-such-file",
        "file:///etc/passwd",
        others.join("a.csv").to_str().unwrap(),
        secret.path().to_str().unwrap(),
    ] {
        let error = read(path).await.unwrap_err().to_string();
        let named = path.trim_start_matches("file://");
        let expected = format!(
            "{named} is no readable file below the folder of this organization in RELAYDESK_DISCOVERY_DIR"
        );
        assert_eq!(error, expected);
    }
    let without = Reader { folder: None, ..reader };
    assert!(matches!(without.read(&Location::parse("a.csv"), None).await, Err(ReadError::NoFolder)));
}

#[tokio::test]
async fn private_addresses_are_refused() {
    let http = crate::http::Client::new(crate::http::Destinations::default()).unwrap();
    let reader = Reader { http, folder: None };
    for url in [
        "http://127.0.0.1:9/x.json",
        "http://169.254.169.254/latest",
        "gopher://x/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        let error = reader.read(&Location::parse(url), None).await.unwrap_err();
        assert!(matches!(error, ReadError::Http(_)) && !error.is_transient(), "{url}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(InventoryFormat::Csv, &bytes, json!({}));
        let _ = read(InventoryFormat::Json, &bytes, json!({}));
    }

    /// Every row of a table is an item or an error.
    #[test]
    fn no_row_is_lost(rows in prop::collection::vec(("[A-Z][a-z0-9]{1,8}", "[a-z ,;\"]{0,10}"), 0..20)) {
        let mut writer = csv_writer();
        writer.write_record(["serial", "note"]).unwrap();
        for (serial, note) in &rows {
            writer.write_record([serial, note]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let inventory = read(InventoryFormat::Csv, &bytes, json!({"delimiter": ","})).unwrap();
        prop_assert_eq!(inventory.items.len(), rows.len());
    }
}

fn csv_writer() -> ::csv::Writer<Vec<u8>> {
    ::csv::Writer::from_writer(Vec::new())
}
