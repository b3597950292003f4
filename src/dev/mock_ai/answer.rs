//! The AI path: one request, and the way of answering that its fate and the mode ask for.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::control::Mode;
use super::job::Job;
use super::serve::Refused;
use super::state::{Fate, MockAi, Visit};

/// Time between two bytes of a dripped answer: any whole answer takes longer than a client waits.
const DRIP: Duration = Duration::from_millis(200);

/// `POST` to the AI path.
pub(super) async fn ask(State(mock): State<MockAi>, headers: HeaderMap, body: Bytes) -> Response {
    let key = headers.get("idempotency-key").map(HeaderValue::as_bytes);
    let visit = mock.arrive(key);
    match visit.fate {
        Fate::Fail => {
            tokio::time::sleep(visit.delay).await;
            error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the model crashed")
        }
        Fate::Answer(Mode::Outage) => error(StatusCode::SERVICE_UNAVAILABLE, "outage", "the service is down"),
        Fate::Answer(Mode::Unauthorized) => error(StatusCode::UNAUTHORIZED, "invalid_api_key", "the key is not valid"),
        Fate::Answer(Mode::RateLimit) => rate_limited(visit.retry_after_s),
        Fate::Answer(Mode::Refuse) => refused(),
        Fate::Answer(Mode::Hang) => {
            // A client that leaves drops this future, and the visit with it.
            mock.stopping().await;
            refused()
        }
        Fate::Answer(Mode::Garbage) => {
            tokio::time::sleep(visit.delay).await;
            garbage()
        }
        Fate::Answer(Mode::Drip) => read_job(&body).map_or_else(BadJob::into_response, |answer| drip(visit, &answer)),
        Fate::Answer(Mode::Normal) => {
            tokio::time::sleep(visit.delay).await;
            read_job(&body).map_or_else(BadJob::into_response, |answer| whole(visit, answer))
        }
    }
}

/// Why a job cannot be read.
enum BadJob {
    NotJson(serde_json::Error),
    WrongShape(serde_json::Error),
}

impl IntoResponse for BadJob {
    fn into_response(self) -> Response {
        match self {
            Self::NotJson(cause) => error(StatusCode::BAD_REQUEST, "not_json", &cause.to_string()),
            Self::WrongShape(cause) => error(StatusCode::UNPROCESSABLE_ENTITY, "bad_job", &cause.to_string()),
        }
    }
}

fn read_job(body: &[u8]) -> Result<Value, BadJob> {
    let body: Value = serde_json::from_slice(body).map_err(BadJob::NotJson)?;
    serde_json::from_value::<Job>(body).map(Job::transcribe).map_err(BadJob::WrongShape)
}

fn whole(mut visit: Visit, answer: Value) -> Response {
    visit.succeed();
    Json(answer).into_response()
}

/// The answer a byte at a time; a success once the last byte is handed over.
fn drip(visit: Visit, answer: &Value) -> Response {
    let bytes = Bytes::from(answer.to_string());
    let body = stream::unfold((visit, bytes), |(mut visit, mut bytes)| async move {
        if bytes.is_empty() {
            return None;
        }
        tokio::time::sleep(DRIP).await;
        let byte = bytes.split_to(1);
        if bytes.is_empty() {
            visit.succeed();
        }
        Some((Ok::<_, Infallible>(byte), (visit, bytes)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

/// JSON cut off in the middle, with bytes that are not UTF-8.
fn garbage() -> Response {
    let body: &'static [u8] = b"{\"transcript\": \"hello \xff\xfe\x00";
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn rate_limited(retry_after_s: u16) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    response
}

fn refused() -> Response {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "refused", "connection refused");
    response.extensions_mut().insert(Refused);
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}
