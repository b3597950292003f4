//! Requests to JetStream's API, in its own JSON.

use async_nats::jetstream::context::RequestErrorKind;
use serde_json::Value;

use super::connect::Broker;

/// The server's code for a stream or consumer of that name with other settings.
const NAME_IN_USE: &[u64] = &[10_058, 10_148, 10_149];

/// Why a request to JetStream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no connection now.
    #[error("not connected to NATS")]
    Disconnected,
    /// No answer in time: an overloaded server, or a permission that is missing.
    #[error("JetStream did not answer {request} in time: is it overloaded, or the permission missing?")]
    TimedOut {
        /// What was asked.
        request: String,
    },
    /// Nobody answers JetStream requests.
    #[error("JetStream is not available on this server")]
    NoJetStream,
    /// The server said no.
    #[error("JetStream refuses {request}: {reason} ({code})")]
    Refused {
        /// What was asked.
        request: String,
        /// The server's text.
        reason: String,
        /// The HTTP-like status.
        status: u64,
        /// The server's own code.
        code: u64,
    },
    /// An answer that cannot be read, or a client that failed.
    #[error("JetStream request {request} failed: {reason}")]
    Other {
        /// What was asked.
        request: String,
        /// What happened.
        reason: String,
    },
}

impl ApiError {
    /// Whether what was asked about is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether it could not be created because it is there, with other settings.
    pub(super) fn is_name_in_use(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if NAME_IN_USE.contains(code))
    }

    pub(super) fn unreadable(request: &str, field: &str) -> Self {
        Self::Other { request: request.to_owned(), reason: format!("the answer has no {field}") }
    }
}

/// Sends `body` to `$JS.API.<request>` and takes the answer apart.
pub(super) async fn ask(broker: &Broker, request: &str, body: &Value) -> Result<Value, ApiError> {
    if !broker.is_connected() {
        return Err(ApiError::Disconnected);
    }
    let mut lost = broker.link();
    lost.mark_unchanged();
    let asked = broker.inner().jetstream.request::<_, _, Value>(request.to_owned(), body);
    let answer = tokio::select! {
        answer = asked => answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => ApiError::TimedOut { request: request.to_owned() },
            RequestErrorKind::NoResponders => ApiError::NoJetStream,
            _ => ApiError::Other { request: request.to_owned(), reason: error.to_string() },
        })?,
        _ = lost.changed() => return Err(ApiError::Disconnected),
    };
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let number = |field| error.get(field).and_then(Value::as_u64).unwrap_or_default();
    Err(ApiError::Refused {
        request: request.to_owned(),
        reason: error.get("description").and_then(Value::as_str).unwrap_or("no reason given").to_owned(),
        status: number("code"),
        code: number("err_code"),
    })
}
