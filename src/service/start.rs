//! From `main` to a role and back: runtime, signals, deadline, exit code.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::telemetry::{self, LogOptions};

/// Time between SIGTERM and giving up on a clean end; under the 30 s that orchestrators allow.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Runs `role` on a fresh runtime until it ends or a signal ends it; says why it failed.
///
/// SIGTERM and Ctrl-C cancel the token; a second signal ends the process at once.
pub fn main<F>(log: &LogOptions, role: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let ended = telemetry::start(log).and_then(|()| block_on(role));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!(?error, "ended with an error");
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<F>(role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(until_signal(SHUTDOWN_DEADLINE, role));
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// Runs `role`, cancels its token on the first SIGTERM or Ctrl-C, and gives it `deadline` to end.
///
/// # Errors
/// The role's own, or that it did not end in time, or that a second signal came.
pub async fn until_signal<F>(deadline: Duration, role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT handler")?;
    let shutdown = CancellationToken::new();
    let role = role(shutdown.clone());
    tokio::pin!(role);
    tokio::select! {
        ended = &mut role => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    shutdown.cancel();
    tokio::select! {
        ended = &mut role => ended,
        () = tokio::time::sleep(deadline) => bail!("did not stop within {} s", deadline.as_secs()),
        _ = terminate.recv() => bail!("stopped at once by a second signal"),
        _ = interrupt.recv() => bail!("stopped at once by a second signal"),
    }
}
