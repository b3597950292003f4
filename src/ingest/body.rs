//! Bodies of requests: within their limits, in time, and unpacked.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;

use crate::service::problem::Problem;
use crate::wire::packet::BodyError;

/// Bytes in the longest body of a packet.
pub(super) const PACKET_MAX_BYTES: usize = 64 * 1024;
/// Bytes in the longest batch as it is sent.
pub(super) const BATCH_MAX_BYTES: usize = 1024 * 1024;
/// Bytes in the longest batch once it is unpacked.
pub(super) const UNPACKED_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Time in which a body has to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole body, at most `limit` bytes of it.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, limit)).await {
        Ok(read) => read,
        Err(_elapsed) => {
            let detail = format!("the body did not arrive within {} s: send it again", BODY_TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "body_too_slow", detail).retry_after(1))
        }
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut whole = Bytes::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "truncated_body", format!("the body ended early: {error}"))
        })?;
        if whole.len() + piece.len() > limit {
            return Err(too_large(limit));
        }
        // Nearly every body comes in one piece, which is taken as it is.
        whole = if whole.is_empty() { piece } else { [whole, piece].concat().into() };
    }
    Ok(whole)
}

/// Unpacks a body that says it is gzip, to at most [`UNPACKED_MAX_BYTES`].
pub(super) fn unpack(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Problem> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
    if encoding.eq_ignore_ascii_case(b"identity") {
        return Ok(body);
    }
    if !encoding.eq_ignore_ascii_case(b"gzip") {
        let detail = "a body may come as it is or with Content-Encoding: gzip";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", detail));
    }
    let mut unpacked = Vec::new();
    let cap = UNPACKED_MAX_BYTES as u64 + 1;
    MultiGzDecoder::new(&*body).take(cap).read_to_end(&mut unpacked).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "not_gzip", format!("the body is not whole gzip: {error}"))
    })?;
    if unpacked.len() > UNPACKED_MAX_BYTES {
        return Err(too_large(UNPACKED_MAX_BYTES));
    }
    Ok(unpacked.into())
}

pub(super) fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is over the limit of {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// The problem of a body that was read but is not what it should be.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn problem(error: BodyError) -> Problem {
    match error {
        BodyError::NotJson(_) => Problem::new(StatusCode::BAD_REQUEST, "not_json", error.to_string()),
        BodyError::Field { field, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", error.to_string()).field(field)
        }
    }
}
