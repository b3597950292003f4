use std::collections::BTreeMap;

use chrono::DateTime;
use clap::Parser;

use super::Options;
use super::audit::Audit;
use super::fleet::FleetAudit;
use super::outcome::{Outcome, Quantiles, Run};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// The options without any flag.
pub(super) fn options() -> Options {
    Line::parse_from(["simulate"]).options
}

/// An outcome of nothing.
pub(super) fn outcome() -> Outcome {
    let quantiles = Quantiles { count: 0, p50: 0.0, p95: 0.0, p99: 0.0, max: 0.0 };
    Outcome {
        run: Run::new(&options(), "sim", "http://127.0.0.1:1", DateTime::UNIX_EPOCH),
        scenarios: Vec::new(),
        sent: 0,
        accepted: 0,
        duplicates: 0,
        stored: 0,
        gaps: 0,
        dropped: 0,
        late: 0,
        refused: 0,
        refusals: BTreeMap::new(),
        retries: 0,
        archived: 0,
        dead: 0,
        unfinished: 0,
        load_seconds: 0.0,
        drain_seconds: 0.0,
        packets_per_second: 0.0,
        behind_rate_ms: 0,
        latency_ms: quantiles,
        end_to_transcript_ms: quantiles,
        ledger: None,
        audit: Audit::default(),
        fleet_audit: FleetAudit::Skipped { skipped: "a test" },
        balanced: true,
    }
}
