//! The audit: silent when all is well, and naming whatever is not.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use callfleet::broker::survey;
use callfleet::domain::Class;
use callfleet::ops::audit::{AuditOptions, Report, audit};
use serde_json::json;

use super::stages::{answered, failed, key, one_of_each, over, tried};
use crate::ingest::client::packet;
use crate::world::World;

/// Grace that everything has outlived.
const NO_GRACE: Duration = Duration::from_nanos(1);

/// The ids under each check that does not hold.
fn findings(report: &Report) -> BTreeMap<&'static str, Vec<&str>> {
    let failing = report.checks.iter().filter(|check| !check.holds());
    failing
        .map(|check| {
            let mut ids: Vec<&str> = check.findings.first.iter().map(|finding| finding.id.as_str()).collect();
            assert_eq!(usize::try_from(check.findings.count), Ok(ids.len()), "{}", check.name);
            ids.sort_unstable();
            (check.name, ids)
        })
        .collect()
}

/// A ledger of these packets.
fn ledger(lines: &[(&str, i64, &str)]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (call_id, sequence, status) in lines {
        let line = json!({"call_id": call_id, "sequence": sequence, "status": status, "at": "2026-01-01T00:00:00Z"});
        writeln!(file, "{line}").unwrap();
    }
    file
}

