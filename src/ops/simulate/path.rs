//! The API's paths, with call ids encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Takes batches.
pub(super) const PACKETS: &str = "/v1/calls/packets";

/// Takes one packet.
pub(super) fn packet(call_id: &str) -> String {
    format!("/v1/call/stream/{}", utf8_percent_encode(call_id, ENCODED))
}

/// Shows a call.
pub(super) fn call(call_id: &str) -> String {
    format!("/v1/call/{}", utf8_percent_encode(call_id, ENCODED))
}

/// Ends a call.
pub(super) fn end(call_id: &str) -> String {
    format!("/v1/calls/{}/end", utf8_percent_encode(call_id, ENCODED))
}

/// Shows what happened to a call.
pub(super) fn timeline(call_id: &str) -> String {
    format!("/v1/calls/{}/timeline", utf8_percent_encode(call_id, ENCODED))
}
