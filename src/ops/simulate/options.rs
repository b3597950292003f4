//! What a run is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::ops::servers::ServerOptions;
use crate::ops::target::ApiOptions;
use crate::service::duration;

/// Sends made-up calls like a PBX would, waits until all are done, and checks that nothing is lost.
///
/// It first plays four small scenes (copies, equal instants, 50 requests at once, changes at once),
/// then the load, and then audits: what was answered against what the API shows, and, where the
/// fleet's PostgreSQL and NATS are known, everything that `callfleet audit` looks at. It ends with 1
/// when anything does not balance.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Calls to make
    #[arg(long, default_value = "200", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub calls: u32,
    /// Packets of each call; the last one carries the end signal
    #[arg(long, default_value = "20", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub packets: u32,
    /// Packets a second over all calls [default: as fast as the answers come]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Connections; a call stays on one of them, so that its packets keep their order
    #[arg(long, default_value = "50", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Send the packets of a call out of order
    #[arg(long)]
    pub shuffle: bool,
    /// Share of packets that are sent twice
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = share)]
    pub duplicates: f64,
    /// Share of packets that are never sent; the last of a call always is
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = share)]
    pub drops: f64,
    /// Packets sent together in one request, 1 for single packets
    #[arg(long, default_value = "1", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub batch: u32,
    /// Tell mock-ai to fail this share of its requests (it keeps doing so afterwards)
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub ai_failure_rate: Option<f64>,
    /// Seed of drops, copies, order and words
    #[arg(long, default_value = "1", value_name = "NUMBER")]
    pub seed: u64,
    /// What call ids begin with [default: made from the seed and the time]
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    pub prefix: Option<String>,
    /// Append a line for every 202 to this file, before it counts
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Leave the four scenes out
    #[arg(long)]
    pub skip_scenarios: bool,
    /// How long to wait for calls of which none moves
    #[arg(long, default_value = "3m", value_name = "TIME", value_parser = duration::parse_positive)]
    pub wait: Duration,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the outcome as a page with charts
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub api: ApiOptions,
    /// The AI service
    #[arg(
        long,
        env = "AI_URL",
        value_name = "URL",
        help = "The AI service [default: what <DATA_DIR>/env says, else http://127.0.0.1:8001/v1/transcribe]"
    )]
    pub ai_url: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub servers: ServerOptions,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share: write a number from 0 to 1, such as 0.05"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is not a rate: write packets a second, such as 500"))
}

/// Leaves room for the number of a call within the 255 bytes of an id.
fn prefix(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.len()) && !text.contains('\0');
    if fits { Ok(text.to_owned()) } else { Err("takes 1 to 200 bytes".to_owned()) }
}
