//! `relaydesk audit …`

use super::Json;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find whatever was changed, removed or put in; exit code 1 if anything was
    #[command(
        after_help = "Example: relaydesk audit verify --head heads.ndjson\nExample: relaydesk audit verify --file acme.ndjson"
    )]
    Verify {
        /// Only the log of this organization: its slug, or its id
        #[arg(long, value_name = "SLUG")]
        organization: Option<String>,
        /// What `relaydesk audit head` printed earlier: the chains must go on from there
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// An export in place of the database
        #[arg(long, value_name = "FILE", conflicts_with = "organization")]
        file: Option<PathBuf>,
        #[command(flatten)]
        output: Json,
    },
    /// Where the chains end now, one line of JSON for each organization: keep it elsewhere, and write-once
    #[command(after_help = "Example: relaydesk audit head >> /mnt/worm/heads.ndjson")]
    Head {
        #[arg(long, value_name = "SLUG")]
        organization: Option<String>,
    },
    /// Write the whole log of an organization to standard output, as lines of JSON that can be verified without a database
    #[command(after_help = "Example: relaydesk audit export --organization acme > acme.ndjson")]
    Export {
        /// Its slug, or the id of one that is gone
        #[arg(long, value_name = "SLUG")]
        organization: String,
    },
}
