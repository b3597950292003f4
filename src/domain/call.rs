//! A call and the only ways on.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::policy::{MAX_INVALID_ANSWERS, MAX_UNCHARGED_ATTEMPTS};
use super::{
    AiStatus, Attempts, CallId, CallKey, Change, Class, Failure, Issue, Lane, Policy, Ranges, Refused, State, Tenant,
};

/// A call: one row of `calls`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Our own name for it.
    pub key: CallKey,
    /// Whose it is.
    pub tenant: Tenant,
    /// The PBX's name for it.
    pub call_id: CallId,
    /// Where it is.
    pub state: State,
    /// What the AI's work has come to.
    pub ai_status: AiStatus,
    /// Raised by one with every change of state, `ai_status` or metadata.
    pub version: i32,
    /// Which asking of the AI this is, from 1.
    pub generation: i32,
    /// What the PBX says of it.
    pub metadata: Metadata,
    /// Attempts of this generation.
    pub attempts: Attempts,
    /// The end signal, once it came.
    pub end: Option<End>,
    /// The worker's hold on it, while the AI is asked.
    pub lease: Option<Lease>,
    /// When the next attempt is due, while one is scheduled.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the reconciler looks at it next.
    pub reconcile_at: Option<DateTime<Utc>>,
    /// When the first packet over its caps was refused.
    pub over_limit_at: Option<DateTime<Utc>>,
    /// First packet.
    pub created_at: DateTime<Utc>,
    /// Last change of version.
    pub updated_at: DateTime<Utc>,
    /// When it was over.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was done with.
    pub archived_at: Option<DateTime<Utc>>,
}

/// What a PBX may say of a call; what supervisors filter by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata {
    /// The queue it waited in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `inbound`, `outbound` or the PBX's own word
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// The calling party
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The called party
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The agent it belongs to
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Anything else
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This with what `newer` says on top; fields it is silent on stay.
    #[must_use]
    pub fn overlaid(&self, newer: &Self) -> Self {
        let mut tags = self.tags.clone();
        tags.extend(newer.tags.iter().map(|(k, v)| (k.clone(), v.clone())));
        Self {
            queue: newer.queue.clone().or_else(|| self.queue.clone()),
            direction: newer.direction.clone().or_else(|| self.direction.clone()),
            from: newer.from.clone().or_else(|| self.from.clone()),
            to: newer.to.clone().or_else(|| self.to.clone()),
            agent: newer.agent.clone().or_else(|| self.agent.clone()),
            tags,
        }
    }
}

/// The end signal of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When it came.
    pub at: DateTime<Utc>,
    /// Why, in the sender's words.
    pub reason: String,
    /// The last sequence there is, when the sender said so.
    pub final_sequence: Option<i64>,
}

/// A worker's hold on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Fencing: only its holder records.
    pub token: Uuid,
    /// Until when it stands unless renewed.
    pub until: DateTime<Utc>,
}

/// Who works on a call, and by which token.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The token of this one claim.
    pub token: Uuid,
    /// The worker's name, for the timeline.
    pub worker: &'a str,
}

impl Call {
    /// A call at its first packet.
    #[must_use]
    pub fn open(tenant: Tenant, call_id: CallId, metadata: Metadata, now: DateTime<Utc>, policy: &Policy) -> Change {
        let call = Self {
            key: CallKey::derive(&tenant, &call_id),
            tenant,
            call_id,
            state: State::InProgress,
            ai_status: AiStatus::None,
            version: 1,
            generation: 1,
            metadata,
            attempts: Attempts::default(),
            end: None,
            lease: None,
            next_attempt_at: None,
            reconcile_at: Some(now + policy.idle_timeout),
            over_limit_at: None,
            created_at: now,
            updated_at: now,
            completed_at: None,
            archived_at: None,
        };
        let (actor, reason) = ("ingest".to_owned(), "first packet".to_owned());
        Change { call, from: None, actor, reason, issue: None, dead_letter: None }
    }

