//! What must hold after every fault, from the ledger, plain SQL and the streams alone.

pub(crate) mod audit;
mod calls;
mod events;
mod messages;
mod packets;
mod view;

use crate::findings::Finding;
use crate::ledger::Read;
use crate::load::prefix;
use crate::stack::Stack;

pub(crate) use events::Announced;

/// What is remembered from one check to the next.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) announced: Announced,
}

/// Everything about one round's calls, and everything that is global.
pub(crate) async fn all(stack: &Stack, round: usize, memory: &mut Memory) -> anyhow::Result<Vec<Finding>> {
    let read = stack.load.shared.ledger.read(round)?;
    let mut findings = of_round(stack, round, &read).await?;
    findings.extend(calls::check(stack.pool()).await?);
    findings.extend(messages::check(stack).await?);
    findings.extend(events::check(stack, &mut memory.announced).await?);
    findings.extend(view::check(stack).await?);
    Ok(findings)
}

/// Everything about one round's packets, however long ago that was.
pub(crate) async fn of_round(stack: &Stack, round: usize, read: &Read) -> anyhow::Result<Vec<Finding>> {
    packets::check(stack.pool(), &prefix(round), read).await
}
