//! Errors as the caller sees them: problem+json (RFC 9457) with an id that is in the log.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// An error answer. 4xx is only ever "sending this again will not help" (429 apart).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status
    pub status: u16,
    /// What kind of error, for machines: `bad_field`, `unknown_call`, `overloaded` …
    pub code: &'static str,
    /// What is wrong and what to do, for people
    pub detail: String,
    /// The field at fault, for `bad_field`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// An id that the log line of this error carries too
    pub request_id: Uuid,
    #[serde(skip)]
    retry_after_s: Option<u16>,
}

impl Problem {
    /// An error with its status, its code for machines and its detail for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
            request_id: Uuid::new_v4(),
            retry_after_s: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Says after how many seconds to send again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let request_id = self.request_id;
        if status.is_server_error() {
            tracing::warn!(%request_id, status = self.status, code = self.code, detail = self.detail, "request failed");
        } else {
            tracing::info!(%request_id, status = self.status, code = self.code, "request refused");
        }
        metrics::counter!("callfleet_problems_total", "code" => self.code).increment(1);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
