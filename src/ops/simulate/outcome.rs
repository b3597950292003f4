//! What a run came to: the numbers for `--json`, and as lines for people.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::Serialize;

use super::Options;
use super::audit::Audit;
use super::drain::SeenCall;
use super::fleet::FleetAudit;
use super::ledger::LedgerSummary;
use super::load::{Load, Refusal, Sent};
use super::scenes::Scene;
use crate::domain::AiStatus;

/// Everything that a run is told by. The numbers are the load's; the scenes have their own lines.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) run: Run,
    pub(super) scenarios: Vec<Scene>,
    /// Packets sent, copies included, each once however often it was tried
    pub(super) sent: u64,
    /// Answered 202 and new
    pub(super) accepted: u64,
    /// Answered 202 and there before
    pub(super) duplicates: u64,
    /// Packets that the server shows, each sequence once
    pub(super) stored: u64,
    /// Sequences that the server shows as missing
    pub(super) gaps: u64,
    /// Packets left out on purpose
    pub(super) dropped: u64,
    /// Packets that came after their call's transcript was asked for
    pub(super) late: u64,
    pub(super) refused: u64,
    /// What was refused, by code
    pub(super) refusals: BTreeMap<String, Refusal>,
    /// Requests sent again after 429, 5xx or a lost connection
    pub(super) retries: u64,
    pub(super) archived: u64,
    pub(super) dead: u64,
    pub(super) unfinished: u64,
    pub(super) load_seconds: f64,
    pub(super) drain_seconds: f64,
    /// Packets answered 202 a second while the load ran
    pub(super) packets_per_second: f64,
    /// How far the load fell behind --rate at worst
    pub(super) behind_rate_ms: u64,
    /// From sending a request to its 202
    pub(super) latency_ms: Quantiles,
    /// From a call's end signal to its transcript, by the server's clock
    pub(super) end_to_transcript_ms: Quantiles,
    pub(super) ledger: Option<LedgerSummary>,
    /// What was answered against what the API shows
    pub(super) audit: Audit,
    /// What `callfleet audit` found afterwards
    pub(super) fleet_audit: FleetAudit,
    /// Whether both audits balance and every scene went well: the exit code
    pub(super) balanced: bool,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) prefix: String,
    pub(super) url: String,
    pub(super) started_at: String,
    pub(super) seed: u64,
    pub(super) calls: u32,
    pub(super) packets: u32,
    pub(super) concurrency: u32,
    pub(super) rate: Option<f64>,
    pub(super) batch: u32,
    pub(super) shuffle: bool,
    pub(super) duplicates: f64,
    pub(super) drops: f64,
    pub(super) ai_failure_rate: Option<f64>,
}

/// Points of a distribution.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quantiles {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Quantiles {
    pub(super) fn of_us(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self { count: histogram.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max: ms(histogram.max()) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a latency are far below 2^53")]
pub(super) fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl Run {
    pub(super) fn new(options: &Options, prefix: &str, url: &str, started_at: DateTime<Utc>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            url: url.to_owned(),
            started_at: started_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            seed: options.seed,
            calls: options.calls,
            packets: options.packets,
            concurrency: options.concurrency,
            rate: options.rate,
            batch: options.batch,
            shuffle: options.shuffle,
            duplicates: options.duplicates,
            drops: options.drops,
            ai_failure_rate: options.ai_failure_rate,
        }
    }
}

/// The parts of a run, before they are added up.
pub(super) struct Parts {
    pub(super) run: Run,
    pub(super) scenarios: Vec<Scene>,
    pub(super) sent: Sent,
    pub(super) load_time: Duration,
    pub(super) drain_time: Duration,
    pub(super) calls: Vec<SeenCall>,
    pub(super) audit: Audit,
    pub(super) fleet: FleetAudit,
}

impl Outcome {
    pub(super) fn new(load: &Load, parts: Parts) -> anyhow::Result<Self> {
        let Parts { run, scenarios, sent, load_time, drain_time, calls, audit, fleet } = parts;
        let calls: Vec<&SeenCall> = calls.iter().filter(|call| !call.sent.is_scene).collect();
        let count = |is: fn(&SeenCall) -> bool| calls.iter().filter(|call| is(call)).count() as u64;
        let sum = |of: fn(&super::drain::Seen) -> i64| {
            calls.iter().filter_map(|call| call.view.as_ref()).map(|seen| of(seen).unsigned_abs()).sum()
        };
        let tally = &load.tally;
        let (accepted, duplicates) = (tally.accepted.load(Ordering::Relaxed), tally.duplicates.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "packets of a run are far below 2^53")]
        let packets_per_second = (accepted + duplicates) as f64 / load_time.as_secs_f64();
        let balanced = audit.is_balanced() && fleet.is_balanced() && scenarios.iter().all(|scene| scene.ok);
        Ok(Self {
            run,
            scenarios,
            sent: tally.sent.load(Ordering::Relaxed),
            accepted,
            duplicates,
            stored: sum(|seen| seen.received),
            gaps: sum(|seen| seen.missing),
            dropped: calls.iter().map(|call| u64::from(call.sent.dropped)).sum(),
            late: sum(|seen| seen.late),
            refused: tally.refused.load(Ordering::Relaxed),
            refusals: sent.refusals,
            retries: tally.retries.load(Ordering::Relaxed),
            archived: count(SeenCall::is_archived),
            dead: count(SeenCall::is_dead),
            unfinished: count(|call| !call.is_done()),
            load_seconds: load_time.as_secs_f64(),
            drain_seconds: drain_time.as_secs_f64(),
            packets_per_second,
            behind_rate_ms: u64::try_from(load.pace.worst_delay().as_millis()).unwrap_or(u64::MAX),
            latency_ms: Quantiles::of_us(&sent.latency_us),
            end_to_transcript_ms: Quantiles::of_us(&end_to_transcript_us(&calls)?),
            ledger: load.ledger.summary(),
            audit,
            fleet_audit: fleet,
            balanced,
        })
    }
}

