//! Heads of chains, to be kept where the owner of the database cannot reach them; signed if the installation has a key for it.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use store::audit_chain::Head;

/// A head as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHead {
    #[serde(flatten)]
    pub head: Head,
    /// HMAC-SHA-256, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    #[error("the head of {0} has no signature, and RELAYDESK_AUDIT_KEY is set")]
    Missing(domain::OrganizationId),
    #[error("the head of {0} was not signed with RELAYDESK_AUDIT_KEY, or changed since")]
    Wrong(domain::OrganizationId),
}

fn mac(head: &Head, key: &SecretString) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).expect("a key of any length");
    mac.update(
        format!("relaydesk.audit.head.1 {} {} {}", head.organization, head.position, head.hash).as_bytes(),
    );
    mac
}

pub fn keep(head: Head, key: Option<&SecretString>) -> KeptHead {
    let signature = key.map(|key| hex::encode(mac(&head, key).finalize().into_bytes()));
    KeptHead { head, signature }
}

/// With a key, only what was signed with it is believed.
pub fn check(kept: KeptHead, key: Option<&SecretString>) -> Result<Head, Unsigned> {
    let Some(key) = key else { return Ok(kept.head) };
    let organization = kept.head.organization;
    let signature = kept.signature.ok_or(Unsigned::Missing(organization))?;
    let signature = hex::decode(signature).map_err(|_| Unsigned::Wrong(organization))?;
    mac(&kept.head, key).verify_slice(&signature).map_err(|_| Unsigned::Wrong(organization))?;
    Ok(kept.head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_with_the_key_is_believed() {
        let head = Head { organization: domain::OrganizationId::new(), position: 7, hash: "ab".repeat(32) };
        let (key, other): (SecretString, SecretString) = ("k".repeat(32).into(), "o".repeat(32).into());
        let kept = keep(head.clone(), Some(&key));
        assert_eq!(check(kept.clone(), Some(&key)), Ok(head.clone()));
        assert_eq!(check(kept.clone(), Some(&other)), Err(Unsigned::Wrong(head.organization)));
        assert_eq!(check(keep(head.clone(), None), Some(&key)), Err(Unsigned::Missing(head.organization)));
        let later = KeptHead { head: Head { position: 8, ..head.clone() }, ..kept.clone() };
        assert_eq!(check(later, Some(&key)), Err(Unsigned::Wrong(head.organization)));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<KeptHead>(&text).unwrap(), kept);
    }
}
