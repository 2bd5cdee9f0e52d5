//! The list of incidents as CSV (RFC 4180), with a byte order mark so that spreadsheets read it as UTF-8.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::safe_cell;
use store::reports::Line;

const HEADER: [&str; 15] = [
    "number",
    "title",
    "status",
    "priority",
    "impact",
    "urgency",
    "source",
    "requester",
    "assignee",
    "team",
    "opened_at",
    "first_responded_at",
    "resolved_at",
    "first_response_sla",
    "resolution_sla",
];

#[derive(Debug)]
pub struct CsvFile {
    writer: csv::Writer<Vec<u8>>,
    rows: i64,
}

impl CsvFile {
    pub fn new() -> anyhow::Result<Self> {
        let mut writer = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .from_writer("\u{feff}".as_bytes().to_vec());
        writer.write_record(HEADER)?;
        Ok(CsvFile { writer, rows: 0 })
    }

    pub fn add(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = |text: &Option<String>| safe_cell(text.as_deref().unwrap_or_default());
        self.writer.write_record([
            safe_cell(&line.number),
            safe_cell(&line.title),
            line.status.clone(),
            line.priority.clone(),
            line.impact.clone(),
            line.urgency.clone(),
            line.source.clone(),
            text(&line.requester),
            text(&line.assignee),
            text(&line.team),
            time(Some(line.opened_at)),
            time(line.first_responded_at),
            time(line.resolved_at),
            text(&line.first_response_sla),
            text(&line.resolution_sla),
        ])?;
        self.rows += 1;
        Ok(())
    }

    /// The bytes and how many incidents are in them.
    pub fn finish(self) -> anyhow::Result<(Vec<u8>, i64)> {
        let rows = self.rows;
        let bytes = self.writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok((bytes, rows))
    }
}

fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or(String::new(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text_and_quotes_hold() {
        let line = Line {
            number: "INC0000001".into(),
            title: "=cmd|' /C calc'!A0, \"x\"\nsecond line".into(),
            status: "new".into(),
            priority: "high".into(),
            impact: "high".into(),
            urgency: "low".into(),
            source: "email".into(),
            requester: Some("@evil".into()),
            assignee: None,
            team: Some("Netz Süd".into()),
            opened_at: DateTime::UNIX_EPOCH,
            first_responded_at: None,
            resolved_at: None,
            first_response_sla: Some("met".into()),
            resolution_sla: None,
        };
        let mut file = CsvFile::new().unwrap();
        file.add(&line).unwrap();
        let (bytes, rows) = file.finish().unwrap();
        assert_eq!(rows, 1);
        let text = String::from_utf8(bytes).unwrap();
        let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(&row[1], "'=cmd|' /C calc'!A0, \"x\"\nsecond line");
        assert_eq!((&row[7], &row[9], &row[10]), ("'@evil", "Netz Süd", "1970-01-01T00:00:00Z"));
    }
}
