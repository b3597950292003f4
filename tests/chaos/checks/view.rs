//! What the supervisor sees against what is so.

use std::collections::HashMap;
use std::time::Duration;

use crate::findings::{Finding, Sort};
use crate::stack::Stack;
use crate::supervisor::Seen;
use crate::wait;

/// Time for the last changes to reach it, a reconnection included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Calls that were archived longer ago than this need not be in a snapshot.
const WINDOW: &str = "50 minutes";

pub(super) async fn check(stack: &Stack) -> anyhow::Result<Vec<Finding>> {
    let mut last = anyhow::Ok(Vec::new());
    let equal = wait::until(DEADLINE, async || {
        last = differences(stack).await;
        last.as_ref().is_ok_and(Vec::is_empty)
    });
    let equal = equal.await;
    let mut findings = Vec::new();
    if !equal {
        findings.extend(Finding::of(Sort::Broken, "calls that the supervisor sees otherwise than they are", &last?));
    }
    let problems = std::mem::take(&mut stack.supervisor.view().problems);
    findings.extend(Finding::of(Sort::Broken, "frames that a supervisor should not see", &problems));
    Ok(findings)
}

async fn differences(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let rows: Vec<(String, String, String, i32, bool)> = sqlx::query_as(
        "SELECT call_id, state, ai_status, version, archived_at IS NULL OR archived_at > now() - $1::interval FROM calls",
    )
    .bind(WINDOW)
    .fetch_all(stack.pool())
    .await?;
    let view = stack.supervisor.view();
    let mut different = Vec::new();
    let mut there: HashMap<&str, ()> = HashMap::with_capacity(rows.len());
    for (call_id, state, ai_status, version, is_recent) in &rows {
        there.insert(call_id, ());
        let is = Seen { state: state.clone(), ai_status: ai_status.clone(), version: i64::from(*version) };
        match view.calls.get(call_id) {
            Some(seen) if *seen == is => {}
            None if !is_recent => {}
            seen => different.push(format!("{call_id} is {is:?}, it sees {seen:?}")),
        }
    }
    let unknown = view.calls.keys().filter(|call_id| !there.contains_key(call_id.as_str()));
    different.extend(unknown.map(|call_id| format!("{call_id} is not there, it sees it")));
    Ok(different)
}
