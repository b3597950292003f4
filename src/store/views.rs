//! One call as the API shows it.

use sqlx::types::Json;

use super::{Store, StoreError, calls};
use crate::domain::{Call, CallKey, Ranges};
use crate::wire::call::{CallSummary, CallView, PacketCounts};

/// A call with its packets in numbers and its newest transcript, if it is there.
///
/// The row is read first: a call that is shown as archived has its transcript.
///
/// # Errors
/// When the database is away.
pub async fn call(store: &Store, key: CallKey) -> Result<Option<CallView>, StoreError> {
    let Some(call) = calls::find(store, key).await? else { return Ok(None) };
    // Runs of neighbours share sequence minus row number: the database folds them into ranges.
    let facts = sqlx::query!(
        r#"/* views.facts */
        SELECT (SELECT jsonb_agg(jsonb_build_array(first, last) ORDER BY first)
                  FROM (SELECT min(sequence) AS first, max(sequence) AS last
                          FROM (SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS run
                                  FROM packets WHERE call_key = $1) AS numbered
                         GROUP BY run) AS runs) AS "there: Json<Ranges>",
               (SELECT COALESCE(sum(copies), 0) FROM packet_copies WHERE call_key = $1) AS "duplicates!",
               (SELECT count(*) FROM packet_conflicts WHERE call_key = $1) AS "conflicts!",
               (SELECT sent FROM attempts WHERE call_key = $1 AND generation = $2 AND class = 'done'
                 ORDER BY attempt DESC LIMIT 1) AS "sent: Json<Ranges>",
               (SELECT transcript FROM results WHERE call_key = $1
                 ORDER BY generation DESC LIMIT 1) AS transcript"#,
        key.as_uuid(),
        call.generation
    )
    .fetch_one(store.pool())
    .await?;
    let there = facts.there.map_or_else(Ranges::default, |Json(there)| there);
    let sent = facts.sent.map(|Json(sent)| sent);
    let packets = count(&call, &there, sent.as_ref(), facts.duplicates, facts.conflicts);
    Ok(Some(CallView {
        call: CallSummary::from(&call),
        packets,
        transcript: facts.transcript,
        ended_at: call.end.map(|end| end.at),
        over_limit: call.over_limit_at.is_some(),
    }))
}

fn count(call: &Call, there: &Ranges, sent: Option<&Ranges>, duplicates: i64, conflicts: i64) -> PacketCounts {
    PacketCounts {
        received: there.count(),
        last_sequence: there.last(),
        missing: there.missing(call.end.as_ref().and_then(|end| end.final_sequence)),
        duplicates,
        conflicts,
        late: sent.map_or(0, |sent| there.count_outside(sent)),
    }
}
