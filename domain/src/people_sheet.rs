//! A table of people as an administrator fills it in: one line a person.

use std::collections::BTreeMap;

crate::words::words! {
    /// A column that an import knows.
    Column("column") {
        Email => "email",
        Name => "name",
        Role => "role",
        ExternalId => "external_id",
        Department => "department",
        Teams => "teams",
        Manager => "manager",
        Phone => "phone",
        TimeZone => "time_zone",
        Locale => "locale",
    }
}

/// Most people that one table has.
pub const MOST_ROWS: usize = 20_000;
/// Largest table, in bytes: so many lines of four hundred characters.
pub const LARGEST_TABLE: usize = 8 << 20;
/// Longest text of a cell, in characters.
pub const LONGEST_CELL: usize = 1000;

/// One line. A cell that is empty is not there: it leaves what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonRow {
    /// As an editor counts them, from 1 on.
    pub line: u64,
    pub cells: BTreeMap<&'static str, String>,
}

impl PersonRow {
    pub fn get(&self, column: Column) -> Option<&str> {
        self.cells.get(column.as_str()).map(String::as_str)
    }

    /// The teams are one cell, with `|` between them.
    pub fn teams(&self) -> impl Iterator<Item = &str> {
        self.get(Column::Teams).unwrap_or_default().split('|').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// What is wrong with a line, or with one cell of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RowError {
    pub line: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub detail: String,
}

impl RowError {
    pub fn of_line(line: u64, detail: impl Into<String>) -> Self {
        RowError { line, column: None, detail: detail.into() }
    }

    pub fn of_cell(line: u64, column: impl Into<String>, detail: impl Into<String>) -> Self {
        RowError { line, column: Some(column.into()), detail: detail.into() }
    }
}

crate::words::words! {
    /// What became of a table.
    ImportStatus("status of an import") {
        Queued => "queued",
        /// All lines are in.
        Done => "done",
        /// A dry run: all lines would go in.
        Checked => "checked",
        /// Lines are wrong, and nothing is in.
        Refused => "refused",
        /// It could not be worked.
        Failed => "failed",
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: i32,
    pub created: i32,
    pub changed: i32,
    pub unchanged: i32,
}
