//! Whether the run balances: everything answered 202 is stored once, and every call has an end.

use serde::Serialize;

use super::drain::SeenCall;

/// Call ids shown for each finding.
const MAX_EXAMPLES: usize = 10;

/// The outcome of the audit; it balances when there are no findings.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Audit {
    pub(super) findings: Vec<Finding>,
}

/// Something that does not balance.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) count: u64,
    /// The first few calls concerned
    pub(super) calls: Vec<String>,
}

/// Compares what was answered with what the API shows.
pub(super) fn audit(calls: &[SeenCall], refused: u64) -> Audit {
    let mut audit = Audit::default();
    audit.look("calls are unknown to the server", calls, |call| call.sent.stored > 0 && call.view.is_none());
    audit.look("calls have lost packets that were answered 202", calls, |call| {
        call.view.as_ref().is_some_and(|seen| seen.received < i64::from(call.sent.stored))
    });
    audit.look("calls have more packets than were answered 202", calls, |call| {
        call.view.as_ref().is_some_and(|seen| seen.received > i64::from(call.sent.stored))
    });
    if refused == 0 {
        audit.look("calls show other gaps than the packets left out", calls, |call| {
            call.view.as_ref().is_some_and(|seen| seen.missing != i64::from(call.sent.dropped))
        });
    } else {
        audit.findings.push(Finding { what: "packets were refused".to_owned(), count: refused, calls: Vec::new() });
    }
    audit.look("calls are neither archived nor dead", calls, |call| !call.is_done());
    audit
}

impl Audit {
    pub(super) fn is_balanced(&self) -> bool {
        self.findings.is_empty()
    }

    fn look(&mut self, what: &str, calls: &[SeenCall], is_wrong: impl Fn(&SeenCall) -> bool) {
        let wrong: Vec<&SeenCall> = calls.iter().filter(|call| is_wrong(call)).collect();
        if !wrong.is_empty() {
            let examples = wrong.iter().take(MAX_EXAMPLES).map(|call| call.sent.call_id.clone()).collect();
            self.findings.push(Finding { what: what.to_owned(), count: wrong.len() as u64, calls: examples });
        }
    }
}
