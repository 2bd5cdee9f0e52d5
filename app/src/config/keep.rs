//! How long things are kept: lists such as `short=2d,normal=14d`. What a list does not name stays as it is by default.

use queue::Keep;
use std::collections::BTreeSet;
use std::time::Duration;
use workers::Pruning;

const DAY: Duration = Duration::from_secs(86_400);
const LONGEST: u32 = 36_500;

/// `RELAYDESK_JOB_HISTORY`
pub fn history(list: &str) -> Option<Keep> {
    let mut keep = Keep::default();
    for (name, time) in pairs(list)? {
        let time = days(time, 1)?;
        match name {
            "short" => keep.short = time,
            "normal" => keep.normal = time,
            "long" => keep.long = time,
            "dead" => keep.dead = time,
            _ => return None,
        }
    }
    Some(keep)
}

/// `RELAYDESK_RETENTION`. A message or payload that comes again is known for one as long as the first is kept, so that is not short.
pub fn retention(list: &str) -> Option<Pruning> {
    let mut keep = Pruning {
        mail: None,
        payloads: Some(DAY * 90),
        deliveries: Some(DAY * 400),
        reports: Some(DAY * 400),
        webhooks: Some(DAY * 30),
        audit: None,
        ..Pruning::default()
    };
    for (name, time) in pairs(list)? {
        // The database keeps its audit log for so long at least.
        let least = if name == "audit" { actions::audit_policy::LEAST_DAYS.unsigned_abs() } else { 30 };
        let time = if time == "never" { None } else { Some(days(time, least)?) };
        match name {
            "mail" => keep.mail = time,
            "payloads" => keep.payloads = time,
            "deliveries" => keep.deliveries = time,
            "reports" => keep.reports = time,
            "webhooks" => keep.webhooks = time,
            "audit" => keep.audit = time,
            _ => return None,
        }
    }
    Some(keep)
}

/// Each name once.
fn pairs(list: &str) -> Option<Vec<(&str, &str)>> {
    let mut named = BTreeSet::new();
    super::words(list)
        .map(|word| {
            let (name, time) = word.split_once('=')?;
            named.insert(name.trim()).then_some((name.trim(), time.trim()))
        })
        .collect()
}

/// `90d`
fn days(text: &str, least: u32) -> Option<Duration> {
    let days: u32 = text.strip_suffix('d')?.parse().ok()?;
    (least..=LONGEST).contains(&days).then(|| DAY * days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_are_shown_are_those_in_force() {
        let shown = |name| super::super::find(name).default.unwrap();
        assert_eq!(history(shown("RELAYDESK_JOB_HISTORY")), history(""));
        assert_eq!(retention(shown("RELAYDESK_RETENTION")), retention(""));
        let never =
            retention("mail=never,payloads=never,deliveries=never,reports=never,webhooks=never,audit=never");
        assert_eq!(never, Some(Pruning::default()));
        for wrong in ["mail=0d", "mail=29d", "audit=89d", "mail", "mail=off", "tickets=90d"] {
            assert_eq!(retention(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_named_is_as_by_default() {
        assert_eq!(history(""), Some(Keep::default()));
        let keep = Keep { long: DAY * 400, dead: DAY, ..Keep::default() };
        assert_eq!(history("long=400d, dead = 1d"), Some(keep));
        for wrong in [
            "long",
            "long=",
            "long=400",
            "long=0d",
            "long=-1d",
            "long=1h",
            "ever=1d",
            "long=1d,long=2d",
            "long=99999d",
        ] {
            assert_eq!(history(wrong), None, "{wrong}");
        }
    }
}