fn end_to_transcript_us(calls: &[&SeenCall]) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for call in calls {
        let Some(seen) = call.view.as_ref().filter(|seen| seen.ai_status == AiStatus::Succeeded) else { continue };
        if let (Some(from), Some(to)) = (seen.ended_at, seen.archived_at) {
            let micros = (to - from).num_microseconds().and_then(|micros| u64::try_from(micros).ok());
            histogram.record(micros.unwrap_or(0))?;
        }
    }
    Ok(histogram)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { calls, packets, concurrency, .. } = &self.run;
        let count = HumanCount;
        writeln!(
            f,
            "{} calls of {} packets over {} connections, ids {}-…",
            count(u64::from(*calls)),
            count(u64::from(*packets)),
            count(u64::from(*concurrency)),
            self.run.prefix
        )?;
        writeln!(
            f,
            "  sent        {} packets in {:.1} s, {:.0} a second",
            count(self.sent),
            self.load_seconds,
            self.packets_per_second
        )?;
        writeln!(
            f,
            "  accepted    {}   duplicates {}   refused {}   sent again {}",
            count(self.accepted),
            count(self.duplicates),
            count(self.refused),
            count(self.retries)
        )?;
        writeln!(
            f,
            "  stored      {}   gaps {} (left out {})   late {}",
            count(self.stored),
            count(self.gaps),
            count(self.dropped),
            count(self.late)
        )?;
        writeln!(
            f,
            "  archived    {}   dead {}   unfinished {}   after {:.1} s more",
            count(self.archived),
            count(self.dead),
            count(self.unfinished),
            self.drain_seconds
        )?;
        writeln!(f, "  202         {}", self.latency_ms)?;
        writeln!(f, "  transcript  {} after the end of the call", self.end_to_transcript_ms)?;
        if self.run.rate.is_some() && self.behind_rate_ms > 0 {
            writeln!(f, "  pace        up to {} behind --rate", show_ms(ms(self.behind_rate_ms * 1000)))?;
        }
        if let Some(ledger) = &self.ledger {
            let of_scenes = ledger.lines.saturating_sub(self.accepted + self.duplicates);
            let (lines, file) = (count(ledger.lines), ledger.file.display());
            writeln!(f, "  ledger      {lines} lines in {file}, {of_scenes} of them from the scenes")?;
        }
        for (code, refusal) in &self.refusals {
            writeln!(f, "  refused     {} with {code}: {}", count(refusal.packets), refusal.example)?;
        }
        write!(f, "{}{}", self.audit, self.fleet_audit)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_balanced() {
            return writeln!(f, "✓ balanced: everything answered 202 is stored once, and every call has an end");
        }
        for finding in &self.findings {
            write!(f, "✗ {} {}", HumanCount(finding.count), finding.what)?;
            if !finding.calls.is_empty() {
                write!(f, ": {}", finding.calls.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { '✓' } else { '✗' };
        write!(f, "{mark} {}: {}", self.name, self.detail)
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return write!(f, "none");
        }
        let [p50, p95, p99, max] = [self.p50, self.p95, self.p99, self.max].map(show_ms);
        write!(f, "p50 {p50}   p95 {p95}   p99 {p99}   max {max}")
    }
}

/// Milliseconds as people read them: `2.11 ms`, `340 ms`, `1.20 s`.
pub(super) fn show_ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}
