//! A PBX that speaks to the doors without a socket.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

/// An answer: status, headers and JSON.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    /// The named field as text.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.json))
    }

    /// Asserts that this is a problem with that status, code and field.
    pub(crate) fn is_problem(&self, status: u16, code: &str, field: Option<&str>) {
        let kind = self.headers.get("content-type").and_then(|v| v.to_str().ok());
        assert_eq!((self.status.as_u16(), kind), (status, Some("application/problem+json")), "{}", self.json);
        assert_eq!((self.text("code"), self.json["field"].as_str()), (code, field), "{}", self.json);
        assert!(self.json["request_id"].is_string() && self.json["detail"].is_string());
    }
}

/// Sends a request and reads the answer.
pub(crate) async fn send(doors: &Router, request: Request<Body>) -> Answer {
    let response = doors.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
    Answer { status, headers, json }
}

/// Posts a body to a path.
pub(crate) async fn post(doors: &Router, path: &str, body: impl Into<Body>) -> Answer {
    send(doors, Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()).await
}

/// Reads a path.
pub(crate) async fn get(doors: &Router, path: &str) -> Answer {
    send(doors, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A call id as it stands in a path.
pub(crate) fn encoded(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Sends one packet with that sequence and text.
pub(crate) async fn packet(doors: &Router, call: &str, sequence: i64, data: &str) -> Answer {
    let body = serde_json::json!({"sequence": sequence, "data": data, "timestamp": 1_738_411_815.123});
    post(doors, &format!("/v1/call/stream/{}", encoded(call)), body.to_string()).await
}
