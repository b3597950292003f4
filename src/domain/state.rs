//! The states of a call and the steps between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Packets are coming.
    InProgress,
    /// The last packet is there, or nobody waits for it any longer.
    Completed,
    /// A worker holds it and an AI request is in flight.
    ProcessingAi,
    /// The last attempt failed; `ai_status` says what comes.
    Failed,
    /// The transcript is stored, or an operator discarded the call.
    Archived,
}

impl State {
    /// Every state, in flow order.
    pub const ALL: [Self; 5] = [Self::InProgress, Self::Completed, Self::ProcessingAi, Self::Failed, Self::Archived];

    /// Whether a call may go from here to `to`. The database holds the same table.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::InProgress, Self::Completed)
                | (Self::Completed | Self::Failed | Self::ProcessingAi, Self::ProcessingAi)
                | (Self::ProcessingAi, Self::Archived | Self::Failed)
                | (Self::Failed, Self::Archived)
        )
    }

    /// The name in rows, subjects and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::ProcessingAi => "PROCESSING_AI",
            Self::Failed => "FAILED",
            Self::Archived => "ARCHIVED",
        }
    }
}

/// What the AI's work on a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AiStatus {
    /// Not asked yet: the call is still going on.
    None,
    /// A job waits for a worker.
    Pending,
    /// A worker asks now.
    Running,
    /// The last attempt failed and another is due at `next_attempt_at`.
    RetryScheduled,
    /// The transcript is stored.
    Succeeded,
    /// Given up; an operator decides.
    DeadLettered,
    /// An operator gave the call up.
    Discarded,
}

impl AiStatus {
    /// Every status, in flow order.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Pending,
        Self::Running,
        Self::RetryScheduled,
        Self::Succeeded,
        Self::DeadLettered,
        Self::Discarded,
    ];

    /// The name in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::RetryScheduled => "RETRY_SCHEDULED",
            Self::Succeeded => "SUCCEEDED",
            Self::DeadLettered => "DEAD_LETTERED",
            Self::Discarded => "DISCARDED",
        }
    }
}

/// A name that is no state and no status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not known: it takes one of {1}")]
pub struct UnknownName(String, String);

impl FromStr for State {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        named(name, &Self::ALL, Self::as_str)
    }
}

impl FromStr for AiStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        named(name, &Self::ALL, Self::as_str)
    }
}

fn named<T: Copy>(name: &str, all: &[T], as_str: impl Fn(T) -> &'static str) -> Result<T, UnknownName> {
    all.iter().copied().find(|one| as_str(*one) == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| as_str(*one)).collect();
        UnknownName(name.to_owned(), names.join(", "))
    })
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for AiStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{AiStatus, State};

    #[test]
    fn names_read_back_to_what_they_name() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for status in AiStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert!("failed".parse::<State>().unwrap_err().to_string().contains("FAILED"));
    }

    #[test]
    fn nothing_leaves_the_archive_and_nothing_returns_to_in_progress() {
        for state in State::ALL {
            assert!(!State::Archived.may_become(state));
            assert!(!state.may_become(State::InProgress));
        }
    }
}
