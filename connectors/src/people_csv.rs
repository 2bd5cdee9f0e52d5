//! A table of people as CSV (RFC 4180): with or without a byte order mark, with commas, semicolons or tabs, as spreadsheets write it.

use csv::{ReaderBuilder, StringRecord};
use domain::people_sheet::{Column, LONGEST_CELL, MOST_ROWS, PersonRow, RowError};
use std::collections::BTreeMap;

/// More is not worth reading.
const MOST_ERRORS: usize = 1000;

/// All lines, or all that is wrong with the form of the table. What stands in the cells is judged by who takes them in.
pub fn read(bytes: &[u8]) -> Result<Vec<PersonRow>, Vec<RowError>> {
    let text = text(bytes)?;
    let delimiter = delimiter(text);
    let mut reader = reader(text, delimiter);
    let mut last = 0;
    let (mut columns, mut rows, mut errors) = (None::<Vec<Column>>, Vec::new(), Vec::new());
    let (mut record, mut lines) = (StringRecord::new(), Lines { text: text.as_bytes(), at: 0, line: 1 });
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let line = lines.of(error.position().map_or(0, csv::Position::byte));
                errors.push(RowError::of_line(line, "cannot be read as CSV"));
                break;
            }
        }
        last = record.position().map_or(0, csv::Position::byte);
        let line = lines.of(last);
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        match &columns {
            None => columns = Some(header(&record, line)?),
            Some(columns) => match row(columns, &record, line) {
                Ok(row) => rows.push(row),
                Err(wrong) => errors.extend(wrong),
            },
        }
        if rows.len() > MOST_ROWS {
            errors.push(RowError::of_line(
                line,
                format!("a table has at most {MOST_ROWS} people: cut it in pieces"),
            ));
            break;
        }
        if errors.len() >= MOST_ERRORS {
            break;
        }
    }
    if columns.is_none() {
        return Err(vec![RowError::of_line(1, "the table is empty: its first line names the columns")]);
    }
    let rest = usize::try_from(last).ok().and_then(|last| text.get(last..)).unwrap_or_default();
    if errors.is_empty() && is_open(rest, delimiter) {
        let line = rows.last().map_or(1, |row| row.line);
        errors.push(RowError::of_line(line, "a quote is not closed: what follows it was taken for one cell"));
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes())
}

/// Whether a quote of the last record is never closed. The reader takes the end of the file for its end; so does a quote put there, which adds
/// something to the table if none is open.
fn is_open(rest: &str, delimiter: u8) -> bool {
    let read = |text: &str| reader(text, delimiter).into_records().collect::<Result<Vec<_>, _>>().ok();
    let records = read(rest);
    records.is_some() && records == read(&format!("{rest}\""))
}

/// Counts lines as an editor does. (The reader counts what it has passed, which is the end of the line before.)
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the first record at or after this byte; asked for in ascending order.
    fn of(&mut self, byte: u64) -> u64 {
        let begin = usize::try_from(byte).unwrap_or(usize::MAX).min(self.text.len());
        let skipped = self.text[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &self.text[self.at.min(begin + skipped)..begin + skipped];
        // CRLF is one end, and so are LF and, as old spreadsheets write it, CR alone.
        let pairs = passed.windows(2).filter(|pair| pair == b"\r\n").count();
        let ends = passed.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.line += (ends - pairs) as u64;
        self.at = begin + skipped;
        self.line
    }
}

/// UTF-8, or the lines that are not.
fn text(bytes: &[u8]) -> Result<&str, Vec<RowError>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(vec![RowError::of_line(1, "the file is UTF-16: save it as \"CSV UTF-8\"")]);
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| {
        let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
        let wrong = lines.filter(|(_, line)| std::str::from_utf8(line).is_err());
        let detail = "holds bytes that are not UTF-8: save the file as \"CSV UTF-8\"";
        wrong.take(MOST_ERRORS).map(|(line, _)| RowError::of_line(line, detail)).collect()
    })
}

/// What stands most often in the first line, outside of quotes.
fn delimiter(text: &str) -> u8 {
    let mut quoted = false;
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in first.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            _ => counts.iter_mut().filter(|(known, _)| *known == byte).for_each(|(_, count)| *count += 1),
        }
    }
    // Of equal ones the comma.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(byte, _)| byte)
}

