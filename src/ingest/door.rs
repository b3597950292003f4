//! The doors for packets: read, judge, queue, wait for the commit, answer.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{self, BATCH_MAX_BYTES, PACKET_MAX_BYTES};
use super::call_id::PathCallId;
use super::queue::{Entry, Full, Outcome, Queue, Refusal, What};
use super::{batch, refusal};
use crate::domain::{CallId, CallKey, Packet, Tenant};
use crate::service::problem::Problem;
use crate::store::{Store, calls};
use crate::wire::packet::{self, PacketBody, PacketSchema};
use crate::wire::receipt::{BatchReceipt, Durability, EndBody, EndReceipt, Receipt, Stored};

/// What the doors need.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) queue: Queue,
    pub(super) store: Store,
    pub(super) counts: Counts,
}

/// The doors' metrics, looked up once.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) accepted: metrics::Counter,
    pub(super) duplicates: metrics::Counter,
    pub(super) answer: metrics::Histogram,
}

impl Counts {
    /// The handles of this process's recorder.
    pub(super) fn new() -> Self {
        Self {
            accepted: metrics::counter!("callfleet_packets_total", "status" => "accepted"),
            duplicates: metrics::counter!("callfleet_packets_total", "status" => "duplicate"),
            answer: metrics::histogram!("callfleet_ingest_answer_seconds"),
        }
    }

    pub(super) fn count(&self, outcome: Outcome) {
        if outcome.is_duplicate { self.duplicates.increment(1) } else { self.accepted.increment(1) }
    }
}

/// The doors' routes, with their documentation.
pub(super) fn router(doors: Doors) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(stream)).routes(routes!(end)).routes(routes!(packets)).with_state(doors)
}

/// Takes one packet of a call
///
/// Answers 202 once the packet is durable. A second copy of a sequence is answered `duplicate` and
/// changes nothing, except that an end signal on it counts.
#[utoipa::path(post, path = "/v1/call/stream/{call_id}", tag = "packets",
    params(("call_id" = String, Path, description = "The PBX's id of the call, 1 to 255 bytes, percent-encoded")),
    request_body = PacketSchema,
    responses((status = 202, body = Receipt), (status = 400, body = Problem), (status = 413, body = Problem),
              (status = 422, body = Problem), (status = 503, body = Problem)))]
async fn stream(
    State(doors): State<Doors>,
    PathCallId(call_id): PathCallId,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let arrived = Instant::now();
    let body = body::unpack(&headers, body::read(&headers, body, PACKET_MAX_BYTES).await?)?;
    let read = packet::parse(&body).map_err(body::problem)?;
    let sequence = read.sequence;
    let entry = entry(call_id.clone(), read, doors.store.clock().now_to_the_micro());
    let outcome = doors.queue.store(entry).await.map_err(full)?.map_err(refusal::problem)?;
    doors.counts.count(outcome);
    let elapsed = arrived.elapsed();
    doors.counts.answer.record(elapsed);
    let receipt = Receipt {
        call_id: call_id.as_str().to_owned(),
        sequence,
        status: if outcome.is_duplicate { Stored::Duplicate } else { Stored::Accepted },
        durability: outcome.durability,
        late: outcome.is_late,
        received_at: outcome.received_at,
        response_time_ms: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
    };
    Ok((StatusCode::ACCEPTED, Json(receipt)).into_response())
}

/// Ends a call
///
/// The call is over once all sequences up to `final_sequence` are there, or when it has settled.
/// Saying it twice changes nothing.
#[utoipa::path(post, path = "/v1/calls/{call_id}/end", tag = "packets",
    params(("call_id" = String, Path, description = "The PBX's id of the call, 1 to 255 bytes, percent-encoded")),
    request_body = EndBody,
    responses((status = 202, body = EndReceipt), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 422, body = Problem), (status = 503, body = Problem)))]
async fn end(
    State(doors): State<Doors>,
    PathCallId(call_id): PathCallId,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::unpack(&headers, body::read(&headers, body, PACKET_MAX_BYTES).await?)?;
    let (reason, final_sequence) = packet::parse_end(&body).map_err(body::problem)?;
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &call_id);
    let reason = reason.unwrap_or_else(|| "end signal".to_owned());
    let received_at = doors.store.clock().now_to_the_micro();
    let what = What::End { key, reason, final_sequence, received_at };
    let entry = Entry { tenant, call_id: call_id.clone(), what, is_spooled: false };
    let Outcome { durability, .. } = doors.queue.store(entry).await.map_err(full)?.map_err(refusal::problem)?;
    // The signal is durable, whatever becomes of this look.
    let state = match durability {
        Durability::Stored => calls::find(&doors.store, key).await.ok().flatten().map(|call| call.state),
        Durability::Spooled => None,
    };
    let receipt = EndReceipt { call_id: call_id.as_str().to_owned(), state, durability };
    Ok((StatusCode::ACCEPTED, Json(receipt)).into_response())
}

/// Takes many packets of many calls
///
/// One JSON object a line, or one JSON array; with `Content-Encoding: gzip` if you like. What is
/// valid is stored even if the rest is not.
#[utoipa::path(post, path = "/v1/calls/packets", tag = "packets",
    request_body(content((PacketSchema = "application/x-ndjson"), (Vec<PacketSchema> = "application/json"))),
    responses((status = 202, body = BatchReceipt), (status = 400, body = Problem), (status = 413, body = Problem),
              (status = 415, body = Problem), (status = 503, body = Problem)))]
async fn packets(State(doors): State<Doors>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = body::unpack(&headers, body::read(&headers, body, BATCH_MAX_BYTES).await?)?;
    let receipt = batch::store(&doors, &body).await?;
    Ok((StatusCode::ACCEPTED, Json(receipt)).into_response())
}

/// What is queued for a packet that was read.
pub(super) fn entry(call_id: CallId, read: PacketBody, received_at: DateTime<Utc>) -> Entry {
    let tenant = Tenant::open_mode();
    let packet = Packet {
        key: CallKey::derive(&tenant, &call_id),
        sequence: read.sequence,
        data: read.data.into_bytes(),
        sent_at: read.timestamp,
        received_at,
        end: read.is_end.then_some(read.final_sequence),
        metadata: read.metadata,
    };
    Entry { tenant, call_id, what: What::Packet(packet), is_spooled: false }
}

/// The problem of a full queue.
pub(super) fn full(_: Full) -> Problem {
    let detail = "more packets wait than may: send this again in a second";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(1)
}

impl From<&Refusal> for &'static str {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(_) => "store_unavailable",
            Refusal::CallTooLarge => "call_too_large",
            Refusal::UnknownCall => "unknown_call",
            Refusal::Unstorable => "unstorable",
            Refusal::Conflict => "conflict",
        }
    }
}
