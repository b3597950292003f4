//! A call and the only ways on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::policy::{MAX_INVALID_ANSWERS, MAX_UNCHARGED_ATTEMPTS};
use super::{
    AiStatus, Attempts, CallId, CallKey, Change, Class, Failure, Issue, Lane, Metadata, Policy, Ranges, Refused, State,
    Tenant,
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

    /// Whether `holder` has claimed it, and its lease stands.
    #[must_use]
    pub fn is_held_by(&self, holder: Holder<'_>, now: DateTime<Utc>) -> bool {
        self.held_by(holder).is_ok() && self.lease.is_some_and(|lease| lease.until > now)
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
mod tests;