    /// The call is over: its job is issued.
    ///
    /// # Errors
    /// When it was over already.
    pub fn complete(&self, actor: &str, reason: &str, now: DateTime<Utc>, policy: &Policy) -> Result<Change, Refused> {
        let mut change = self.step(State::Completed, AiStatus::Pending, actor, reason, now)?;
        change.call.completed_at = Some(now);
        change.call.reconcile_at = Some(now + policy.reissue);
        change.issue = Some(Issue { lane: Lane::Live, replaces: false });
        Ok(change)
    }

    /// Whether nothing more can come: the end signal is there, says which sequence is the last, and
    /// all of them are `there`.
    #[must_use]
    pub fn is_whole(&self, there: &Ranges) -> bool {
        self.end
            .as_ref()
            .and_then(|end| end.final_sequence)
            .is_some_and(|last| !there.is_empty() && there.missing(Some(last)).is_empty())
    }

    /// The PBX says more of the call than before; none when it says nothing new.
    #[must_use]
    pub fn describe(&self, newer: &Metadata, now: DateTime<Utc>) -> Option<Change> {
        let metadata = self.metadata.overlaid(newer);
        if metadata == self.metadata {
            return None;
        }
        let mut change = self.next(self.state, self.ai_status, "ingest", "metadata changed", now);
        change.call.metadata = metadata;
        Some(change)
    }

    /// A worker takes the job of `generation`; the attempt is charged from here.
    ///
    /// # Errors
    /// When another worker holds it, its retry is not due, or there is nothing (more) to do.
    pub fn claim(
        &self,
        generation: i32,
        holder: Holder<'_>,
        now: DateTime<Utc>,
        policy: &Policy,
    ) -> Result<Change, Refused> {
        if generation != self.generation {
            return Err(Refused::Outdated(generation));
        }
        if let Some(due) = self.next_attempt_at.filter(|due| *due > now) {
            return Err(Refused::NotDue(due));
        }
        if let Some(lease) = self.lease.filter(|lease| lease.until > now) {
            return Err(Refused::Held(lease.until));
        }
        if self.ai_status == AiStatus::DeadLettered {
            return Err(Refused::Illegal { from: self.state, to: State::ProcessingAi });
        }
        if self.attempts.charged >= policy.max_attempts {
            return Err(Refused::Exhausted);
        }
        let reason = if self.lease.is_some() { "claimed after the former worker went away" } else { "claimed" };
        let mut change = self.step(State::ProcessingAi, AiStatus::Running, holder.worker, reason, now)?;
        let until = now + policy.lease;
        change.call.lease = Some(Lease { token: holder.token, until });
        change.call.reconcile_at = Some(until);
        change.call.attempts = self.attempts.charge();
        Ok(change)
    }

    /// The transcript is there.
    ///
    /// # Errors
    /// When the holder's token is not the one that stands.
    pub fn succeed(&self, holder: Holder<'_>, now: DateTime<Utc>) -> Result<Change, Refused> {
        self.held_by(holder)?;
        let mut change = self.step(State::Archived, AiStatus::Succeeded, holder.worker, "transcript stored", now)?;
        change.call.archived_at = Some(now);
        Ok(change)
    }

    /// The attempt failed: another is scheduled after `delay`, or the call is given up.
    ///
    /// `invalid_answers` counts the unreadable answers of this generation, this one included.
    ///
    /// # Errors
    /// When the holder's token is not the one that stands.
    pub fn fail(
        &self,
        holder: Holder<'_>,
        failure: &Failure,
        invalid_answers: u32,
        delay: Duration,
        now: DateTime<Utc>,
        policy: &Policy,
    ) -> Result<Change, Refused> {
        self.held_by(holder)?;
        let attempts = if failure.class.is_charged() { self.attempts } else { self.attempts.refund() };
        let given_up = match failure.class {
            Class::Permanent => true,
            Class::Invalid if invalid_answers >= MAX_INVALID_ANSWERS => true,
            _ => attempts.charged >= policy.max_attempts || attempts.uncharged >= MAX_UNCHARGED_ATTEMPTS,
        };
        let mut change = if given_up {
            self.give_up(holder.worker, failure.clone(), now)?
        } else {
            self.retry_at(now + delay, holder.worker, &format!("{} failure", failure.class), now, policy)?
        };
        change.call.attempts = attempts;
        Ok(change)
    }

