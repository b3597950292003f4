//! The steps of a call, and what each refuses.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Call, End, Holder, Metadata};
use crate::domain::{AiStatus, CallId, Class, Failure, Policy, Ranges, Refused, Stage, State, Tenant};

const HOLDER: Holder<'_> = Holder { token: Uuid::from_u128(1), worker: "w1" };

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn completed(policy: &Policy) -> Call {
    let call = Call::open(Tenant::open_mode(), CallId::new("c").unwrap(), Metadata::default(), start(), policy).call;
    call.complete("reconciler", "settled", start(), policy).unwrap().call
}

fn transient() -> Failure {
    Failure::new(Class::Transient, Stage::Ask, Some(500), "no")
}

#[test]
fn a_call_is_given_up_after_its_last_charged_attempt_and_not_before() {
    let policy = Policy::default();
    let mut call = completed(&policy);
    let mut now = start();
    for attempt in 1..=policy.max_attempts {
        call = call.claim(1, HOLDER, now, &policy).unwrap().call;
        assert_eq!(call.attempts.charged, attempt);
        let change = call.fail(HOLDER, &transient(), 0, Duration::from_secs(1), now, &policy).unwrap();
        assert_eq!(change.dead_letter.is_some(), attempt == policy.max_attempts);
        call = change.call;
        now += Duration::from_secs(1);
    }
    assert_eq!((call.state, call.ai_status), (State::Failed, AiStatus::DeadLettered));
    assert!(call.claim(1, HOLDER, now, &policy).is_err());
}

#[test]
fn a_busy_service_costs_no_attempt_but_not_for_ever() {
    let policy = Policy::default();
    let mut call = completed(&policy);
    let busy = Failure::new(Class::Busy, Stage::Ask, Some(429), "slow down");
    for uncharged in 1..=super::MAX_UNCHARGED_ATTEMPTS {
        call = call.claim(1, HOLDER, start(), &policy).unwrap().call;
        let change = call.fail(HOLDER, &busy, 0, Duration::ZERO, start(), &policy).unwrap();
        assert_eq!((change.call.attempts.charged, change.call.attempts.uncharged), (0, uncharged));
        assert_eq!(change.dead_letter.is_some(), uncharged == super::MAX_UNCHARGED_ATTEMPTS);
        call = change.call;
    }
}

#[test]
fn a_retry_is_not_begun_before_it_is_due() {
    let policy = Policy::default();
    let call = completed(&policy).claim(1, HOLDER, start(), &policy).unwrap().call;
    let call = call.fail(HOLDER, &transient(), 0, Duration::from_secs(4), start(), &policy).unwrap().call;
    let due = start() + Duration::from_secs(4);
    assert_eq!(call.claim(1, HOLDER, due - Duration::from_millis(1), &policy).unwrap_err(), Refused::NotDue(due));
    assert!(call.claim(1, HOLDER, due, &policy).is_ok());
}

#[test]
fn only_the_holder_of_the_standing_token_records() {
    let policy = Policy::default();
    let call = completed(&policy).claim(1, HOLDER, start(), &policy).unwrap().call;
    let other = Holder { token: Uuid::from_u128(2), worker: "w2" };
    assert_eq!(call.succeed(other, start()).unwrap_err(), Refused::LeaseLost);
    let over = start() + policy.lease;
    let taken = call.claim(1, other, over, &policy).unwrap().call;
    assert_eq!(taken.succeed(HOLDER, over).unwrap_err(), Refused::LeaseLost);
    assert!(taken.succeed(other, over).is_ok());
    assert_eq!(taken.claim(1, HOLDER, over, &policy).unwrap_err(), Refused::Held(over + policy.lease));
}

#[test]
fn a_call_that_kills_its_workers_is_given_up_when_its_attempts_are_used_up() {
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let call = completed(&policy).claim(1, HOLDER, start(), &policy).unwrap().call;
    assert!(matches!(call.expire("reconciler", start(), &policy), Err(Refused::Held(_))));
    let over = start() + policy.lease;
    assert_eq!(call.claim(1, HOLDER, over, &policy).unwrap_err(), Refused::Exhausted);
    let change = call.expire("reconciler", over, &policy).unwrap();
    assert_eq!(change.dead_letter.unwrap().class, Class::Crash);
}

#[test]
fn the_third_unreadable_answer_and_the_first_permanent_refusal_give_a_call_up() {
    let policy = Policy::default();
    let call = completed(&policy).claim(1, HOLDER, start(), &policy).unwrap().call;
    let invalid = Failure::new(Class::Invalid, Stage::Ask, Some(200), "garbage");
    let fail = |failure, answers| call.fail(HOLDER, failure, answers, Duration::ZERO, start(), &policy).unwrap();
    assert!(fail(&invalid, 2).dead_letter.is_none());
    assert!(fail(&invalid, 3).dead_letter.is_some());
    assert!(fail(&Failure::new(Class::Permanent, Stage::Ask, Some(422), "no"), 0).dead_letter.is_some());
}

#[test]
fn a_call_is_whole_only_when_the_end_named_the_last_sequence_and_all_are_there() {
    let mut call =
        Call::open(Tenant::open_mode(), CallId::new("c").unwrap(), Metadata::default(), start(), &Policy::default())
            .call;
    assert!(!call.is_whole(&Ranges::of([1, 2, 3])));
    call.end = Some(End { at: start(), reason: "hangup".to_owned(), final_sequence: Some(3) });
    assert!(call.is_whole(&Ranges::of([1, 2, 3])));
    assert!(!call.is_whole(&Ranges::of([1, 3])));
    call.end.as_mut().unwrap().final_sequence = None;
    assert!(!call.is_whole(&Ranges::of([1, 2, 3])));
}

#[test]
fn metadata_grows_and_silence_changes_nothing() {
    let policy = Policy::default();
    let first = Metadata { queue: Some("sales".to_owned()), ..Metadata::default() };
    let call = Call::open(Tenant::open_mode(), CallId::new("c").unwrap(), first, start(), &policy).call;
    assert!(call.describe(&Metadata::default(), start()).is_none());
    let newer = Metadata { agent: Some("a7".to_owned()), ..Metadata::default() };
    let change = call.describe(&newer, start()).unwrap();
    assert_eq!((change.call.version, change.call.metadata.queue.as_deref()), (2, Some("sales")));
}

#[test]
fn metadata_that_says_nothing_reads_back() {
    let silent = serde_json::to_string(&Metadata::default()).unwrap();
    assert_eq!(serde_json::from_str::<Metadata>(&silent).unwrap(), Metadata::default());
}
