//! Slowing down those who guess, without shutting out those who know.
//!
//! A login is counted against the account *from this network* and against the network; the account alone is never blocked, so whoever tries
//! ten thousand passwords of somebody keeps themselves out, and not the owner (docs/adr/0105-nobody-is-locked-out-by-others.md). What is asked
//! with neither a right nor a wrong answer (mails, codes) has a number per time.

use crate::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{EmailAddress, UserId};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use store::throttles::{self, Backoff};
use store::{Db, Tx};

const OF_ACCOUNT: Backoff =
    Backoff { free: 5.0, leak: TimeDelta::minutes(3), longest: TimeDelta::minutes(15) };
/// Behind one address there may be a whole office.
const OF_NETWORK: Backoff =
    Backoff { free: 100.0, leak: TimeDelta::seconds(6), longest: TimeDelta::minutes(15) };
/// Of codes of a second factor, by whom has the password already.
const CODES: (i32, TimeDelta) = (5, TimeDelta::minutes(15));
/// Mails with a link for a new password, to one address.
const MAILS: (i32, TimeDelta) = (3, TimeDelta::hours(1));
const RESETS_OF_NETWORK: (i32, TimeDelta) = (30, TimeDelta::hours(1));
/// From which age on a key that nobody has touched says nothing any more.
pub const FORGOTTEN: TimeDelta = TimeDelta::hours(2);

/// A login that was counted. It counts as failed until it [`succeeded`](Counted::succeeded).
#[derive(Debug)]
pub struct Counted {
    account: String,
    network: String,
}

/// Before the password is looked at. `account`: what was typed, whether there is somebody or not.
pub async fn login(db: &Db, account: &str, address: Option<&str>) -> Result<Counted> {
    let network = network(address);
    let counted = Counted {
        account: key("account", &[&account.trim().to_lowercase(), &network]),
        network: key("network", &[&network]),
    };
    let mut tx = db.begin_system().await?;
    for (key, backoff) in [(&counted.account, OF_ACCOUNT), (&counted.network, OF_NETWORK)] {
        if let Some(until) = throttles::take(&mut tx, key, backoff).await? {
            return Err(slow_down(until, tx.now()));
        }
    }
    tx.commit().await?;
    Ok(counted)
}

/// Before somebody is sent to an identity provider. Who comes back as somebody has it [forgiven](signed_in).
pub(crate) async fn sign_in(db: &Db, address: Option<&str>) -> Result<()> {
    let mut tx = db.begin_system().await?;
    let key = key("network", &[&network(address)]);
    if let Some(until) = throttles::take(&mut tx, &key, OF_NETWORK).await? {
        return Err(slow_down(until, tx.now()));
    }
    Ok(tx.commit().await?)
}

pub(crate) async fn signed_in(db: &Db, address: Option<&str>) -> Result<()> {
    let mut tx = db.begin_system().await?;
    throttles::forgive(&mut tx, &key("network", &[&network(address)]), OF_NETWORK).await?;
    Ok(tx.commit().await?)
}

impl Counted {
    pub async fn succeeded(self, db: &Db) -> Result<()> {
        let mut tx = db.begin_system().await?;
        throttles::clear(&mut tx, &self.account).await?;
        throttles::forgive(&mut tx, &self.network, OF_NETWORK).await?;
        Ok(tx.commit().await?)
    }
}

/// Before a person who is logged in shows their password again: who has only got hold of a token must not find it out.
pub async fn confirmation(db: &Db, user: UserId) -> Result<()> {
    let mut tx = db.begin_system().await?;
    if let Some(until) =
        throttles::take(&mut tx, &key("confirmation", &[&user.to_string()]), OF_ACCOUNT).await?
    {
        return Err(slow_down(until, tx.now()));
    }
    Ok(tx.commit().await?)
}

pub async fn confirmed(db: &Db, user: UserId) -> Result<()> {
    let mut tx = db.begin_system().await?;
    throttles::clear(&mut tx, &key("confirmation", &[&user.to_string()])).await?;
    Ok(tx.commit().await?)
}

/// Before a code of a second factor is looked at.
pub async fn code(db: &Db, user: UserId) -> Result<()> {
    within(db, &key("code", &[&user.to_string()]), CODES).await
}

pub async fn code_was_right(db: &Db, user: UserId) -> Result<()> {
    let mut tx = db.begin_system().await?;
    throttles::clear(&mut tx, &key("code", &[&user.to_string()])).await?;
    Ok(tx.commit().await?)
}

/// Before somebody is taken at their word that they forgot a password.
pub(crate) async fn reset(tx: &mut Tx, address: Option<&str>) -> Result<()> {
    let (most, time) = RESETS_OF_NETWORK;
    let key = key("resets", &[&network(address)]);
    match throttles::take_within(tx, &key, most, time).await? {
        None => Ok(()),
        Some(until) => Err(slow_down(until, tx.now())),
    }
}

/// Whether another mail with a link may go to this address.
pub async fn reset_mail(db: &Db, email: &EmailAddress) -> Result<bool> {
    let (most, time) = MAILS;
    let mut tx = db.begin_system().await?;
    let held_back = throttles::take_within(&mut tx, &key("mails", &[email.as_str()]), most, time).await?;
    tx.commit().await?;
    Ok(held_back.is_none())
}

async fn within(db: &Db, key: &str, (most, time): (i32, TimeDelta)) -> Result<()> {
    let mut tx = db.begin_system().await?;
    if let Some(until) = throttles::take_within(&mut tx, key, most, time).await? {
        return Err(slow_down(until, tx.now()));
    }
    Ok(tx.commit().await?)
}

fn slow_down(until: DateTime<Utc>, now: DateTime<Utc>) -> Error {
    let seconds = u32::try_from((until - now).num_milliseconds().max(0) / 1000 + 1).unwrap_or(u32::MAX);
    Error::TooMany { detail: format!("too many attempts: wait {seconds} s"), seconds }
}

/// A hash, so that no table of addresses that were typed comes about.
fn key(kind: &str, parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    format!("{kind}:{}", hex::encode(digest.finalize()))
}

/// Whom an address belongs to: of IPv6 a customer gets (at least) 64 bits to choose from.
fn network(address: Option<&str>) -> String {
    match address.and_then(|address| address.parse::<IpAddr>().ok()).map(|address| address.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_its_network() {
        for (address, expected) in [
            (Some("192.0.2.7"), "192.0.2.7"),
            (Some("::ffff:192.0.2.7"), "192.0.2.7"),
            (Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
            (Some("2001:db8:1:2::1"), "2001:db8:1:2::/64"),
            (Some("nonsense"), "unknown"),
            (None, "unknown"),
        ] {
            assert_eq!(network(address), expected);
        }
    }

    #[test]
    fn keys_do_not_run_into_each_other() {
        assert_ne!(key("account", &["ab", "c"]), key("account", &["a", "bc"]));
        assert!(!key("account", &["ada@acme.example"]).contains("ada"));
    }
}
