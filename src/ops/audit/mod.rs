//! `callfleet audit`: the proof, from one moment, that everything balances.
//!
//! Promises that nothing is changed, that what is merely on its way (younger than the grace) is no
//! finding, and that what does not balance is named. Lets out [`audit`] for whoever wants the
//! [`Report`], and [`run`] for the command.

mod checks;
mod command;
mod ledger;
mod report;
mod settle;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

pub use command::{Options, run};
pub use report::{Check, LedgerTotals, Report};

use crate::broker::Broker;
use crate::service::duration::{parse, parse_positive};
use crate::store::Store;

/// What is looked at, and how.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct AuditOptions {
    /// Wait up to this long until calls that have ended are archived or dead and the outbox is empty; calls without an
    /// end signal are not waited for
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = parse)]
    pub wait: Duration,
    /// Compare with this file of every 202, as `callfleet simulate --ledger` writes it
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Messages younger than this are on their way, not left behind
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_positive)]
    pub grace: Duration,
    /// How many of each kind of finding to name
    #[arg(long, default_value = "20", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub findings: u32,
}

impl Default for AuditOptions {
    /// As nothing on the command line.
    fn default() -> Self {
        Self { wait: Duration::ZERO, ledger: None, grace: Duration::from_secs(10), findings: 20 }
    }
}

/// Waits as asked, then looks at everything as it was at one moment. Without a broker, the checks
/// that need one are skipped and say so.
///
/// # Errors
/// When the database or the broker is away, or the ledger cannot be read.
pub async fn audit(store: &Store, broker: Option<&Broker>, options: &AuditOptions) -> anyhow::Result<Report> {
    let on_their_way = settle::wait(store, options.wait).await?;
    let ledger = options.ledger.as_deref();
    let report = checks::take(store, broker, options, ledger).await.context("the audit could not be made")?;
    Ok(Report { on_their_way, ..report })
}
