//! Making a report: figures into words, incidents into a file.

mod csv_file;
mod words;

pub use csv_file::CsvFile;
pub use words::words;
