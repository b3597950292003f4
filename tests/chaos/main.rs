//! The fault suite: breaks a running fleet of the real programs in every way its design names, and
//! proves from a ledger of its own, plain SQL and the streams that nothing is lost. `scripts/chaos`
//! runs it.
//!
//! A run is a plan of rounds, which follows from the seed. Each round sends load, injects one fault,
//! heals it, measures the recovery, lets everything come to its end and checks. Nothing of the product
//! is asked whether all is well, except by the audit at the end.

mod ai;
mod checks;
mod disk;
mod faults;
mod findings;
mod folder;
mod http;
mod jetstream;
mod ledger;
mod load;
mod nats;
mod options;
mod plan;
mod ports;
mod postgres;
mod processes;
mod proxy;
mod report;
mod roles;
mod round;
mod run;
mod scene;
mod script;
mod stack;
mod stop;
mod supervisor;
mod tally;
mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;
use crate::run::Verdict;

/// The product failed.
const FAILED: u8 = 1;
/// The suite itself could not run.
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        report::list();
        return ExitCode::SUCCESS;
    }
    // Whatever happens, the stack of calls is unwound, and with it every process ended.
    match catch_unwind(AssertUnwindSafe(|| block_on(&options))) {
        Ok(Ok(Verdict::Held)) => ExitCode::SUCCESS,
        Ok(Ok(Verdict::Failed)) => ExitCode::from(FAILED),
        Ok(Err(error)) => {
            eprintln!("error: the suite could not run: {error:#}");
            ExitCode::from(NOT_RUN)
        }
        Err(_panic) => {
            eprintln!("error: the suite itself is broken");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn block_on(options: &Options) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(until_signal(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn until_signal(options: &Options) -> anyhow::Result<Verdict> {
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT handler")?;
    tokio::select! {
        ended = run::run(options) => ended,
        _ = terminate.recv() => bail!("stopped by SIGTERM"),
        _ = interrupt.recv() => bail!("stopped by Ctrl-C"),
    }
}
