//! The command: servers, report, exit code.

use anyhow::Context;
use clap::Args;

use super::{AuditOptions, audit};
use crate::ops::servers::ServerOptions;
use crate::ops::terminal::{print, print_json};

/// Proves that nothing is lost, or names what does not balance.
///
/// Looks at one moment: packets answered 202 are stored (with --ledger), every call is in exactly
/// one bucket, timelines are whole, attempts and transcripts fit, the outbox is drained, dead letters
/// match their calls and their messages. Ends with 1 when anything does not balance. It changes
/// nothing and may run beside a busy fleet.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  callfleet audit\n  callfleet simulate --ledger run.ndjson && callfleet audit --wait 2m --ledger run.ndjson\n  callfleet audit --json | jq '.checks[] | select(.count > 0)'"
)]
pub struct Options {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub audit: AuditOptions,
    /// Look at the database alone: the dead-letter stream goes unchecked
    #[arg(long)]
    pub without_nats: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub servers: ServerOptions,
}

/// Prints the report; whether everything balances.
///
/// # Errors
/// When the database or NATS is away, or the ledger cannot be read.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let store = options.servers.store("audit").await?;
    let broker = if options.without_nats {
        None
    } else {
        let hint = "NATS cannot be asked (--without-nats audits the database alone)";
        Some(options.servers.broker("audit").await.context(hint)?)
    };
    let report = audit(&store, broker.as_ref(), &options.audit).await?;
    if options.json {
        print_json(&report)?;
    } else {
        print(&report.to_string())?;
    }
    Ok(report.balanced())
}
