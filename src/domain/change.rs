//! One step of a call, decided but not yet stored.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{Call, Failure, State};

/// A call after a step, with what the step was. Storing it is `store::calls::save`.
#[derive(Clone, Debug)]
pub struct Change {
    /// The call as it will be.
    pub call: Call,
    /// Where it was; none for a call's first packet.
    pub from: Option<State>,
    /// Who did it: a program's role or a person.
    pub actor: String,
    /// Why, in a few words.
    pub reason: String,
    /// A job to issue along with the step.
    pub issue: Option<Issue>,
    /// The failure for which the call is given up by this step.
    pub dead_letter: Option<Failure>,
}

/// A job to be put on the work stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The lane it takes.
    pub lane: Lane,
    /// The holder of the former message is known to be dead: that message goes first.
    pub replaces: bool,
}

/// The two lanes of the work stream: live calls come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Calls that have just ended.
    Live,
    /// Calls that an operator sends through again.
    Replay,
}

impl Lane {
    /// Both lanes, the one that comes first at the front.
    pub const ALL: [Self; 2] = [Self::Live, Self::Replay];

    /// The name in subjects, consumers and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a step was not taken; the call is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such step.
    #[error("a call cannot go from {from} to {to}")]
    Illegal {
        /// Where the call is.
        from: State,
        /// Where it was to go.
        to: State,
    },
    /// Its retry is not due yet.
    #[error("the next attempt is due at {0}")]
    NotDue(DateTime<Utc>),
    /// A worker holds it.
    #[error("a worker holds the call until {0}")]
    Held(DateTime<Utc>),
    /// The token is not (or no longer) the one that stands.
    #[error("the lease is lost")]
    LeaseLost,
    /// The message is of an earlier asking.
    #[error("the job is of generation {0}, the call of a later one")]
    Outdated(i32),
    /// Packets that came before its end may wait in the spool.
    #[error("packets of the call may wait in the spool")]
    Spooled,
    /// Its charged attempts are used up; the reconciler gives it up.
    #[error("all attempts are used up")]
    Exhausted,
}
