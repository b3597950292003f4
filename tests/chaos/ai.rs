//! The mock AI service, as the suite steers it and counts it.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::http::{self, Connection};
use crate::roles::Role;

const DEADLINE: Duration = Duration::from_secs(5);
/// Milliseconds that an answer takes, when nothing else is asked for.
const LATENCY_MS: u64 = 30;
/// Share of answers that are failures, when nothing else is asked for.
const FAILURE_RATE: f64 = 0.1;

/// The service and what it counted in former lives.
pub(crate) struct Ai {
    pub(crate) role: Role,
    requests_before: u64,
    successes_before: u64,
}

/// What it was asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) requests: u64,
    pub(crate) successes: u64,
}

impl Ai {
    pub(crate) const fn new(role: Role) -> Self {
        Self { role, requests_before: 0, successes_before: 0 }
    }

    /// How it behaves between faults.
    pub(crate) fn normal() -> Value {
        json!({
            "failure_rate": FAILURE_RATE, "latency_ms": LATENCY_MS, "jitter_ms": LATENCY_MS / 2,
            "mode": "normal", "capacity": null, "fail_first": 0,
        })
    }

    pub(crate) async fn control(&self, change: &Value) -> anyhow::Result<()> {
        let asked = Connection::new(self.role.port()).ask("PUT", "/control", &change.to_string(), DEADLINE).await;
        match asked {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => bail!("mock-ai refuses {change}: {}", String::from_utf8_lossy(&answer.body)),
            Err(lost) => bail!("mock-ai does not take {change}: {lost:?}"),
        }
    }

    /// Counted over all its lives; what came between the last look and a kill is not known.
    pub(crate) async fn stats(&self) -> anyhow::Result<Stats> {
        let asked = http::get(self.role.port(), "/stats", DEADLINE).await;
        let (_, stats) = asked.ok().context("mock-ai does not say what it counted")?;
        let count = |field: &str| stats.get(field).and_then(Value::as_u64).unwrap_or(0);
        Ok(Stats {
            requests: self.requests_before + count("requests"),
            successes: self.successes_before + count("successes"),
        })
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Ok(stats) = self.stats().await {
            (self.requests_before, self.successes_before) = (stats.requests, stats.successes);
        }
        self.role.kill().await
    }
}