#[tokio::test]
async fn a_fleet_with_a_call_in_every_bucket_balances() {
    let mut world = World::new().await;
    let doors = world.ingest();
    one_of_each(&world, &doors).await;
    packet(&doors, "waiting", 2, "words").await;
    let hostile = "f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@host.example";
    packet(&doors, hostile, 1, "words").await;
    let book = ledger(&[
        ("waiting", 1, "accepted"),
        ("waiting", 2, "accepted"),
        ("waiting", 2, "duplicate"),
        (hostile, 1, "accepted"),
    ]);
    let options = AuditOptions { ledger: Some(book.path().to_owned()), grace: NO_GRACE, ..AuditOptions::default() };
    world.until("SELECT count(*) FROM outbox", 0).await;
    let report = audit(&world.store, Some(&world.broker), &options).await.unwrap();
    assert!(report.balanced(), "{report}");
    assert!(report.checks.iter().all(|check| check.skipped.is_none()), "{report}");
    let calls = report.calls;
    assert_eq!((calls.total, calls.sum()), (7, 7));
    assert_eq!((calls.in_progress, calls.waiting, calls.running), (2, 1, 1));
    assert_eq!((calls.retrying, calls.archived, calls.dead), (1, 1, 1));
    assert_eq!((report.packets.stored, report.packets.duplicates), (17, 1));
    let totals = report.ledger.unwrap();
    assert_eq!((totals.lines, totals.calls, totals.accepted, totals.duplicates), (4, 2, 3, 1));
    assert_eq!(totals.stored_beyond, 1, "packet 3 of `waiting` is not in the ledger");
    assert!(!report.is_settled());
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn whatever_does_not_balance_is_named() {
    let mut world = World::new().await;
    let doors = world.ingest();
    one_of_each(&world, &doors).await;
    let more = ["no-packet", "no-call", "torn", "other-end", "forgotten", "no-attempt", "no-answer", "early-answer"];
    for call_id in more {
        over(&world, &doors, call_id).await;
    }
    for call_id in ["no-attempt", "no-answer"] {
        tried(&world, call_id, answered()).await;
    }
    for call_id in ["no-letter", "no-message"] {
        over(&world, &doors, call_id).await;
        tried(&world, call_id, failed(Class::Permanent, 422)).await;
    }
    world.until("SELECT count(*) FROM outbox", 0).await;
    let of = |call_id: &str| format!("(SELECT key FROM calls WHERE call_id = '{call_id}')");
    // As a replica, so that neither triggers nor foreign keys stand in the way.
    let tampering = [
        "SET session_replication_role = replica".to_owned(),
        format!("DELETE FROM packets WHERE sequence = 2 AND call_key = {}", of("no-packet")),
        format!("DELETE FROM transitions WHERE version = 1 AND call_key = {}", of("torn")),
        format!("UPDATE transitions SET from_state = 'FAILED' WHERE version = 2 AND call_key = {}", of("other-end")),
        "UPDATE calls SET reconcile_at = NULL WHERE call_id = 'forgotten'".to_owned(),
        format!("DELETE FROM attempts WHERE call_key = {}", of("no-attempt")),
        format!("DELETE FROM results WHERE call_key = {}", of("no-answer")),
        format!("INSERT INTO results SELECT {}, 1, 1, 'too early', '{{}}', now()", of("early-answer")),
        format!("DELETE FROM dead_letters WHERE call_key = {}", of("no-letter")),
        "ALTER TABLE calls DROP CONSTRAINT calls_ai_status_fits".to_owned(),
        "UPDATE calls SET ai_status = 'DISCARDED' WHERE call_id = 'waiting'".to_owned(),
        "INSERT INTO outbox VALUES ('stuck', 'call.state.x', '', false, now() + interval '1 day', now() - interval '1 h')"
            .to_owned(),
        format!("DELETE FROM transitions WHERE call_key = {}", of("no-call")),
        "DELETE FROM calls WHERE call_id = 'no-call'".to_owned(),
    ];
    world.execute(&tampering.join(";")).await.unwrap();
    let letter = |call_id: &str| format!("call.dlq.permanent.default.{}.1", key(call_id));
    assert!(survey::delete_dead_letter(&world.broker, &letter("no-message")).await.unwrap());
    let book = ledger(&[
        ("no-packet", 1, "accepted"),
        ("no-packet", 2, "accepted"),
        ("archived", 3, "accepted"),
        ("archived", 3, "accepted"),
        ("never-seen", 1, "duplicate"),
    ]);
    let options = AuditOptions { ledger: Some(book.path().to_owned()), grace: NO_GRACE, ..AuditOptions::default() };
    let report = audit(&world.store, Some(&world.broker), &options).await.unwrap();
    let (lost, stray) = (key("no-call").to_string(), letter("no-letter"));
    let expected = BTreeMap::from([
        ("accepted_is_stored", vec!["never-seen", "no-packet"]),
        ("accepted_once", vec!["archived"]),
        ("packets_have_calls", vec![lost.as_str()]),
        ("one_bucket", vec!["waiting"]),
        ("versions", vec!["other-end", "torn", "waiting"]),
        ("agenda", vec!["forgotten"]),
        ("attempts", vec!["no-attempt"]),
        // The one without an attempt is found from the transcript's side as well, and the last
        // from both of its sides.
        ("transcripts", vec!["early-answer", "early-answer", "no-answer", "no-answer", "no-attempt"]),
        ("dead_letters", vec!["no-letter"]),
        ("dead_letter_stream", vec![stray.as_str(), "no-message"]),
        ("outbox", vec!["stuck"]),
    ]);
    assert_eq!(findings(&report), expected, "{report}");
    assert!(!report.balanced());
    let short = AuditOptions { findings: 1, ..options };
    let report = audit(&world.store, None, &short).await.unwrap();
    let transcripts = report.checks.iter().find(|check| check.name == "transcripts").unwrap();
    assert_eq!((transcripts.findings.count, transcripts.findings.first.len()), (5, 1));
    let stream = report.checks.iter().find(|check| check.name == "dead_letter_stream").unwrap();
    assert!(stream.skipped.is_some());
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn what_is_younger_than_the_grace_is_on_its_way() {
    let mut world = World::new().await;
    let doors = world.ingest();
    over(&world, &doors, "c").await;
    tried(&world, "c", failed(Class::Permanent, 422)).await;
    world.until("SELECT count(*) FROM outbox", 0).await;
    let subject = format!("call.dlq.permanent.default.{}.1", key("c"));
    assert!(survey::delete_dead_letter(&world.broker, &subject).await.unwrap());
    let young = "INSERT INTO outbox VALUES ('young', 'call.state.x', '', false, now() + interval '1 day', now())";
    world.execute(young).await.unwrap();
    let patient = AuditOptions { grace: Duration::from_mins(10), ..AuditOptions::default() };
    let report = audit(&world.store, Some(&world.broker), &patient).await.unwrap();
    assert!(report.balanced(), "{report}");
    assert_eq!((report.outbox_in_flight, report.on_their_way.outbox), (1, 1));
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn waiting_lets_calls_settle_and_ends_when_they_have() {
    let mut world = World::new().await;
    let doors = world.ingest();
    over(&world, &doors, "c").await;
    let patient = AuditOptions { wait: Duration::from_secs(30), ..AuditOptions::default() };
    let (report, _archived) =
        tokio::join!(audit(&world.store, Some(&world.broker), &patient), tried(&world, "c", answered()));
    let report = report.unwrap();
    assert!(report.is_settled() && report.balanced(), "{report}");
    assert_eq!(report.calls.archived, 1);
    packet(&doors, "goes-on", 1, "words").await;
    world.until("SELECT count(*) FROM outbox", 0).await;
    let report = audit(&world.store, Some(&world.broker), &patient).await.unwrap();
    assert!(report.is_settled(), "a call without an end signal is not waited for");
    drop(doors);
    world.abandon().await;
}
