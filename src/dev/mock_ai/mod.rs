//! The AI service that fails: what `ai-worker` talks to where there is no real one.
//!
//! Promises the same failures for the same seed and the same order of requests, that whatever goes
//! wrong on the AI path, `/control` and `/stats` still answer, and that its memory is bounded.
//! Never keeps what it was sent. Lets out [`Options`], [`run`], and [`MockAi`] with [`router`] for
//! those who serve it themselves.

mod answer;
mod control;
mod job;
mod serve;
mod state;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::service::{duration, health::Health};
pub use control::{Control, Mode};
pub use state::{MockAi, Stats};

/// Largest job read: every packet of the largest call that ingest takes, escaped as JSON.
const MAX_JOB_BYTES: usize = 256 * 1024 * 1024;

/// How the service behaves when it starts; `PUT /control` changes it while it runs.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Share of requests answered 500, from 0 to 1
    #[arg(long, env = "CALLFLEET_FAILURE_RATE", default_value = "0.25", value_name = "SHARE", value_parser = control::parse_share)]
    pub failure_rate: f64,
    /// Time before each answer
    #[arg(long, env = "CALLFLEET_LATENCY", default_value = "50ms", value_name = "TIME", value_parser = duration::parse)]
    pub latency: Duration,
    /// How far the time before an answer strays from --latency, both ways
    #[arg(long, env = "CALLFLEET_JITTER", default_value = "0ms", value_name = "TIME", value_parser = duration::parse)]
    pub jitter: Duration,
    /// How requests are answered
    #[arg(long, env = "CALLFLEET_MODE", default_value = "normal", value_name = "MODE")]
    pub mode: Mode,
    /// What Retry-After says beside a 429
    #[arg(long, env = "CALLFLEET_RETRY_AFTER", default_value = "2s", value_name = "TIME", value_parser = duration::parse)]
    pub retry_after: Duration,
    /// Requests worked on at once; those over it are answered 429 (without it: any number)
    #[arg(long, env = "CALLFLEET_CAPACITY", value_name = "REQUESTS")]
    pub capacity: Option<u32>,
    /// How often each Idempotency-Key is answered 500 before it is served
    #[arg(long, env = "CALLFLEET_FAIL_FIRST", default_value = "0", value_name = "REQUESTS")]
    pub fail_first: u32,
    /// Seed of the failures: the same seed and the same requests fail alike
    #[arg(long, env = "CALLFLEET_SEED", default_value = "1", value_name = "NUMBER")]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let control = Control::default();
        Self {
            failure_rate: control.failure_rate,
            latency: Duration::from_millis(control.latency_ms),
            jitter: Duration::from_millis(control.jitter_ms),
            mode: control.mode,
            retry_after: Duration::from_secs(control.retry_after_s.into()),
            capacity: control.capacity,
            fail_first: control.fail_first,
            seed: 1,
        }
    }
}

/// Serves the AI service on `listener` until `shutdown`.
///
/// # Errors
/// When `options` are out of range.
pub async fn run(options: Options, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let state = MockAi::new(&options, shutdown.clone())?;
    serve::serve(listener, router(state), shutdown).await;
    Ok(())
}

/// The AI path (every POST that is not one of the others), `/control`, `/stats` and health.
///
/// Mode `refuse` needs [`run`], whose connections can be dropped: served by others it answers 503.
pub fn router(state: MockAi) -> Router {
    Router::new()
        .route("/control", get(control::show).put(control::change))
        .route("/stats", get(state::show))
        .fallback_service(post(answer::ask).layer(DefaultBodyLimit::max(MAX_JOB_BYTES)).with_state(state.clone()))
        .with_state(state)
        .merge(Health::new().router())
}

#[cfg(test)]
mod tests;
