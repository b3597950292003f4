//! Logs and metrics of a process.

use std::sync::OnceLock;

use anyhow::Context;
use clap::{Args, ValueEnum};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Seconds, for every latency histogram: from half a millisecond to two minutes.
const LATENCY_BUCKETS_S: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Libraries that repeat what we log ourselves; a filter that names them has its way.
const QUIET: &str = "async_nats=warn,sqlx_core::pool=off";

/// How a process logs.
#[derive(Args, Clone, Debug)]
pub struct LogOptions {
    /// What to log: a level, or levels by part, such as `info,callfleet::ingest=debug`
    #[arg(long = "log", env = "CALLFLEET_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub filter: String,
    /// How log lines look
    #[arg(
        long = "log-format",
        env = "CALLFLEET_LOG_FORMAT",
        default_value = "pretty",
        value_name = "FORMAT",
        global = true
    )]
    pub format: LogFormat,
}

/// The two looks of a log line.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    Pretty,
    /// One JSON object a line, for machines
    Json,
}

/// Starts logging to standard error and collecting metrics; once a process.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(options: &LogOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", options.filter)).with_context(|| {
        format!("CALLFLEET_LOG `{}` is not a log filter: write info, debug or info,callfleet::ai=debug", options.filter)
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match options.format {
        LogFormat::Pretty => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("logging could not start")?;
    install_metrics()
}

/// Starts collecting metrics; a second call changes nothing.
///
/// # Errors
/// When another recorder was installed first.
pub fn install_metrics() -> anyhow::Result<()> {
    if METRICS.get().is_some() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS_S)
        .context("latency buckets")?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok().context("another metrics recorder is installed")?;
    METRICS.get_or_init(|| handle);
    Ok(())
}

/// All metrics in the Prometheus text format; empty before [`start`].
#[must_use]
pub fn render_metrics() -> String {
    METRICS
        .get()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}