    /// The worker is asked to stop: the job goes back, uncharged and due at once.
    ///
    /// # Errors
    /// When the holder's token is not the one that stands.
    pub fn hand_back(&self, holder: Holder<'_>, now: DateTime<Utc>, policy: &Policy) -> Result<Change, Refused> {
        self.held_by(holder)?;
        let mut change = self.retry_at(now, holder.worker, "handed back", now, policy)?;
        change.call.attempts = self.attempts.refund();
        Ok(change)
    }

    /// The reconciler found the lease over with no attempt left: the call is given up.
    ///
    /// # Errors
    /// When the lease stands or attempts are left.
    pub fn expire(&self, actor: &str, now: DateTime<Utc>, policy: &Policy) -> Result<Change, Refused> {
        match self.lease {
            None => Err(Refused::LeaseLost),
            Some(lease) if lease.until > now => Err(Refused::Held(lease.until)),
            Some(lease) if self.attempts.charged < policy.max_attempts => Err(Refused::NotDue(lease.until)),
            Some(_) => self.give_up(actor, Failure::crash(), now),
        }
    }

    fn held_by(&self, holder: Holder<'_>) -> Result<(), Refused> {
        if self.lease.is_some_and(|lease| lease.token == holder.token) { Ok(()) } else { Err(Refused::LeaseLost) }
    }

    fn retry_at(
        &self,
        due: DateTime<Utc>,
        actor: &str,
        reason: &str,
        now: DateTime<Utc>,
        policy: &Policy,
    ) -> Result<Change, Refused> {
        let mut change = self.step(State::Failed, AiStatus::RetryScheduled, actor, reason, now)?;
        change.call.next_attempt_at = Some(due);
        // Short delays come back from the work stream by themselves; the reconciler looks a little
        // later whether they did. Long ones wait here alone.
        let slack = if due - now > chrono::TimeDelta::from_std(super::policy::NAK_DELAY_MAX).unwrap_or_default() {
            Duration::ZERO
        } else {
            policy.reissue
        };
        change.call.reconcile_at = Some(due + slack);
        Ok(change)
    }

    fn give_up(&self, actor: &str, failure: Failure, now: DateTime<Utc>) -> Result<Change, Refused> {
        let reason = format!("given up: {} failure", failure.class);
        let mut change = self.step(State::Failed, AiStatus::DeadLettered, actor, &reason, now)?;
        change.dead_letter = Some(failure);
        Ok(change)
    }

    fn step(
        &self,
        to: State,
        ai_status: AiStatus,
        actor: &str,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<Change, Refused> {
        if !self.state.may_become(to) {
            return Err(Refused::Illegal { from: self.state, to });
        }
        let mut change = self.next(to, ai_status, actor, reason, now);
        change.call.lease = None;
        change.call.next_attempt_at = None;
        change.call.reconcile_at = None;
        Ok(change)
    }

    fn next(&self, state: State, ai_status: AiStatus, actor: &str, reason: &str, now: DateTime<Utc>) -> Change {
        let call = Self { state, ai_status, version: self.version + 1, updated_at: now, ..self.clone() };
        Change {
            call,
            from: Some(self.state),
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            issue: None,
            dead_letter: None,
        }
    }
}

#[cfg(test)]
mod tests {
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
        let call =
            Call::open(Tenant::open_mode(), CallId::new("c").unwrap(), Metadata::default(), start(), policy).call;
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
        let mut call = Call::open(
            Tenant::open_mode(),
            CallId::new("c").unwrap(),
            Metadata::default(),
            start(),
            &Policy::default(),
        )
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
}
