//! RFC 4180 with a header row, and what spreadsheets make of it.

use super::{Inventory, Unreadable};
use domain::inventory::{InventoryOptions, identifiers, item};
use serde_json::{Map, Value};
use std::collections::HashSet;

pub fn parse(text: &str, keys: &[String], options: &InventoryOptions) -> Result<Inventory, Unreadable> {
    let (text, hint) = spreadsheet_hint(text);
    let delimiter = options.delimiter.or(hint).unwrap_or_else(|| guess(text));
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter as u8)
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(text.as_bytes());
    let header: Vec<String> = reader
        .headers()
        .map_err(|error| Unreadable(format!("the header row cannot be read: {error}")))?
        .iter()
        .map(str::to_owned)
        .collect();
    check(&header, keys, options, delimiter)?;
    let mut inventory = Inventory::default();
    for (index, record) in reader.records().enumerate() {
        // The header is row 1.
        let row = index + 2;
        let record = match record {
            Ok(record) if record.iter().all(str::is_empty) => continue,
            Ok(record) => record,
            Err(error) => {
                inventory.refuse(row, error.to_string(), Vec::new());
                continue;
            }
        };
        let fields: Map<_, _> = header.iter().cloned().zip(record.iter().map(Value::from)).collect();
        if record.len() != header.len() {
            let error = format!("has {} fields, the header has {}", record.len(), header.len());
            inventory.refuse(row, error, identifiers(&fields, keys, options));
            continue;
        }
        inventory.add(item(row, &fields, keys, options));
    }
    Ok(inventory)
}

/// Excel writes a first line `sep=;`.
fn spreadsheet_hint(text: &str) -> (&str, Option<char>) {
    let Some((first, rest)) = text.split_once('\n') else {
        return (text, None);
    };
    match first.trim_end().strip_prefix("sep=").map(|sep| sep.chars().collect::<Vec<_>>()).as_deref() {
        Some([delimiter]) if delimiter.is_ascii() => (rest, Some(*delimiter)),
        _ => (text, None),
    }
}

/// The delimiter that the header has most of.
fn guess(text: &str) -> char {
    let header = text.lines().next().unwrap_or_default();
    let count = |candidate: char| header.matches(candidate).count();
    // `max_by_key` takes the last of equals: the comma wins when there is none of any.
    ['|', '\t', ';', ','].into_iter().max_by_key(|candidate| count(*candidate)).unwrap_or(',')
}

fn check(
    header: &[String],
    keys: &[String],
    options: &InventoryOptions,
    delimiter: char,
) -> Result<(), Unreadable> {
    let mut names = HashSet::new();
    if let Some(twice) = header.iter().find(|name| !names.insert(name.as_str())) {
        return Err(Unreadable(format!("the header names the column {twice:?} twice")));
    }
    let column =
        |ours: &str, plain: &str| options.mapping.get(ours).map_or_else(|| plain.to_owned(), Clone::clone);
    let found = keys.iter().any(|key| {
        let mapped = column(&format!("identifiers.{key}"), key);
        names.contains(mapped.as_str()) || (key == "name" && names.contains(column("name", "name").as_str()))
    });
    if !found {
        return Err(Unreadable(format!(
            "no column for any identification key ({}): the columns, split at {delimiter:?}, are {}",
            keys.join(", "),
            header.join(", ")
        )));
    }
    Ok(())
}
