//! `relaydesk kinds list|keep`

use crate::cli::KindsCommand;
use crate::say;
use anyhow::bail;
use queue::admin;
use queue::{Keep, Retention};
use store::Db;

const DAY: u64 = 86_400;

pub async fn run(command: &KindsCommand, db: &Db, keep: &Keep) -> anyhow::Result<()> {
    let mut tx = db.begin_system().await?;
    let kinds = admin::kinds(&mut tx).await?;
    match command {
        KindsCommand::List(output) if output.json => say!("{}", serde_json::to_string_pretty(&kinds)?),
        KindsCommand::List(_) => {
            say!("{:32} {:>10} {:>10} {:>8}", "kind", "declared", "in force", "days");
            for kind in &kinds {
                let days = match kind.in_force() {
                    Retention::None => 0,
                    Retention::Short => keep.short.as_secs() / DAY,
                    Retention::Normal => keep.normal.as_secs() / DAY,
                    Retention::Long => keep.long.as_secs() / DAY,
                };
                say!("{:32} {:>10} {:>10} {days:>8}", kind.name, kind.retention, kind.in_force());
            }
        }
        KindsCommand::Keep { kind, retention } => {
            if !admin::set_retention(&mut tx, kind, retention.0).await? {
                let names: Vec<_> = kinds.iter().map(|kind| kind.name.as_str()).collect();
                bail!(
                    "{kind:?} is no kind that a worker has made known: expected one of {}",
                    names.join(", ")
                );
            }
            tx.commit().await?;
            match retention.0 {
                Some(retention) => say!("what {kind} jobs leave is kept {retention} from now on"),
                None => say!("what {kind} jobs leave is kept as the program declares from now on"),
            }
        }
    }
    Ok(())
}
