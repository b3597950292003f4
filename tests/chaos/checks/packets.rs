//! Packets and transcripts against the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::findings::{Finding, Sort};
use crate::ledger::Read;

/// The ledger and the server that committed a claim read the same clock.
const CLOCKS_APART: TimeDelta = TimeDelta::milliseconds(20);

/// A call's deciding attempt, and what came of it.
struct Archived {
    call_id: String,
    /// When the claim was committed, by the server's own account.
    claimed_at: DateTime<Utc>,
    sent: BTreeSet<i64>,
    transcript: String,
}

type Id = (String, i64);

/// Checks the calls whose names begin with `prefix`.
pub(super) async fn check(pool: &PgPool, prefix: &str, read: &Read) -> anyhow::Result<Vec<Finding>> {
    let stored = stored(pool, prefix).await?;
    let archived = archived(pool, prefix).await?;
    let findings = [
        Finding::of(Sort::Lost, "packets answered 202 that are not stored", &lost(read, &stored)),
        Finding::of(Sort::Duplicated, "packets stored or accepted more than once", &twice(read, &stored)),
        Finding::of(
            Sort::Broken,
            "packets stored that were never sent, or with other content",
            &never_sent(read, &stored),
        ),
        Finding::of(Sort::Lost, "calls answered 202 that are not there", &missing_calls(read, &stored)),
        Finding::of(
            Sort::Broken,
            "packets answered 202 before the claim that the attempt did not send",
            &unsent(read, &archived),
        ),
        Finding::of(Sort::Broken, "transcripts that are not of what was sent", &wrong_transcripts(read, &archived)),
    ];
    Ok(findings.into_iter().flatten().collect())
}

/// Every stored packet with its content; as often as it is there.
async fn stored(pool: &PgPool, prefix: &str) -> anyhow::Result<BTreeMap<Id, Vec<Vec<u8>>>> {
    let rows: Vec<(String, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT c.call_id, p.sequence, p.data FROM calls c JOIN packets p ON p.call_key = c.key
          WHERE c.call_id LIKE $1 || '%'",
    )
    .bind(prefix)
    .fetch_all(pool)
    .await?;
    let mut stored: BTreeMap<Id, Vec<Vec<u8>>> = BTreeMap::new();
    for (call_id, sequence, data) in rows {
        stored.entry((call_id, sequence)).or_default().push(data);
    }
    Ok(stored)
}

async fn archived(pool: &PgPool, prefix: &str) -> anyhow::Result<Vec<Archived>> {
    let rows: Vec<(String, DateTime<Utc>, Option<Json<Vec<(i64, i64)>>>, String)> = sqlx::query_as(
        "SELECT c.call_id, pg_xact_commit_timestamp(t.xmin), a.sent, r.transcript
           FROM calls c JOIN results r ON r.call_key = c.key
           JOIN attempts a ON a.call_key = r.call_key AND a.generation = r.generation AND a.attempt = r.attempt
          CROSS JOIN LATERAL (SELECT t.xmin FROM transitions t WHERE t.call_key = c.key
                                 AND t.to_state = 'PROCESSING_AI' AND t.actor <> 'ingest'
                               ORDER BY t.version DESC LIMIT 1) t
          WHERE c.call_id LIKE $1 || '%'",
    )
    .bind(prefix)
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(call_id, claimed_at, sent, transcript)| {
            let ranges = sent.map(|Json(ranges)| ranges).unwrap_or_default();
            let sent = ranges.into_iter().flat_map(|(first, last)| first..=last).collect();
            Archived { call_id, claimed_at, sent, transcript }
        })
        .collect())
}

fn lost(read: &Read, stored: &BTreeMap<Id, Vec<Vec<u8>>>) -> Vec<String> {
    let answers =
        read.answered.iter().filter(|answer| !stored.contains_key(&(answer.call_id.clone(), answer.sequence)));
    answers
        .map(|answer| {
            let spooled = answer.durability.as_deref().unwrap_or("stored");
            format!("{} {} ({} and {spooled} at {})", answer.call_id, answer.sequence, answer.status, answer.at)
        })
        .collect()
}

fn twice(read: &Read, stored: &BTreeMap<Id, Vec<Vec<u8>>>) -> Vec<String> {
    let copies = stored.iter().filter(|(_, copies)| copies.len() > 1);
    let mut twice: Vec<String> = copies.map(|((id, sequence), _)| format!("{id} {sequence} is stored twice")).collect();
    let mut accepted: HashMap<Id, u32> = HashMap::new();
    // A spooled packet is accepted without a look into the database: its copies may be accepted too.
    for answer in read.answered.iter().filter(|answer| answer.status == "accepted" && answer.durability.is_none()) {
        *accepted.entry((answer.call_id.clone(), answer.sequence)).or_default() += 1;
    }
    let again = accepted.into_iter().filter(|(_, times)| *times > 1);
    twice.extend(again.map(|((id, sequence), times)| format!("{id} {sequence} was accepted {times} times")));
    twice
}

fn never_sent(read: &Read, stored: &BTreeMap<Id, Vec<Vec<u8>>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((call_id, sequence), copies) in stored {
        match read.offered.get(&(call_id.clone(), *sequence)) {
            None => wrong.push(format!("{call_id} {sequence} was never sent")),
            Some(offered) if copies.iter().any(|data| data != offered.data.as_bytes()) => {
                wrong.push(format!("{call_id} {sequence} has other content than was sent"));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn missing_calls(read: &Read, stored: &BTreeMap<Id, Vec<Vec<u8>>>) -> Vec<String> {
    let there: BTreeSet<&str> = stored.keys().map(|(call_id, _)| call_id.as_str()).collect();
    let answered: BTreeSet<&str> = read.answered.iter().map(|answer| answer.call_id.as_str()).collect();
    answered.difference(&there).map(|call_id| (*call_id).to_owned()).collect()
}

/// Packets are read after the claim: what was durable before it is part of the request.
fn unsent(read: &Read, archived: &[Archived]) -> Vec<String> {
    let mut answers: HashMap<&str, Vec<(i64, DateTime<Utc>)>> = HashMap::new();
    // What was spooled is in the database only later.
    for answer in read.answered.iter().filter(|answer| answer.durability.is_none()) {
        answers.entry(&answer.call_id).or_default().push((answer.sequence, answer.at));
    }
    let mut unsent = Vec::new();
    for call in archived {
        for (sequence, at) in answers.get(call.call_id.as_str()).into_iter().flatten() {
            if *at + CLOCKS_APART < call.claimed_at && !call.sent.contains(sequence) {
                let (id, claimed) = (&call.call_id, call.claimed_at);
                unsent.push(format!("{id} {sequence}, answered at {at}, is not in what was claimed at {claimed}"));
            }
        }
    }
    unsent
}

fn wrong_transcripts(read: &Read, archived: &[Archived]) -> Vec<String> {
    let mut wrong = Vec::new();
    for call in archived {
        let sent = call.sent.iter().map(|sequence| {
            let offered = read.offered.get(&(call.call_id.clone(), *sequence));
            offered.map_or("(never sent)", |packet| packet.data.as_str())
        });
        let expected = sent.collect::<Vec<_>>().join(" ");
        if expected != call.transcript {
            wrong.push(format!("{}: `{}` instead of `{expected}`", call.call_id, call.transcript));
        }
    }
    wrong
}
