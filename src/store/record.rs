//! Records: what came of attempts, many in one transaction, each only under the lease it ran under.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Link, Session, StoreError, attempts, calls, change, results};
use crate::domain::{Call, CallKey, Change, Class, Failure, Holder, Policy, Ranges, Refused};
use crate::wire::outgoing::Outgoing;

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which call.
    pub key: CallKey,
    /// The token of the claim.
    pub token: Uuid,
    /// The worker's name.
    pub worker: Arc<str>,
    /// Which sequences were sent; none when it did not come to that.
    pub sent: Option<Ranges>,
    /// How it ended.
    pub ending: Ending,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With a transcript.
    Answered {
        /// The HTTP status of the answer.
        http_status: u16,
        /// The transcript.
        transcript: String,
        /// The whole answer as it came.
        response: String,
    },
    /// With a failure; should another attempt be left, it is due after `delay`.
    Failed {
        /// What happened.
        failure: Failure,
        /// How long to wait.
        delay: Duration,
    },
    /// Unfinished: the worker was asked to stop.
    HandedBack,
}

/// Records what came of attempts, in one transaction: for each, in their order, the call as it is
/// now, or why nothing was changed; and the messages to hand to the relay.
///
/// # Errors
/// When the database is away, or refuses: then nothing was recorded.
pub async fn record(
    session: &mut Session,
    records: &[Arc<Record>],
    policy: &Policy,
) -> Result<(Vec<Result<Call, Refused>>, Vec<Outgoing>), StoreError> {
    let keys: Vec<CallKey> = records.iter().map(|record| record.key).collect();
    let store = session.store().clone();
    let mut tx = session.begin().await?;
    let locked = calls::lock(&mut tx, &keys).await?;
    let now = store.now();

    let mut present: HashMap<CallKey, Call> = locked.into_iter().map(|call| (call.key, call)).collect();
    let mut answers = Vec::with_capacity(records.len());
    let mut taken: Vec<(&Record, Call, Change)> = Vec::with_capacity(records.len());
    for record in records {
        let Some(call) = present.get_mut(&record.key) else {
            answers.push(Err(Refused::LeaseLost));
            continue;
        };
        let invalid = invalid_answers(&mut tx, record, call).await?;
        match decide(record, call, invalid, now, policy) {
            Err(refused) => answers.push(Err(refused)),
            Ok(change) => {
                let before = std::mem::replace(call, change.call.clone());
                answers.push(Ok(change.call.clone()));
                taken.push((record, before, change));
            }
        }
    }
    if taken.is_empty() {
        // Dropped alone, it would cost the session its connection.
        tx.rollback().await?;
        return Ok((answers, Vec::new()));
    }
    // Attempts first: a dead letter lists them as they ended.
    let ended: Vec<attempts::Ended<'_>> = taken.iter().map(|(record, before, _)| ended(record, before)).collect();
    attempts::end(&mut tx, &ended, now).await?;
    let transcripts: Vec<(&Call, &str, &str)> = taken.iter().filter_map(|(r, before, _)| answer(r, before)).collect();
    if !transcripts.is_empty() {
        results::append(&mut tx, &transcripts, now).await?;
    }
    let changes: Vec<Change> = taken.into_iter().map(|(_, _, change)| change).collect();
    let outgoing = change::save_locked(&mut tx, &changes, now).await?;
    tx.commit().await?;
    Ok((answers, outgoing))
}

fn decide(
    record: &Record,
    call: &Call,
    invalid_answers: u32,
    now: chrono::DateTime<chrono::Utc>,
    policy: &Policy,
) -> Result<Change, Refused> {
    let holder = Holder { token: record.token, worker: &record.worker };
    match &record.ending {
        Ending::Answered { .. } => call.succeed(holder, now),
        Ending::Failed { failure, delay } => call.fail(holder, failure, invalid_answers, *delay, now, policy),
        Ending::HandedBack => call.hand_back(holder, now, policy),
    }
}

/// The unreadable answers of the call's generation, this one included.
async fn invalid_answers(connection: &mut Link, record: &Record, call: &Call) -> Result<u32, StoreError> {
    match &record.ending {
        Ending::Failed { failure, .. } if failure.class == Class::Invalid => {
            Ok(attempts::count_invalid(connection, call.key, call.generation).await?.saturating_add(1))
        }
        _ => Ok(0),
    }
}

fn ended<'a>(record: &'a Record, call: &'a Call) -> attempts::Ended<'a> {
    let sent = record.sent.as_ref();
    let (class, failure, http_status) = match &record.ending {
        Ending::Answered { http_status, .. } => (Class::Done, None, Some(*http_status)),
        Ending::Failed { failure, .. } => (failure.class, Some(failure), failure.http_status),
        Ending::HandedBack => (Class::HandedBack, None, None),
    };
    attempts::Ended { call, class, failure, http_status, sent }
}

fn answer<'a>(record: &'a Record, call: &'a Call) -> Option<(&'a Call, &'a str, &'a str)> {
    match &record.ending {
        Ending::Answered { transcript, response, .. } => Some((call, transcript, response)),
        Ending::Failed { .. } | Ending::HandedBack => None,
    }
}
