//! How a call came to be what it is, and what it waits for.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::{Link, Store, StoreError, calls};
use crate::domain::{Call, CallKey, LastAttempt, Ranges, waiting};
use crate::wire::call::{Timeline, TimelineEntry};

/// Transitions and attempts that a timeline shows of each, the newest: a sender that changes a
/// call's metadata with every packet makes as many versions.
const ENTRIES_MAX: i64 = 1000;
/// Time for each of its statements.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The timeline of a call, if it is there, all of one moment.
///
/// # Errors
/// When the database is away.
pub async fn of_call(store: &Store, key: CallKey) -> Result<Option<Timeline>, StoreError> {
    let mut tx = super::snapshot::begin(store, PATIENCE).await?;
    let Some(call) = calls::load(&mut tx, &[key]).await?.pop() else {
        tx.rollback().await?;
        return Ok(None);
    };
    let transitions = transitions(&mut tx, &call).await?;
    let attempts = attempts(&mut tx, key).await?;
    tx.rollback().await?;
    let last = attempts.iter().rev().find_map(|attempt| last_attempt(attempt, call.generation));
    let earlier_left_out = transitions.len() >= usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX)
        && transitions.first().is_some_and(|first| !matches!(first, TimelineEntry::Transition { version: 1, .. }));
    Ok(Some(Timeline {
        call_id: call.call_id.as_str().to_owned(),
        state: call.state,
        ai_status: call.ai_status,
        waiting_for: waiting::reason(&call, last.as_ref(), store.now()),
        earlier_left_out,
        entries: merged(transitions, attempts),
    }))
}

async fn transitions(connection: &mut Link, call: &Call) -> Result<Vec<TimelineEntry>, StoreError> {
    let rows = sqlx::query!(
        r#"/* timeline.transitions */
        SELECT version, from_state, to_state, ai_status, at, actor, reason
          FROM transitions WHERE call_key = $1 ORDER BY version DESC LIMIT $2"#,
        call.key.as_uuid(),
        ENTRIES_MAX
    )
    .fetch_all(connection)
    .await?;
    let unreadable = |error: crate::domain::state::UnknownName| StoreError::Unreadable {
        key: call.key,
        detail: format!("transition {error}"),
    };
    rows.into_iter()
        .rev()
        .map(|row| {
            Ok(TimelineEntry::Transition {
                at: row.at,
                version: row.version,
                from: row.from_state.map(|from| from.parse()).transpose().map_err(unreadable)?,
                to: row.to_state.parse().map_err(unreadable)?,
                ai_status: row.ai_status.parse().map_err(unreadable)?,
                actor: row.actor,
                reason: row.reason,
            })
        })
        .collect()
}

async fn attempts(connection: &mut Link, key: CallKey) -> Result<Vec<TimelineEntry>, StoreError> {
    let rows = sqlx::query!(
        r#"/* timeline.attempts */
        SELECT generation, attempt, worker, started_at, charged, ended_at, class, http_status, fingerprint, message,
               sent AS "sent: Json<Ranges>"
          FROM attempts WHERE call_key = $1 ORDER BY generation DESC, attempt DESC LIMIT $2"#,
        key.as_uuid(),
        ENTRIES_MAX
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .rev()
        .map(|row| TimelineEntry::Attempt {
            at: row.started_at,
            generation: row.generation,
            attempt: row.attempt,
            worker: row.worker,
            ended_at: row.ended_at,
            class: row.class,
            http_status: row.http_status,
            fingerprint: row.fingerprint,
            message: row.message,
            charged: row.charged,
            sent: row.sent.map(|Json(sent)| sent),
        })
        .collect())
}

fn last_attempt(entry: &TimelineEntry, of_generation: i32) -> Option<LastAttempt> {
    match entry {
        TimelineEntry::Attempt { generation, worker, class, http_status, message, .. }
            if *generation == of_generation =>
        {
            Some(LastAttempt {
                worker: worker.clone(),
                class: class.as_deref().and_then(|class| class.parse().ok()),
                http_status: *http_status,
                message: message.clone(),
            })
        }
        _ => None,
    }
}

/// Both in their own order, an attempt after the transition that claimed it: clocks of several
/// machines may disagree by a little, versions do not.
fn merged(transitions: Vec<TimelineEntry>, attempts: Vec<TimelineEntry>) -> Vec<TimelineEntry> {
    let mut entries = Vec::with_capacity(transitions.len() + attempts.len());
    let mut attempts = attempts.into_iter().peekable();
    for transition in transitions {
        let at: DateTime<Utc> = transition.at();
        while let Some(earlier) = attempts.next_if(|attempt| attempt.at() < at) {
            entries.push(earlier);
        }
        entries.push(transition);
        while let Some(claimed) = attempts.next_if(|attempt| attempt.at() <= at) {
            entries.push(claimed);
        }
    }
    entries.extend(attempts);
    entries
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::merged;
    use crate::domain::{AiStatus, State};
    use crate::wire::call::TimelineEntry;

    fn transition(version: i32, at_s: i64) -> TimelineEntry {
        TimelineEntry::Transition {
            at: DateTime::from_timestamp(at_s, 0).unwrap(),
            version,
            from: None,
            to: State::ProcessingAi,
            ai_status: AiStatus::Running,
            actor: String::new(),
            reason: String::new(),
        }
    }

    fn attempt(attempt: i32, at_s: i64) -> TimelineEntry {
        TimelineEntry::Attempt {
            at: DateTime::from_timestamp(at_s, 0).unwrap(),
            generation: 1,
            attempt,
            worker: String::new(),
            ended_at: None,
            class: None,
            http_status: None,
            fingerprint: None,
            message: None,
            charged: true,
            sent: None,
        }
    }

    #[test]
    fn an_attempt_follows_its_claim_and_versions_stay_in_order() {
        let all = merged(
            vec![transition(1, 0), transition(2, 5), transition(3, 4), transition(4, 9)],
            vec![attempt(1, 5), attempt(2, 9)],
        );
        let names: Vec<String> = all
            .iter()
            .map(|entry| match entry {
                TimelineEntry::Transition { version, .. } => format!("v{version}"),
                TimelineEntry::Attempt { attempt, .. } => format!("a{attempt}"),
            })
            .collect();
        assert_eq!(names.join(" "), "v1 v2 a1 v3 v4 a2");
    }
}
