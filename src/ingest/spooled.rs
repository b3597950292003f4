//! Entries as the spool keeps them, and back.

use std::borrow::Cow;

use super::queue::{Answer, Entry, Outcome, Refusal, What};
use crate::domain::{CallId, CallKey, Packet, Tenant};
use crate::spool::{NotKept, Spool};
use crate::wire::receipt::Durability;
use crate::wire::spool::{Spooled, SpooledEnd, SpooledEntry};

/// Keeps `entries` in the spool and answers each; what came out of it stays there, and comes again.
pub(super) async fn keep(spool: &Spool, entries: &[Entry], why: &str) -> Vec<Answer> {
    let fresh: Vec<SpooledEntry<'_>> = entries.iter().filter(|entry| !entry.is_spooled).map(written).collect();
    let mut kept = if fresh.is_empty() { Vec::new() } else { spool.put(&fresh).await }.into_iter();
    let answers: Vec<Answer> = entries
        .iter()
        .map(|entry| match if entry.is_spooled { None } else { kept.next() } {
            None => Err(Refusal::Unavailable(why.to_owned())),
            Some(Err(not_kept)) => Err(unavailable(why, &not_kept)),
            Some(Ok(())) => Ok(Outcome {
                is_duplicate: false,
                is_late: false,
                received_at: entry.received_at(),
                durability: Durability::Spooled,
            }),
        })
        .collect();
    let spooled = answers.iter().filter(|answer| answer.is_ok()).count();
    metrics::counter!("callfleet_spooled_entries_total").increment(spooled as u64);
    answers
}

fn unavailable(why: &str, not_kept: &NotKept) -> Refusal {
    Refusal::Unavailable(format!("{why}; {not_kept}"))
}

fn written(entry: &Entry) -> SpooledEntry<'_> {
    let what = match &entry.what {
        What::Packet(packet) => Spooled::Packet {
            sequence: packet.sequence,
            // It came as a string.
            data: String::from_utf8_lossy(&packet.data),
            sent_at: packet.sent_at,
            end: packet.end.map(|final_sequence| SpooledEnd { final_sequence }),
            metadata: Cow::Borrowed(&packet.metadata),
        },
        What::End { reason, final_sequence, .. } => {
            Spooled::End { reason: Cow::Borrowed(reason), final_sequence: *final_sequence }
        }
    };
    SpooledEntry {
        tenant: Cow::Borrowed(entry.tenant.as_str()),
        call_id: Cow::Borrowed(entry.call_id.as_str()),
        received_at: entry.received_at(),
        what,
    }
}

/// An entry of a spooled batch.
///
/// # Errors
/// Names the field that no door lets in.
pub(super) fn read(spooled: SpooledEntry<'_>) -> Result<Entry, &'static str> {
    let SpooledEntry { tenant, call_id, received_at, what } = spooled;
    let tenant = Tenant::new(tenant).map_err(|_| "tenant")?;
    let call_id = CallId::new(call_id).map_err(|_| "call_id")?;
    let key = CallKey::derive(&tenant, &call_id);
    let what = match what {
        Spooled::Packet { sequence, .. } if sequence < 0 => return Err("sequence"),
        Spooled::Packet { sequence, data, sent_at, end, metadata } => What::Packet(Packet {
            key,
            sequence,
            data: data.into_owned().into_bytes(),
            sent_at,
            received_at,
            end: end.map(|end| end.final_sequence),
            metadata: metadata.into_owned(),
        }),
        Spooled::End { reason, final_sequence } => {
            What::End { key, reason: reason.into_owned(), final_sequence, received_at }
        }
    };
    Ok(Entry { tenant, call_id, what, is_spooled: true })
}
