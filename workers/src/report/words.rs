//! The figures of a report as people read them.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use store::report_executions::Execution;
use store::reports::{Count, Line, SlaLine, Summary};
use templates::report::{Figure, Incident, Report, SlaFigure};

/// `lines`: the first ones; `rows`: how many there are in the file. `download`: where the file is, if it is not attached.
pub fn words(
    organization: String,
    base_url: &str,
    execution: &Execution,
    summary: &Summary,
    (lines, rows): (&[Line], i64),
    download: Option<String>,
) -> Report {
    let zone: Tz = execution.time_zone.parse().unwrap_or(chrono_tz::UTC);
    Report {
        organization,
        period: period(execution.from, execution.to, zone),
        time_zone: execution.time_zone.clone(),
        opened: summary.opened,
        resolved: summary.resolved,
        open_at_end: summary.open_at_end,
        first_response_mean: duration(summary.first_response.mean_seconds),
        first_response_median: duration(summary.first_response.median_seconds),
        resolution_mean: duration(summary.resolution.mean_seconds),
        resolution_median: duration(summary.resolution.median_seconds),
        by_priority: figures(&summary.by_priority),
        by_team: figures(&summary.by_team),
        by_source: figures(&summary.by_source),
        sla: summary.sla.iter().map(sla).collect(),
        incidents: lines.iter().map(|line| incident(line, base_url, zone)).collect(),
        more: rows - i64::try_from(lines.len()).unwrap_or(rows),
        download,
    }
}

/// Whole days by their names, anything else to the minute.
fn period(from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> String {
    let (from, to) = (from.with_timezone(&zone), to.with_timezone(&zone));
    let midnight = |time: &DateTime<Tz>| time.format("%H%M%S").to_string() == "000000";
    if !(midnight(&from) && midnight(&to)) {
        return format!("{} to {}", from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M"));
    }
    let last = to - TimeDelta::seconds(1);
    if from.date_naive() == last.date_naive() {
        from.format("%Y-%m-%d").to_string()
    } else {
        format!("{} to {}", from.format("%Y-%m-%d"), last.format("%Y-%m-%d"))
    }
}

/// Two units are enough: `3 h 20 min`.
fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "–".into() };
    let seconds = seconds.round().max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes:02} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn figures(counts: &[Count]) -> Vec<Figure> {
    let name = |count: &Count| count.name.clone().unwrap_or_else(|| "no team".into());
    counts.iter().map(|count| Figure { name: name(count), count: count.count }).collect()
}

fn sla(line: &SlaLine) -> SlaFigure {
    let total = line.met + line.breached;
    let kept =
        if total == 0 { "–".into() } else { format!("{:.1} %", 100.0 * line.met as f64 / total as f64) };
    let metric = match line.metric.as_str() {
        "first_response" => "First response",
        "resolution" => "Resolution",
        other => other,
    };
    let policy = if line.policy.is_empty() { "deleted policies" } else { &line.policy };
    SlaFigure { policy: policy.into(), metric: metric.into(), met: line.met, breached: line.breached, kept }
}

fn incident(line: &Line, base_url: &str, zone: Tz) -> Incident {
    let breached = |state: &Option<String>| state.as_deref() == Some("breached");
    Incident {
        number: line.number.clone(),
        url: format!("{base_url}/?ticket={}", line.number),
        title: line.title.clone(),
        priority: line.priority.clone(),
        status: line.status.replace('_', " "),
        team: line.team.clone().unwrap_or_else(|| "–".into()),
        opened: line.opened_at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string(),
        breached: breached(&line.first_response_sla) || breached(&line.resolution_sla),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_and_durations_read_well() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let berlin = chrono_tz::Europe::Berlin;
        assert_eq!(period(at("2026-11-19T23:00:00Z"), at("2026-11-20T23:00:00Z"), berlin), "2026-11-20");
        assert_eq!(
            period(at("2026-11-08T23:00:00Z"), at("2026-11-15T23:00:00Z"), berlin),
            "2026-11-09 to 2026-11-15"
        );
        assert_eq!(
            period(at("2026-11-20T08:50:00Z"), at("2026-11-20T09:00:00Z"), chrono_tz::UTC),
            "2026-11-20 08:50 to 2026-11-20 09:00"
        );
        for (seconds, text) in
            [(0.4, "0 s"), (61.0, "1 min 01 s"), (12_000.0, "3 h 20 min"), (90_000.0, "1 d 1 h")]
        {
            assert_eq!(duration(Some(seconds)), text);
        }
        assert_eq!(duration(None), "–");
    }
}
