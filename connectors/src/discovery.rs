//! Inventories: read from an address or a file, taken apart into items. A row that cannot be used is an error of that row;
//! only what cannot be read at all is an error of the whole.

mod csv;
mod json;
mod source;

pub use source::{Location, ReadError, Reader};

use domain::cmdb::InventoryFormat;
use domain::inventory::{InventoryOptions, Refused};
use domain::reconcile::{Item, RowError};
use encoding_rs::Encoding;

/// More than this in one inventory is a mistake.
pub const MAX_ITEMS: usize = 200_000;
/// Bytes of one inventory.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The whole cannot be understood; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    pub items: Vec<Item>,
    pub errors: Vec<RowError>,
    /// Identifiers of the rows in `errors`: their items are there, though nothing can be read from them.
    pub seen: Vec<(String, String)>,
}

impl Inventory {
    fn add(&mut self, item: Result<Item, Refused>) {
        match item {
            Ok(item) => self.items.push(item),
            Err(refused) => {
                self.errors.push(refused.error);
                self.seen.extend(refused.identifiers.into_iter().filter(|(_, value)| !value.is_empty()));
            }
        }
    }

    fn refuse(&mut self, row: usize, error: String, identifiers: Vec<(String, String)>) {
        self.add(Err(Refused { error: RowError { row, error }, identifiers }));
    }

    fn len(&self) -> usize {
        self.items.len() + self.errors.len()
    }
}

/// `keys`: the identification keys, the most trusted first.
pub fn parse(
    format: InventoryFormat,
    bytes: &[u8],
    keys: &[String],
    options: &InventoryOptions,
) -> Result<Inventory, Unreadable> {
    let text = decode(bytes, options.charset.as_deref())?;
    if text.trim().is_empty() {
        return Err(Unreadable("the inventory is empty".into()));
    }
    let inventory = match format {
        InventoryFormat::Json => json::parse(&text, keys, options)?,
        InventoryFormat::Csv => csv::parse(&text, keys, options)?,
    };
    if inventory.len() > MAX_ITEMS {
        return Err(Unreadable(format!("more than {MAX_ITEMS} items")));
    }
    Ok(inventory)
}

/// A byte order mark decides, then the charset that is set, then UTF-8.
fn decode(bytes: &[u8], charset: Option<&str>) -> Result<String, Unreadable> {
    let encoding = match charset {
        None => encoding_rs::UTF_8,
        Some(label) => Encoding::for_label(label.as_bytes()).ok_or_else(|| {
            Unreadable(format!("unknown charset {label:?}: expected a name like utf-8 or windows-1252"))
        })?,
    };
    let (text, used, broken) = encoding.decode(bytes);
    if broken {
        let hint = if charset.is_none() { ": set the option charset, for example windows-1252" } else { "" };
        return Err(Unreadable(format!("the inventory is not {}{hint}", used.name())));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
