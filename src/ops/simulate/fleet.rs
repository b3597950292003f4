//! The fleet's own audit after the run, where its servers are known.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::Options;
use crate::ops::audit::{self, AuditOptions, Report};
use crate::ops::target::known;

/// Time for the last announcements of calls that are done.
const SETTLE: Duration = Duration::from_secs(10);

/// What the fleet's audit came to.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum FleetAudit {
    /// It was made.
    Made(Box<Report>),
    /// It could not be asked for.
    Skipped {
        /// Why, and how to have it made.
        skipped: &'static str,
    },
}

impl FleetAudit {
    pub(super) fn is_balanced(&self) -> bool {
        match self {
            Self::Made(report) => report.balanced(),
            Self::Skipped { .. } => true,
        }
    }
}

/// Audits the fleet behind `url`, ledger included.
///
/// # Errors
/// When its servers are known and do not answer.
pub(super) async fn audit(options: &Options, url: &str) -> anyhow::Result<FleetAudit> {
    let servers = &options.servers;
    if !servers.are_known()? {
        return Ok(FleetAudit::Skipped { skipped: "give --database-url and --nats-url to have everything audited" });
    }
    let written = known(None, "CALLFLEET_URL", &servers.data_dir)?;
    let is_its_own = servers.database_url.is_some() || written.is_some_and(|of| of.trim_end_matches('/') == url);
    if !is_its_own {
        return Ok(FleetAudit::Skipped { skipped: "the servers in the data folder are not those of --url" });
    }
    let hint = "the fleet could not be audited";
    let store = servers.store("simulate").await.context(hint)?;
    let broker = servers.broker("simulate").await.context(hint)?;
    let asked = AuditOptions { wait: SETTLE, ledger: options.ledger.clone(), ..AuditOptions::default() };
    Ok(FleetAudit::Made(Box::new(audit::audit(&store, Some(&broker), &asked).await?)))
}

impl fmt::Display for FleetAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(report) => write!(f, "\naudit of the fleet {report}"),
            Self::Skipped { skipped } => writeln!(f, "- audit of the fleet skipped: {skipped}"),
        }
    }
}
