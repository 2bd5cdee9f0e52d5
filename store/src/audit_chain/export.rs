//! A log as lines of JSON (NDJSON) that can be verified without a database: seals, each followed by its entries.

use super::{Anchor, Digest, Head, Raw, Report, Seal, Step, Verifier, hex_of, walk};
use crate::{Db, Error, Result};
use domain::OrganizationId;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, BufRead, Write};

const FORMAT: &str = "relaydesk.audit.1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first.
    Log { format: String, organization: OrganizationId, anchor: Option<AnchorLine> },
    /// Its entries follow.
    Seal { position: i64, previous: String, hash: String, entries: Vec<i64>, digests: Vec<String> },
    /// Boxed: the others are small.
    Entry(Box<EntryLine>),
    /// The last, so that a file that broke off is known for one.
    End { entries: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorLine {
    position: i64,
    last_seq: i64,
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct EntryLine {
    /// Without a seal yet.
    #[serde(default)]
    unsealed: bool,
    #[serde(flatten)]
    entry: Raw,
}

fn digest(text: &str) -> Digest {
    hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or([0xff; 32])
}

/// Writes the log of an organization; answers how many entries.
pub async fn export(db: &Db, organization: OrganizationId, out: &mut impl Write) -> Result<u64> {
    let mut entries = 0;
    let write = |out: &mut dyn Write, line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    };
    let mut entry = |entry: Raw, unsealed| {
        entries += 1;
        Line::Entry(Box::new(EntryLine { unsealed, entry }))
    };
    walk(db, organization, |step| match step {
        Step::Begin(anchor) => {
            let anchor = anchor.map(|anchor| AnchorLine {
                position: anchor.position,
                last_seq: anchor.last_seq,
                hash: hex_of(&anchor.hash),
            });
            write(out, &Line::Log { format: FORMAT.to_owned(), organization, anchor })
        }
        Step::Seal(seal, queue) => {
            let line = Line::Seal {
                position: seal.position,
                previous: hex_of(&seal.previous),
                hash: hex_of(&seal.hash),
                entries: seal.seqs.clone(),
                digests: seal.digests.iter().map(hex_of).collect(),
            };
            write(out, &line)?;
            let last = seal.seqs.last().copied().unwrap_or(i64::MIN);
            while let Some(next) = queue.pop_front_if(|entry| entry.seq <= last) {
                write(out, &entry(next, false))?;
            }
            Ok(())
        }
        Step::LeftOver(left) => write(out, &entry(left.clone(), false)),
        Step::Unsealed(rest) => write(out, &entry(rest.clone(), true)),
    })
    .await?;
    write(out, &Line::End { entries })?;
    out.flush()?;
    Ok(entries)
}

/// Verifies what [`export`] wrote.
pub fn verify_export(file: impl BufRead, expected: Option<&Head>) -> Result<Report> {
    let broken = |why: &str| Error::Corrupt(format!("this is no export of an audit log: {why}"));
    let mut lines = file.lines().map(|line| -> Result<Line> {
        serde_json::from_str(&line?).map_err(|error| broken(&error.to_string()))
    });
    let Some(Line::Log { format, organization, anchor }) = lines.next().transpose()? else {
        return Err(broken("it does not begin with the log"));
    };
    if format != FORMAT {
        return Err(broken(&format!("its format is {format}")));
    }
    let mut verifier =
        Verifier::new(organization, expected.filter(|head| head.organization == organization).cloned());
    let anchor = anchor.map(|a| Anchor { position: a.position, last_seq: a.last_seq, hash: digest(&a.hash) });
    verifier.take(Step::Begin(anchor.as_ref()));
    let (mut current, mut queue, mut ended, mut read) = (None::<Seal>, VecDeque::new(), None, 0);
    for line in lines {
        match line? {
            Line::Log { .. } => return Err(broken("it begins twice")),
            Line::Seal { position, previous, hash, entries, digests } => {
                close(&mut verifier, current.take(), &mut queue);
                let digests = digests.iter().map(|text| digest(text)).collect();
                let (previous, hash) = (digest(&previous), digest(&hash));
                current = Some(Seal { position, seqs: entries, digests, previous, hash });
            }
            Line::Entry(line) => {
                read += 1;
                if line.unsealed {
                    close(&mut verifier, current.take(), &mut queue);
                    verifier.take(Step::Unsealed(&line.entry));
                } else {
                    queue.push_back(line.entry);
                }
            }
            Line::End { entries } => ended = Some(entries),
        }
    }
    close(&mut verifier, current, &mut queue);
    if ended != Some(read) {
        return Err(broken("it is not whole: the last line is missing, or lines are"));
    }
    Ok(verifier.finish())
}

fn close(verifier: &mut Verifier, seal: Option<Seal>, queue: &mut VecDeque<Raw>) {
    if let Some(seal) = seal {
        verifier.take(Step::Seal(&seal, queue));
    }
    for entry in queue.drain(..) {
        verifier.take(Step::LeftOver(&entry));
    }
}
