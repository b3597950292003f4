//! Why a call waits now, in words for people.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{AiStatus, Call, Class};

/// The newest attempt of a call's present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    /// Who asked.
    pub worker: String,
    /// How it ended; none while it runs.
    pub class: Option<Class>,
    /// The HTTP status of the answer.
    pub http_status: Option<i32>,
    /// What happened.
    pub message: Option<String>,
}

/// What `call` waits for at `now`; none when it waits for nothing.
#[must_use]
pub fn reason(call: &Call, last: Option<&LastAttempt>, now: DateTime<Utc>) -> Option<String> {
    let what = match call.ai_status {
        AiStatus::None => packets(call),
        AiStatus::Pending => "a worker: its job is on the work stream".to_owned(),
        AiStatus::Running => running(call, last, now),
        AiStatus::RetryScheduled => retry(call, last, now),
        AiStatus::DeadLettered => format!(
            "an operator: given up after {}{}",
            attempts(call.attempts.total()),
            last.map(failure).unwrap_or_default()
        ),
        AiStatus::Succeeded | AiStatus::Discarded => return None,
    };
    Some(what + &overdue(call, now))
}

fn packets(call: &Call) -> String {
    match (&call.end, call.reconcile_at) {
        (Some(end), Some(settled)) => format!(
            "late packets: the end came at {} ({}), settling until {}",
            shown(end.at),
            end.reason,
            shown(settled)
        ),
        (None, Some(idle)) => format!("packets: no end signal yet; looked at for silence at {}", shown(idle)),
        (_, None) => "the next sweep: the reconciler has not been told to look at it".to_owned(),
    }
}

fn running(call: &Call, last: Option<&LastAttempt>, now: DateTime<Utc>) -> String {
    let worker = last.map_or("a worker", |attempt| attempt.worker.as_str());
    match call.lease {
        Some(lease) if lease.until <= now => {
            format!(
                "another worker: the lease of {worker} ran out at {} (attempt {})",
                shown(lease.until),
                call.attempts.total()
            )
        }
        Some(lease) => format!(
            "the AI service: attempt {} by {worker}, leased until {}",
            call.attempts.total(),
            shown(lease.until)
        ),
        None => format!("the AI service: attempt {} by {worker}", call.attempts.total()),
    }
}

fn retry(call: &Call, last: Option<&LastAttempt>, now: DateTime<Utc>) -> String {
    let after = format!(" after {}{}", attempts(call.attempts.total()), last.map(failure).unwrap_or_default());
    match call.next_attempt_at {
        Some(due) if due > now => format!("its retry, due at {}{after}", shown(due)),
        Some(due) => format!("a worker: its retry was due at {}{after}", shown(due)),
        None => format!("its retry{after}"),
    }
}

/// ` (transient failure, HTTP 503: the service answered …)`.
fn failure(attempt: &LastAttempt) -> String {
    let Some(class) = attempt.class else { return String::new() };
    if class == Class::HandedBack {
        return " (handed back by a worker that was asked to stop)".to_owned();
    }
    let status = attempt.http_status.map_or_else(String::new, |status| format!(", HTTP {status}"));
    let message = attempt.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    format!(" ({class} failure{status}{message})")
}

fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{count} attempts") }
}

/// The reconciler is behind: whoever asks why nothing happens should hear that first.
fn overdue(call: &Call, now: DateTime<Utc>) -> String {
    const SLACK: chrono::TimeDelta = chrono::TimeDelta::seconds(10);
    match call.reconcile_at {
        Some(due) if due + SLACK < now => {
            format!(". The reconciler should have looked at {}: does an ai-worker run?", shown(due))
        }
        _ => String::new(),
    }
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::{LastAttempt, reason};
    use crate::domain::{Call, CallId, Class, End, Failure, Holder, Metadata, Policy, Stage, Tenant};

    const HOLDER: Holder<'_> = Holder { token: Uuid::from_u128(1), worker: "w1" };

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn opened() -> Call {
        let id = CallId::new("c").unwrap();
        Call::open(Tenant::open_mode(), id, Metadata::default(), start(), &Policy::default()).call
    }

    fn attempt(class: Option<Class>) -> LastAttempt {
        let message = class.map(|_| "no luck".to_owned());
        LastAttempt { worker: "w1".to_owned(), class, http_status: class.map(|_| 503), message }
    }

    #[test]
    fn every_state_says_what_it_waits_for() {
        let policy = Policy::default();
        let now = start();
        let mut call = opened();
        let says = |call: &Call, class: Option<Class>| reason(call, Some(&attempt(class)), now);
        assert!(reason(&call, None, now).unwrap().starts_with("packets: no end signal yet"));
        call.end = Some(End { at: now, reason: "hangup".to_owned(), final_sequence: None });
        assert!(
            reason(&call, None, now).unwrap().starts_with("late packets: the end came at 2023-11-14T22:13:20.000Z")
        );
        let call = call.complete("reconciler", "settled", now, &policy).unwrap().call;
        assert_eq!(reason(&call, None, now).unwrap(), "a worker: its job is on the work stream");
        let call = call.claim(1, HOLDER, now, &policy).unwrap().call;
        assert_eq!(
            says(&call, None).unwrap(),
            "the AI service: attempt 1 by w1, leased until 2023-11-14T22:13:50.000Z"
        );
        assert!(says(&call.succeed(HOLDER, now).unwrap().call, Some(Class::Done)).is_none());
        let failure = Failure::new(Class::Transient, Stage::Ask, Some(503), "no luck");
        let failed = call.fail(HOLDER, &failure, 0, Duration::from_secs(2), now, &policy).unwrap().call;
        assert_eq!(
            says(&failed, Some(Class::Transient)).unwrap(),
            "its retry, due at 2023-11-14T22:13:22.000Z after 1 attempt (transient failure, HTTP 503: no luck)"
        );
        let failure = Failure { class: Class::Permanent, ..failure };
        let dead = call.fail(HOLDER, &failure, 0, Duration::ZERO, now, &policy).unwrap().call;
        assert!(says(&dead, Some(Class::Permanent)).unwrap().starts_with("an operator: given up after 1 attempt ("));
    }

    #[test]
    fn a_call_that_nobody_looks_at_says_so() {
        let policy = Policy::default();
        let call = opened().complete("reconciler", "settled", start(), &policy).unwrap().call;
        let later = start() + Duration::from_mins(10);
        assert!(reason(&call, None, later).unwrap().contains("does an ai-worker run?"));
        let call = call.claim(1, HOLDER, start(), &policy).unwrap().call;
        assert!(reason(&call, Some(&attempt(None)), later).unwrap().starts_with("another worker: the lease of w1"));
    }
}
