//! Many packets in one body: each is judged by itself, and all that are valid share their commits.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::body;
use super::call_id;
use super::door::{Doors, entry, full};
use super::queue::{Entry, Refusal};
use super::refusal;
use crate::domain::CallId;
use crate::service::problem::Problem;
use crate::wire::packet::{self, BodyError};
use crate::wire::receipt::{BatchReceipt, Durability, Rejected};

/// Stores the valid packets of a body and says what became of the others.
pub(super) async fn store(doors: &Doors, body: &[u8]) -> Result<BatchReceipt, Problem> {
    let now = doors.store.clock().now_to_the_micro();
    let mut receipt = BatchReceipt::default();
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    for (index, piece) in split(body)?.into_iter().enumerate() {
        match read(piece, now) {
            Ok(entry) => {
                entries.push(entry);
                places.push(index);
            }
            Err(problem) => receipt.rejected.push(rejected(index, problem)),
        }
    }
    let answers = doors.queue.store_all(entries).await.map_err(full)?;
    // A batch is answered whole: when one packet may be stored later, the sender sends all again,
    // and those that are stored already are duplicates then.
    let may_pass = |refusal: &Refusal| matches!(refusal, Refusal::Unavailable(_) | Refusal::Conflict);
    if let Some(refusal) = answers.iter().filter_map(|a| a.as_ref().err()).find(|r| may_pass(r)) {
        return Err(refusal::problem(refusal.clone()));
    }
    for (index, answer) in places.into_iter().zip(answers) {
        match answer {
            Ok(outcome) => {
                doors.counts.count(outcome);
                if outcome.durability == Durability::Spooled {
                    receipt.durability = Durability::Spooled;
                }
                if outcome.is_duplicate { receipt.duplicates += 1 } else { receipt.accepted += 1 }
            }
            Err(refusal) => receipt.rejected.push(rejected(index, refusal::problem(refusal))),
        }
    }
    receipt.rejected.sort_by_key(|rejected| rejected.index);
    Ok(receipt)
}

/// The packets of a body, unread: the elements of an array, or the lines that are not blank.
fn split(body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let is_array = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if is_array {
        let elements: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|error| body::problem(BodyError::NotJson(error.to_string())))?;
        return Ok(elements.into_iter().map(|element| element.get().as_bytes()).collect());
    }
    Ok(body.split(|b| *b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).collect())
}

fn read(piece: &[u8], now: DateTime<Utc>) -> Result<Entry, Problem> {
    let mut read = packet::parse(piece).map_err(body::problem)?;
    if piece.len() > body::PACKET_MAX_BYTES {
        return Err(body::too_large(body::PACKET_MAX_BYTES));
    }
    let missing = || body::problem(BodyError::Field { field: "call_id", detail: "is missing".to_owned() });
    let call_id = CallId::new(read.call_id.take().ok_or_else(missing)?).map_err(|error| call_id::refused(&error))?;
    Ok(entry(call_id, read, now))
}

fn rejected(index: usize, problem: Problem) -> Rejected {
    Rejected { index, code: problem.code.to_owned(), detail: problem.detail }
}
