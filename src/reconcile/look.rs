//! What is due for one call. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::storing::Storing;
use crate::domain::{AiStatus, Call, Policy, Ranges, State};

/// The longest time between two looks at a job that waits. Looks become rarer the longer it does: a
/// backlog must not multiply, and the loss of a whole stream is noticed otherwise.
const LOOK_AGAIN_MAX: Duration = Duration::from_mins(5);

/// Pause before another look at a call of which packets may be on their way.
const CUT_OFF_PAUSE: Duration = Duration::from_secs(1);

/// What the packets of a call say.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When the last one came.
    pub(super) last_received: Option<DateTime<Utc>>,
    /// Which are there; read only for calls with an end signal.
    pub(super) there: Ranges,
}

/// What to do about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is over, for this reason.
    Complete(&'static str),
    /// Its message may be lost: the job is issued again, and the call looked at again.
    Reissue { replaces: bool, look_at: DateTime<Utc> },
    /// Its workers went away with it too often.
    GiveUp,
    /// Nothing before this time.
    LookAgain(DateTime<Utc>),
    /// Nothing at all.
    Nothing,
}

pub(super) fn due(call: &Call, seen: &Seen, storing: Storing, now: DateTime<Utc>, policy: &Policy) -> Due {
    match call.ai_status {
        AiStatus::None => in_progress(call, seen, storing, now, policy),
        AiStatus::Pending => reissue(call, false, now, policy),
        AiStatus::Running => running(call, now, policy),
        AiStatus::RetryScheduled => match call.next_attempt_at {
            Some(at) if at > now => Due::LookAgain(at),
            _ => reissue(call, false, now, policy),
        },
        AiStatus::Succeeded | AiStatus::DeadLettered | AiStatus::Discarded => Due::Nothing,
    }
}

fn in_progress(call: &Call, seen: &Seen, storing: Storing, now: DateTime<Utc>, policy: &Policy) -> Due {
    if call.state != State::InProgress {
        return Due::Nothing;
    }
    if call.is_whole(&seen.there) {
        return Due::Complete("ended and whole");
    }
    let cut_off = Due::LookAgain(now + CUT_OFF_PAUSE);
    if !storing.is_spool_empty {
        return cut_off;
    }
    let (over_at, reason) = match (&call.end, storing.since) {
        (Some(end), _) => (end.at + policy.settle, "settled"),
        (None, None) => return cut_off,
        // Silence counts while the PBX could be heard: from the last packet, but not from before the
        // call, and not from before what it said could be stored again.
        (None, Some(since)) => {
            let last = seen.last_received.unwrap_or(call.created_at).max(call.created_at).max(since);
            (last + policy.idle_timeout, "idle")
        }
    };
    if over_at <= now { Due::Complete(reason) } else { Due::LookAgain(over_at) }
}

fn running(call: &Call, now: DateTime<Utc>, policy: &Policy) -> Due {
    match call.lease {
        Some(lease) if lease.until > now => Due::LookAgain(lease.until),
        _ if call.attempts.charged >= policy.max_attempts => Due::GiveUp,
        // Whoever held it is gone, and so is what its message was waiting for.
        _ => reissue(call, true, now, policy),
    }
}

