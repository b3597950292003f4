//! What must be empty, and what must match one to one: outbox, work stream, spool, dead letters; and
//! that every request the AI service saw was counted before it was made.

use std::collections::BTreeMap;

use crate::findings::{Finding, Sort};
use crate::jetstream::{self, DLQ, SPOOL, WORK};
use crate::stack::Stack;

pub(super) async fn check(stack: &Stack) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let outbox: Vec<String> =
        sqlx::query_scalar("SELECT format('%s since %s', msg_id, created_at) FROM outbox ORDER BY created_at")
            .fetch_all(stack.pool())
            .await?;
    findings.extend(Finding::of(Sort::Broken, "messages left in the outbox", &outbox));
    for stream in [WORK, SPOOL] {
        let subjects = jetstream::subjects(stack.nats.client(), stream).await?;
        let left: Vec<String> = subjects.into_iter().map(|(subject, count)| format!("{count} on {subject}")).collect();
        findings.extend(Finding::of(Sort::Broken, &format!("messages left in {stream}"), &left));
    }
    findings.extend(dead_letters(stack).await?);
    findings.extend(requests(stack).await?);
    Ok(findings)
}

/// Letters in the table and messages in the stream, one to one.
async fn dead_letters(stack: &Stack) -> anyhow::Result<Option<Finding>> {
    let letters: Vec<String> = sqlx::query_scalar("SELECT subject FROM dead_letters").fetch_all(stack.pool()).await?;
    let mut both: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for subject in letters {
        both.entry(subject).or_default().0 += 1;
    }
    for (subject, count) in jetstream::subjects(stack.nats.client(), DLQ).await? {
        both.entry(subject).or_default().1 += count;
    }
    let unequal = both.into_iter().filter(|(_, counts)| *counts != (1, 1));
    let lines: Vec<String> =
        unequal.map(|(subject, (rows, messages))| format!("{subject}: {rows} rows, {messages} messages")).collect();
    Ok(Finding::of(Sort::Broken, "dead letters that are not one to one in table and stream", &lines))
}

async fn requests(stack: &Stack) -> anyhow::Result<Option<Finding>> {
    let requests = stack.ai.stats().await?.requests;
    let attempts: i64 = sqlx::query_scalar("SELECT count(*) FROM attempts").fetch_one(stack.pool()).await?;
    let is_counted = u64::try_from(attempts).is_ok_and(|attempts| requests <= attempts);
    let what = format!("the AI service saw {requests} requests, and there are only {attempts} attempts");
    Ok((!is_counted).then(|| Finding::new(Sort::Broken, what)))
}
