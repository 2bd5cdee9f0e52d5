//! What the settings of the HTTP interface mean.

use super::values::words;
use api::{Forwarding, Rates};

pub(super) fn forwarding(name: &str) -> Option<Forwarding> {
    match name.trim().to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Some(Forwarding::XForwardedFor),
        "forwarded" => Some(Forwarding::Forwarded),
        _ => None,
    }
}

/// `token=6000,person=12000,organization=60000`: requests a minute.
pub(super) fn rates(list: &str) -> Option<Rates> {
    let mut rates = Rates::default();
    for word in words(list) {
        let (name, number) = word.split_once('=')?;
        let slot = match name.trim() {
            "token" => &mut rates.token,
            "person" => &mut rates.person,
            "organization" => &mut rates.organization,
            "address" => &mut rates.address,
            _ => return None,
        };
        let number = number.trim().parse().ok().filter(|number| (1..=10_000_000).contains(number))?;
        if slot.replace(number).is_some() {
            return None;
        }
    }
    Some(rates)
}