fn header(record: &StringRecord, line: u64) -> Result<Vec<Column>, Vec<RowError>> {
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for cell in record {
        let name = cell.trim().to_lowercase().replace([' ', '-'], "_");
        match name.parse::<Column>() {
            Ok(column) if columns.contains(&column) => {
                errors.push(RowError::of_cell(line, name, "is there twice"));
            }
            Ok(column) => columns.push(column),
            Err(error) => errors.push(RowError::of_cell(line, shown(cell), error.to_string())),
        }
    }
    if !columns.contains(&Column::Email) {
        errors.push(RowError::of_cell(line, "email", "the column is missing"));
    }
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

fn row(columns: &[Column], record: &StringRecord, line: u64) -> Result<PersonRow, Vec<RowError>> {
    if record.len() != columns.len() {
        let detail = format!(
            "has {} cells, the first line has {}: is a quote or a separator missing?",
            record.len(),
            columns.len()
        );
        return Err(vec![RowError::of_line(line, detail)]);
    }
    let (mut cells, mut errors) = (BTreeMap::new(), Vec::new());
    for (column, cell) in columns.iter().zip(record) {
        let cell = cell.trim();
        let name = column.as_str();
        if cell.chars().count() > LONGEST_CELL {
            let detail = format!("must be at most {LONGEST_CELL} characters long");
            errors.push(RowError::of_cell(line, name, detail));
        } else if cell.contains('\0') {
            errors.push(RowError::of_cell(line, name, "must not contain the character U+0000"));
        } else if !cell.is_empty() {
            cells.insert(name, cell.to_owned());
        }
    }
    if errors.is_empty() { Ok(PersonRow { line, cells }) } else { Err(errors) }
}

/// A few characters of what somebody wrote.
fn shown(cell: &str) -> String {
    cell.trim().chars().filter(|c| !c.is_control()).take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spreadsheets_write_it_in_many_ways() {
        for text in [
            "email,name,teams\nada@x.example,Ada,A|B\n",
            "\u{feff}E-Mail Address;x\n".replace("E-Mail Address;x", "Email;Name;Teams").as_str(),
            "email\tname\tteams\r\n",
        ] {
            read(text.as_bytes()).unwrap();
        }
        let text = "\u{feff}EMAIL;\"Name\";Time-Zone;teams\r\n\r\nada@x.example;\"Lovelace; \"\"Ada\"\"\r\n2nd\";;A | B|\r\n;;;\r\nb@x.example;B;UTC;\r\n";
        let rows = read(text.as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].line, rows[0].get(Column::Name)), (3, Some("Lovelace; \"Ada\"\r\n2nd")));
        assert_eq!(rows[0].teams().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(rows[0].get(Column::TimeZone), None);
        assert_eq!((rows[1].line, rows[1].get(Column::TimeZone)), (6, Some("UTC")));
        let rows = read(b"email,name\ra@x.example,A\r\rb@x.example,\"B\rC\"\rc@x.example,C").unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4, 6]);
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        let errors = |bytes: &[u8]| read(bytes).unwrap_err();
        assert_eq!(errors(b"")[0].line, 1);
        assert_eq!(errors(b"\xff\xfee\0")[0].line, 1);
        let found = errors(b"email,name\na@x.example,J\xfcrgen\nb@x.example,B\nc@x.example,Andr\xe9\n");
        assert_eq!(found.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4]);
        let found = errors(b"email,Email,password\n");
        assert_eq!(
            found.iter().map(|error| error.column.as_deref().unwrap()).collect::<Vec<_>>(),
            ["email", "password"]
        );
        assert_eq!(errors(b"name\nAda\n")[0].column.as_deref(), Some("email"));
        // Nothing that a terminal would obey comes back.
        let found = errors(b"email,\x1b[2Jname\xc2\x9b,pass\x07word\n");
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .all(|error| !format!("{error:?}{}", error.detail).contains(|c: char| c.is_control()))
        );
        // A quote that is never closed takes the rest of the table with it.
        let open = format!("email,name\na@x.example,\"A\n{}", "b@x.example,B\n".repeat(100));
        let found = errors(open.as_bytes());
        assert_eq!((found.len(), found[0].line, found[0].column.as_deref()), (1, 2, Some("name")));
        for open in [
            "email,name\na@x.example,\"A\n",
            "email,name\na@x.example,\"A\"\"",
            "email,name\n\na@x.example,\"",
        ] {
            assert!(errors(open.as_bytes())[0].detail.contains("not closed"), "{open:?}");
        }
        for closed in [
            "email,name\na@x.example,\"A\"\n",
            "email,name\na@x.example,5\" disk",
            "email,name\na@x.example,\"\"\n\n",
        ] {
            assert!(read(closed.as_bytes()).is_ok(), "{closed:?}");
        }
        assert_eq!(errors(b"email,name\na@x.example\nb@x.example,B,C\n").len(), 2);
        let long = format!("email,name\na@x.example,{}\nb@x.example,a\0b\n", "x".repeat(1001));
        let found = errors(long.as_bytes());
        assert_eq!((found[0].line, found[0].column.as_deref(), found[1].line), (2, Some("name"), 3));
        let many = format!("email\n{}", "a@x.example\n".repeat(MOST_ROWS + 1));
        assert!(errors(many.as_bytes())[0].detail.contains("at most"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(read(&bytes));
        }

        #[test]
        fn what_was_written_is_read(names in proptest::collection::vec("[a-zA-Z,;\"\n =+@-]{1,20}", 1..20)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["email", "name"]).unwrap();
            for name in &names {
                writer.write_record(["a@x.example", name]).unwrap();
            }
            let rows = read(&writer.into_inner().unwrap()).unwrap();
            let read: Vec<_> = rows.iter().map(|row| row.get(Column::Name).unwrap_or_default().to_owned()).collect();
            let wanted: Vec<_> = names.iter().map(|name| name.trim().to_owned()).collect();
            prop_assert_eq!(read, wanted);
        }
    }
}
