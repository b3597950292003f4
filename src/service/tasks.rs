//! Named tasks that may not die unnoticed.

use std::future::Future;

use anyhow::{Context, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The long-lived tasks of one role. Whichever ends first, unasked, ends the role with an error.
#[derive(Debug)]
pub struct Tasks {
    shutdown: CancellationToken,
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Tasks {
    /// An empty set whose tasks are told to stop by `shutdown`.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, set: JoinSet::new() }
    }

    /// The token that tells these tasks to stop.
    #[must_use]
    pub const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Starts `task` under `name`; it must end once the shutdown token is cancelled, and not before.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// Waits until all tasks have ended.
    ///
    /// # Errors
    /// The first failure: an error, a panic, or an end that nobody asked for. The other tasks are
    /// told to stop and waited for.
    pub async fn join(mut self) -> anyhow::Result<()> {
        let mut first_failure = None;
        while let Some(ended) = self.set.join_next().await {
            let failure = match ended {
                Err(panic) => Some(anyhow!(panic).context("a task panicked")),
                Ok((name, Err(error))) => Some(error.context(format!("{name} failed"))),
                Ok((name, Ok(()))) if !self.shutdown.is_cancelled() => Some(anyhow!("{name} ended unasked")),
                Ok(_) => None,
            };
            if let Some(failure) = failure {
                self.shutdown.cancel();
                first_failure.get_or_insert(failure);
            }
        }
        first_failure.map_or(Ok(()), Err).context("a part of this process died")
    }
}
