//! `callfleet simulate`: a PBX full of made-up calls, and the proof that none of them got lost.
//!
//! Promises that a packet is counted once, after its 202 and after its line in the ledger; that what
//! may pass (429, 5xx, a lost connection) is sent again; and that the outcome says what does not
//! balance. Until the last call is done it sees no more of Callfleet than a PBX does. Lets out
//! [`Options`] and [`run`].

mod audit;
mod charts;
mod connection;
mod drain;
mod fleet;
mod ledger;
mod load;
mod options;
mod outcome;
mod pace;
mod path;
mod plan;
mod progress;
mod report;
mod scenes;
mod sender;
mod server;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use options::Options;

use connection::Address;
use ledger::Ledger;
use load::{Load, Sent, SentCall};
use outcome::{Outcome, Parts, Run};
use plan::Plan;
use progress::Progress;
use scenes::{Scene, Stage};
use server::Server;

use super::target::{ai_url, api_url};

/// How often the progress of the load is shown.
const TICK: Duration = Duration::from_millis(100);

/// Runs scenes, load, drain and audit, and prints the outcome; whether everything balances.
///
/// # Errors
/// When nobody answers, a packet cannot be delivered for minutes, a file cannot be written, or the
/// run is stopped.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<bool> {
    let started_at = Utc::now();
    let url = api_url(&options.api, &options.servers.data_dir)?;
    let address = Address::parse(&url)?;
    let server = Server::new(&url, ai_url(options.ai_url.as_deref(), &options.servers.data_dir)?)?;
    server.reachable().await?;
    if let Some(rate) = options.ai_failure_rate {
        server.set_ai_failure_rate(rate).await?;
    }
    let ledger = Arc::new(Ledger::open(options.ledger.as_deref())?);
    let report_file = options.report.as_deref().map(create_report).transpose()?;
    let plan = Plan::new(&options, started_at);
    let run = Run::new(&options, &plan.prefix, &url, started_at);

    let stage = Stage { server: &server, ledger: &ledger, prefix: &plan.prefix };
    let (scenarios, scene_calls) = tokio::select! {
        () = shutdown.cancelled() => bail!("stopped during the scenes"),
        played = play_scenes(&options, &stage) => played?,
    };
    let load = Arc::new(Load::new(&options, plan, address, ledger, shutdown.clone()));
    let (mut sent, load_time) = send(&load).await?;
    let drain_started_at = Instant::now();
    let calls = drain_calls(&options, &server, &mut sent, scene_calls, &shutdown).await;
    if shutdown.is_cancelled() {
        let answered = load.tally.accepted.load(Ordering::Relaxed) + load.tally.duplicates.load(Ordering::Relaxed);
        bail!("stopped after {answered} packets were answered 202: nothing was audited");
    }
    let audit = audit::audit(&calls, load.tally.refused.load(Ordering::Relaxed));
    let fleet = fleet::audit(&options, &url).await?;
    let timelines = match &report_file {
        Some(_) => drain::timelines(&server, &calls).await,
        None => Vec::new(),
    };
    let latency_us = sent.latency_us.clone();
    let drain_time = drain_started_at.elapsed();
    let outcome = Outcome::new(&load, Parts { run, scenarios, sent, load_time, drain_time, calls, audit, fleet })?;
    print(&if options.json { serde_json::to_string_pretty(&outcome)? + "\n" } else { outcome.to_string() })?;
    if let Some(mut file) = report_file {
        let page = report::page(&outcome, &latency_us, &timelines);
        file.write_all(page.as_bytes()).context("cannot write the report")?;
    }
    Ok(outcome.balanced)
}

/// Made before the load, so that a wrong path does not cost a run.
fn create_report(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write the report {}", path.display()))
}

async fn play_scenes(options: &Options, stage: &Stage<'_>) -> anyhow::Result<(Vec<Scene>, Vec<SentCall>)> {
    if options.skip_scenarios {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut printed = Ok(());
    let played = scenes::play(stage, |scene| {
        if !options.json && printed.is_ok() {
            printed = print(&format!("{scene}\n"));
        }
    });
    let played = played.await;
    printed.map(|()| played)
}

/// Sends the load, showing how far it is.
async fn send(load: &Arc<Load>) -> anyhow::Result<(Sent, Duration)> {
    let mut progress = Progress::start("sent", load.plan.expected_packets());
    let mut tick = tokio::time::interval(TICK);
    let mut running = pin!(Arc::clone(load).run());
    loop {
        tokio::select! {
            ended = &mut running => return ended,
            _ = tick.tick() => progress.at(load.tally.sent.load(Ordering::Relaxed)),
        }
    }
}

async fn drain_calls(
    options: &Options,
    server: &Server,
    sent: &mut Sent,
    scene_calls: Vec<SentCall>,
    stop: &CancellationToken,
) -> Vec<drain::SeenCall> {
    let mut calls = std::mem::take(&mut sent.calls);
    calls.extend(scene_calls);
    let mut progress = Progress::start("done", calls.len() as u64);
    drain::until_done(server, calls, options.wait, stop, |done| progress.at(done as u64)).await
}

/// Standard output may be a pipe whose reader left.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot print")
}

#[cfg(test)]
mod tests;
