//! What is hashed, byte for byte: docs/audit.md has it in words, `audit.digest` and `audit.seal` (migration 0090) in SQL. A verification works it out by
//! itself and believes no function of the database.

use super::Raw;
use domain::OrganizationId;
use sha2::{Digest as _, Sha256};
use std::fmt::{Display, Write as _};
use std::io::Write as _;

/// SHA-256
pub type Digest = [u8; 32];

pub fn hex_of(digest: &Digest) -> String {
    hex::encode(digest)
}

/// A list of texts, each with its length before it: no two lists look the same.
struct Fields(Vec<u8>);

impl Fields {
    fn of(kind: &str) -> Fields {
        let mut fields = Fields(Vec::with_capacity(512));
        fields.text(Some(kind));
        fields
    }

    fn text(&mut self, value: Option<&str>) -> &mut Self {
        // Writing to memory cannot fail.
        let _ = match value {
            Some(value) => write!(self.0, "{}:{value},", value.len()),
            None => write!(self.0, "-,"),
        };
        self
    }

    fn shown(&mut self, value: Option<impl Display>) -> &mut Self {
        let mut text = String::new();
        if let Some(value) = &value {
            let _ = write!(text, "{value}");
        }
        self.text(value.is_some().then_some(text.as_str()))
    }

    fn digest(&self) -> Digest {
        Sha256::digest(&self.0).into()
    }
}

/// Of the values, in hexadecimal; what is left of them after they were erased.
fn values_digest(entry: &Raw) -> String {
    if let Some(digest) = &entry.erased_digest {
        return digest.clone();
    }
    let mut fields = Fields::of("relaydesk.audit.values.1");
    hex_of(&fields.shown(entry.salt).text(entry.changes.as_deref()).digest())
}

pub fn entry_digest(organization: OrganizationId, entry: &Raw) -> Digest {
    let mut fields = Fields::of("relaydesk.audit.entry.1");
    fields
        .shown(Some(organization.0))
        .shown(Some(entry.seq))
        .shown(Some(entry.at))
        .text(Some(&entry.category))
        .text(Some(&entry.noun))
        .text(Some(&entry.verb))
        .shown(entry.object_id)
        .shown(entry.parent_id)
        .text(Some(&entry.actor_kind))
        .shown(entry.actor_id)
        .shown(entry.real_actor_id)
        .text(entry.actor_label.as_deref())
        .text(entry.address.as_deref())
        .text(entry.request_id.as_deref())
        .text(entry.trace_id.as_deref())
        .shown(entry.job_id)
        .text(Some(&values_digest(entry)))
        .digest()
}

pub fn seal_hash(
    organization: OrganizationId,
    position: i64,
    previous: &Digest,
    seqs: &[i64],
    digests: &[Digest],
) -> Digest {
    let list = seqs.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let all = digests.iter().fold(Sha256::new(), |hash, digest| hash.chain_update(digest)).finalize();
    let mut fields = Fields::of("relaydesk.audit.seal.1");
    fields
        .shown(Some(organization.0))
        .shown(Some(position))
        .text(Some(&hex::encode(previous)))
        .text(Some(&list))
        .text(Some(&hex::encode(all)))
        .digest()
}