fn reissue(call: &Call, replaces: bool, now: DateTime<Utc>, policy: &Policy) -> Due {
    let since = call.lease.map(|lease| lease.until).or(call.next_attempt_at).unwrap_or(call.updated_at);
    let waited = (now - since).to_std().unwrap_or(Duration::ZERO);
    Due::Reissue { replaces, look_at: now + waited.min(LOOK_AGAIN_MAX).max(policy.reissue) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::{CUT_OFF_PAUSE, Due, LOOK_AGAIN_MAX, Seen, Storing, due};
    use crate::domain::{Call, CallId, End, Holder, Metadata, Policy, Ranges, Tenant};

    const HOLDER: Holder<'_> = Holder { token: Uuid::from_u128(1), worker: "w" };

    const LONG_STORING: Storing = Storing { since: Some(DateTime::UNIX_EPOCH), is_spool_empty: true };

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn open(policy: &Policy) -> Call {
        Call::open(Tenant::open_mode(), CallId::new("c").unwrap(), Metadata::default(), start(), policy).call
    }

    #[test]
    fn silence_is_counted_from_the_last_packet_and_never_from_before_the_call() {
        let policy = Policy::default();
        let call = open(&policy);
        let look = |last: Option<DateTime<Utc>>, now| {
            due(&call, &Seen { last_received: last, ..Seen::default() }, LONG_STORING, now, &policy)
        };
        let idle_at = start() + policy.idle_timeout;
        assert_eq!(look(None, start()), Due::LookAgain(idle_at));
        assert_eq!(look(Some(start() - seconds(900)), idle_at - seconds(1)), Due::LookAgain(idle_at));
        assert_eq!(look(Some(start() + seconds(7)), idle_at), Due::LookAgain(idle_at + seconds(7)));
        assert_eq!(look(Some(start() + seconds(7)), idle_at + seconds(7)), Due::Complete("idle"));
    }

    #[test]
    fn silence_of_a_pbx_that_could_not_be_heard_does_not_count() {
        let policy = Policy::default();
        let call = open(&policy);
        let seen = Seen { last_received: Some(start()), ..Seen::default() };
        let long_after = start() + seconds(3600);
        let nobody_stores = Storing { since: None, is_spool_empty: true };
        assert_eq!(due(&call, &seen, nobody_stores, long_after, &policy), Due::LookAgain(long_after + CUT_OFF_PAUSE));
        let back = Storing { since: Some(long_after), is_spool_empty: true };
        assert_eq!(due(&call, &seen, back, long_after, &policy), Due::LookAgain(long_after + policy.idle_timeout));
        assert_eq!(due(&call, &seen, back, long_after + policy.idle_timeout, &policy), Due::Complete("idle"));
    }

    #[test]
    fn a_call_does_not_settle_while_packets_wait_in_the_spool_unless_it_is_whole() {
        let policy = Policy::default();
        let mut call = open(&policy);
        call.end = Some(End { at: start(), reason: "hangup".to_owned(), final_sequence: Some(2) });
        let long_after = start() + seconds(60);
        let look = |there: &[i64]| {
            let seen = Seen { last_received: None, there: Ranges::of(there.iter().copied()) };
            due(&call, &seen, Storing { is_spool_empty: false, ..LONG_STORING }, long_after, &policy)
        };
        assert_eq!(look(&[1]), Due::LookAgain(long_after + CUT_OFF_PAUSE));
        assert_eq!(look(&[1, 2]), Due::Complete("ended and whole"));
    }

    #[test]
    fn an_ended_call_settles_unless_it_is_whole_before() {
        let policy = Policy::default();
        let mut call = open(&policy);
        call.end = Some(End { at: start() + seconds(10), reason: "hangup".to_owned(), final_sequence: Some(3) });
        let look = |there: &[i64], now| {
            let there = Ranges::of(there.iter().copied());
            due(&call, &Seen { last_received: None, there }, LONG_STORING, now, &policy)
        };
        let settled_at = start() + seconds(12);
        assert_eq!(look(&[1, 3], start() + seconds(11)), Due::LookAgain(settled_at));
        assert_eq!(look(&[1, 3], settled_at), Due::Complete("settled"));
        assert_eq!(look(&[1, 2, 3], start() + seconds(10)), Due::Complete("ended and whole"));
    }

    #[test]
    fn a_job_that_waits_is_looked_at_ever_more_rarely() {
        let policy = Policy::default();
        let call = open(&policy).complete("test", "", start(), &policy).unwrap().call;
        for (waited, again) in [(30, 30), (60, 60), (1, 30), (100, 100), (100_000, LOOK_AGAIN_MAX.as_secs())] {
            let now = start() + seconds(waited);
            let look_at = now + seconds(again);
            assert_eq!(
                due(&call, &Seen::default(), LONG_STORING, now, &policy),
                Due::Reissue { replaces: false, look_at }
            );
        }
    }

    #[test]
    fn a_lease_that_is_over_sends_the_job_again_until_no_attempt_is_left() {
        let policy = Policy { max_attempts: 2, ..Policy::default() };
        let mut call = open(&policy).complete("test", "", start(), &policy).unwrap().call;
        call = call.claim(1, HOLDER, start(), &policy).unwrap().call;
        let over = start() + policy.lease;
        assert_eq!(due(&call, &Seen::default(), LONG_STORING, over - seconds(1), &policy), Due::LookAgain(over));
        let look_at = over + policy.reissue;
        assert_eq!(due(&call, &Seen::default(), LONG_STORING, over, &policy), Due::Reissue { replaces: true, look_at });
        call = call.claim(1, HOLDER, over, &policy).unwrap().call;
        assert_eq!(due(&call, &Seen::default(), LONG_STORING, over + policy.lease, &policy), Due::GiveUp);
    }
}
