//! What the writers refuse, as the sender is told.

use axum::http::StatusCode;

use super::queue::Refusal;
use crate::service::problem::Problem;

/// Seconds after which a sender may try again while the database is away.
const RETRY_AFTER_S: u16 = 1;

/// The problem of an entry that was not stored.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn problem(refusal: Refusal) -> Problem {
    let code = (&refusal).into();
    match refusal {
        Refusal::Unavailable(_) => {
            let detail = "no store answers: nothing was kept, send this again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER_S)
        }
        Refusal::Conflict => {
            let detail = "others changed the call at the same time: send this again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER_S)
        }
        Refusal::CallTooLarge => {
            let detail = "the call has as many packets or bytes as a call may (CALL_MAX_PACKETS, CALL_MAX_BYTES)";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail)
        }
        Refusal::UnknownCall => Problem::new(StatusCode::NOT_FOUND, code, "no packet of this call has come yet"),
        Refusal::Unstorable => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, "the database cannot hold this packet")
        }
    }
}
