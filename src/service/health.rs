//! `/healthz`, `/readyz` and `/metrics`: alive, making progress, and how much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::telemetry;

/// What a process knows of its own progress: one entry a part, each fine or failing with a reason.
///
/// Parts report themselves; `/readyz` is red while any of them fails, and once the process is asked to
/// end, so that nobody is sent here any more. A clone is the same registry.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ending: CancellationToken,
    parts: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Health {
    /// A registry with no parts, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Health::new`], for a process that `shutdown` ends.
    #[must_use]
    pub fn until(shutdown: CancellationToken) -> Self {
        Self { ending: shutdown, ..Self::default() }
    }

    /// Records that `part` makes progress.
    pub fn ok(&self, part: &'static str) {
        let before = self.set(part, Ok(()));
        if matches!(before, Some(Err(_))) {
            tracing::info!(part, "ready again");
        }
    }

    /// Records that `part` makes none, and why; the reason is shown to whoever asks `/readyz`.
    pub fn failing(&self, part: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        let before = self.set(part, Err(reason.clone()));
        if !matches!(before, Some(Err(_))) {
            tracing::warn!(part, reason, "not ready");
        }
    }

    /// The parts that fail now, with their reasons.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<&'static str, String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|(part, state)| state.as_ref().err().map(|reason| (*part, reason.clone()))).collect()
    }

    /// `/healthz`, `/readyz` and `/metrics` over this registry.
    pub fn router(&self) -> Router {
        let health = self.clone();
        Router::new()
            .route("/healthz", get(|| async { Json(json!({ "alive": true })) }))
            .route("/readyz", get(move || async move { health.readiness() }))
            .route("/metrics", get(|| async { telemetry::render_metrics() }))
    }

    fn readiness(&self) -> impl IntoResponse + use<> {
        let mut failures = self.failures();
        if self.ending.is_cancelled() {
            failures.insert("process", "it is about to end".to_owned());
        }
        let status = if failures.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(json!({ "ready": failures.is_empty(), "failing": failures })))
    }

    fn set(&self, part: &'static str, state: Result<(), String>) -> Option<Result<(), String>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, state)
    }
}
