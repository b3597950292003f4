//! The promises, each looked at in the same moment.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::report::{Check, Report};
use super::{AuditOptions, ledger};
use crate::broker::{Broker, survey};
use crate::store::Store;
use crate::store::audit::{Finding, Findings, Snapshot};
use crate::store::counts::Unsettled;

const LEDGER_STORED: (&str, &str) = ("accepted_is_stored", "every packet answered 202 is stored");
const LEDGER_ONCE: (&str, &str) = ("accepted_once", "every packet was accepted once, its copies were duplicates");
const STREAM: (&str, &str) = ("dead_letter_stream", "dead letters and the messages of CALL_DLQ are one to one");

/// Looks at everything; `on_their_way` is left for the caller to say.
pub(super) async fn take(
    store: &Store,
    broker: Option<&Broker>,
    options: &AuditOptions,
    ledger: Option<&Path>,
) -> anyhow::Result<Report> {
    // The stream first: a message that is there before the snapshot has its letter in it.
    let subjects = match broker {
        Some(broker) => Some(survey::dead_letter_subjects(broker).await?),
        None => None,
    };
    let limit = i64::from(options.findings);
    let mut snapshot = Snapshot::take(store).await?;
    let calls = snapshot.buckets().await?;
    let at = store.now();
    let young = at - TimeDelta::from_std(options.grace).unwrap_or(TimeDelta::MAX);
    let mut checks = Vec::new();
    let mut totals = None;
    match ledger {
        Some(path) => {
            let compared = ledger::compare(path, &mut snapshot, options.findings as usize).await?;
            totals = Some(compared.totals);
            checks.push(Check::made(LEDGER_STORED.0, LEDGER_STORED.1, compared.lost));
            checks.push(Check::made(LEDGER_ONCE.0, LEDGER_ONCE.1, compared.accepted_twice));
        }
        None => checks.push(Check::skipped(LEDGER_STORED.0, LEDGER_STORED.1, "no --ledger given")),
    }
    let outbox_in_flight = of_database(&mut snapshot, young, limit, &mut checks).await?;
    checks.push(of_stream(&mut snapshot, broker, subjects, young, limit).await?);
    checks.push(of_spool(broker).await?);
    let packets = snapshot.packet_totals().await?;
    snapshot.end().await?;
    let balanced = checks.iter().all(Check::holds);
    Ok(Report {
        at,
        balanced,
        calls,
        packets,
        on_their_way: Unsettled::default(),
        outbox_in_flight,
        ledger: totals,
        checks,
    })
}

async fn of_database(
    snapshot: &mut Snapshot,
    young: DateTime<Utc>,
    limit: i64,
    checks: &mut Vec<Check>,
) -> anyhow::Result<i64> {
    let (left_behind, in_flight) = snapshot.messages_left_behind(young, limit).await?;
    checks.extend([
        Check::made(
            "packets_have_calls",
            "every stored packet belongs to a call",
            snapshot.packets_without_call(limit).await?,
        ),
        Check::made("one_bucket", "every call is in exactly one bucket", snapshot.misplaced_calls(limit).await?),
        Check::made(
            "versions",
            "every call's timeline leads step by step to what it is",
            snapshot.broken_timelines(limit).await?,
        ),
        Check::made("agenda", "every call that waits is on the agenda", snapshot.forgotten_calls(limit).await?),
        Check::made("attempts", "every attempt is counted once", snapshot.miscounted_attempts(limit).await?),
        Check::made(
            "transcripts",
            "every call that succeeded has exactly one transcript, and no other has",
            snapshot.misplaced_transcripts(limit).await?,
        ),
        Check::made(
            "dead_letters",
            "dead calls and dead letters are one to one",
            snapshot.misplaced_letters(limit).await?,
        ),
        Check::made("outbox", "no message is left behind in the outbox", left_behind),
    ]);
    Ok(in_flight)
}

/// What waits there has its 202 and is not stored.
async fn of_spool(broker: Option<&Broker>) -> anyhow::Result<Check> {
    const SPOOL: (&str, &str) = ("spool", "no packet waits in the spool");
    let Some(broker) = broker else { return Ok(Check::skipped(SPOOL.0, SPOOL.1, "NATS was not asked")) };
    let state = broker.spool_state().await?;
    let mut findings = Findings { count: i64::try_from(state.messages).unwrap_or(i64::MAX), first: Vec::new() };
    if let Some(oldest) = state.oldest {
        let detail =
            format!("{} messages, the oldest from {oldest}: an ingest stores them when it can", state.messages);
        findings.first.push(Finding { id: "CALL_SPOOL".to_owned(), detail });
    }
    Ok(Check::made(SPOOL.0, SPOOL.1, findings))
}

async fn of_stream(
    snapshot: &mut Snapshot,
    broker: Option<&Broker>,
    subjects: Option<Vec<String>>,
    young: DateTime<Utc>,
    limit: i64,
) -> anyhow::Result<Check> {
    let (Some(broker), Some(mut subjects)) = (broker, subjects) else {
        return Ok(Check::skipped(STREAM.0, STREAM.1, "NATS was not asked"));
    };
    let mut findings = snapshot.messages_without_letter(&subjects, limit).await?;
    let mut missing = snapshot.letters_without_message(&subjects, young, limit).await?;
    if missing.count > 0 {
        // The relay may have published them after the first look.
        subjects.extend(survey::dead_letter_subjects(broker).await?);
        subjects.sort_unstable();
        subjects.dedup();
        missing = snapshot.letters_without_message(&subjects, young, limit).await?;
    }
    findings.count += missing.count;
    findings.first.extend(missing.first);
    findings.first.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Check::made(STREAM.0, STREAM.1, findings))
}
