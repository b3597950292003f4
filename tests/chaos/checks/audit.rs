//! The product's own proof, at the end: it has to come to the same.

use crate::findings::{Finding, Sort};
use crate::stack::Stack;

/// Runs `callfleet audit` over all of the stack's rounds.
pub(crate) async fn check(stack: &Stack, rounds: &[usize]) -> anyhow::Result<Option<Finding>> {
    let ledger = stack.load.shared.ledger.join(rounds.iter().copied())?;
    let ledger = ledger.to_string_lossy();
    let audited = stack.callfleet(&["audit", "--wait", "30s", "--ledger", &ledger]).await;
    Ok(audited.err().map(|error| Finding::new(Sort::Broken, format!("the audit does not balance: {error:#}"))))
}
