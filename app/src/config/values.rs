//! What the texts of settings mean.

use super::Lane;
use connectors::http::HostPattern;
use ipnet::IpNet;
use queue::Transport;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn postgresql(url: &str) -> Option<SecretString> {
    let is_ours = url.starts_with("postgresql://") || url.starts_with("postgres://");
    url.parse::<sqlx::postgres::PgConnectOptions>().ok().filter(|_| is_ours).map(|_| url.into())
}

pub(super) fn networks(list: &str) -> Option<Vec<IpNet>> {
    words(list).map(|word| word.parse().ok()).collect()
}

/// A list without one would be none, and allow all.
pub(super) fn hosts(list: &str) -> Option<Vec<HostPattern>> {
    let hosts: Option<Vec<HostPattern>> = words(list).map(|word| word.parse().ok()).collect();
    hosts.filter(|hosts| !hosts.is_empty() || list.trim().is_empty())
}

/// Of at least 32 characters each; none is none.
pub(super) fn secrets(list: &str) -> Option<Vec<SecretString>> {
    words(list).map(|word| (word.len() >= 32).then(|| word.into())).collect()
}

pub(super) fn lanes(list: &str) -> Option<BTreeMap<String, Lane>> {
    let mut named = BTreeSet::new();
    words(list)
        .map(|word| {
            let (lane, size) = word.split_once('=')?;
            let (size, transport) = match size.split_once('@') {
                Some((size, transport)) => (size, transport.trim().parse().ok()?),
                None => (size, Transport::Postgres),
            };
            let size: usize = size.trim().parse().ok().filter(|n| (1..=1000).contains(n))?;
            let lane = actions::jobs::lane::ALL.into_iter().find(|known| *known == lane.trim())?;
            named.insert(lane).then(|| (lane.to_owned(), Lane { size, transport }))
        })
        .collect()
}

/// `name@host`, or `Name <name@host>`, on one line.
pub(super) fn is_sender(text: &str) -> bool {
    let address = match text.trim().strip_suffix('>').map(|rest| rest.rsplit_once('<')) {
        Some(Some((_, address))) => address,
        Some(None) => return false,
        None => text,
    };
    !text.contains(char::is_control) && domain::EmailAddress::parse(address).is_ok()
}

/// A word alone is a level: as a target it would switch everything else off without a word.
pub(super) fn is_filter(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| levels.iter().any(|level| word.eq_ignore_ascii_case(level));
    text.contains('[')
        || words(text).all(|word| match word.rsplit_once('=') {
            Some((_, level)) => is_level(level),
            None => is_level(word),
        })
}

pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}
