//! How an attempt ends, and what failures have in common.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Characters of a failure's message that are kept.
pub const MESSAGE_MAX_CHARS: usize = 300;

/// How often a call's generation was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that count against the budget.
    pub charged: u32,
    /// Attempts that do not.
    pub uncharged: u32,
}

impl Attempts {
    /// All attempts so far; the running one included.
    #[must_use]
    pub const fn total(self) -> u32 {
        self.charged.saturating_add(self.uncharged)
    }

    /// One more, charged.
    #[must_use]
    pub const fn charge(self) -> Self {
        Self { charged: self.charged.saturating_add(1), ..self }
    }

    /// The running attempt no longer counts against the budget.
    #[must_use]
    pub const fn refund(self) -> Self {
        Self { charged: self.charged.saturating_sub(1), uncharged: self.uncharged.saturating_add(1) }
    }
}

/// The class of an attempt's end, which decides what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The transcript is stored.
    Done,
    /// The service or the way to it failed for now.
    Transient,
    /// The service asked us to wait.
    Busy,
    /// The service refuses our account.
    Account,
    /// The service will never take this request.
    Permanent,
    /// The service answered what cannot be read.
    Invalid,
    /// The worker went away with the job in hand.
    Crash,
    /// The worker gave the job back unfinished, when it was asked to stop.
    HandedBack,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Transient,
        Self::Busy,
        Self::Account,
        Self::Permanent,
        Self::Invalid,
        Self::Crash,
        Self::HandedBack,
    ];

    /// The name in rows, subjects, metric labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Transient => "transient",
            Self::Busy => "busy",
            Self::Account => "account",
            Self::Permanent => "permanent",
            Self::Invalid => "invalid",
            Self::Crash => "crash",
            Self::HandedBack => "handed_back",
        }
    }

    /// Whether an attempt that ended so counts against the budget.
    #[must_use]
    pub const fn is_charged(self) -> bool {
        !matches!(self, Self::Busy | Self::Account | Self::HandedBack)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no class of an attempt's end")]
pub struct UnknownClass(String);

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(name: &str) -> Result<Self, UnknownClass> {
        Self::ALL.into_iter().find(|class| class.as_str() == name).ok_or_else(|| UnknownClass(name.to_owned()))
    }
}

/// The step in which an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the call's packets.
    Load,
    /// Asking the AI service.
    Ask,
    /// Between claim and record, unseen: the worker is gone.
    Lease,
}

impl Stage {
    /// The name in rows and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Ask => "ask",
            Self::Lease => "lease",
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What comes next depends on it.
    pub class: Class,
    /// Which step failed.
    pub stage: Stage,
    /// The HTTP status, when there was an answer.
    pub http_status: Option<u16>,
    /// What happened, for people, at most [`MESSAGE_MAX_CHARS`]; never packet data.
    pub message: String,
}

impl Failure {
    /// A failure with its message cut to what is kept and freed of what cannot be stored.
    #[must_use]
    pub fn new(class: Class, stage: Stage, http_status: Option<u16>, message: &str) -> Self {
        let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX_CHARS).collect();
        Self { class, stage, http_status, message }
    }

    /// The worker's lease ran out.
    #[must_use]
    pub fn crash() -> Self {
        Self::new(Class::Crash, Stage::Lease, None, "the worker went away with the job in hand")
    }

    /// Twelve hexadecimal digits that equal failures share: class, status, stage and the message
    /// with its numbers and quoted parts blotted out.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let status = self.http_status.map_or_else(String::new, |s| s.to_string());
        let digest = Sha256::new()
            .chain_update(self.class.as_str())
            .chain_update([0])
            .chain_update(status)
            .chain_update([0])
            .chain_update(self.stage.as_str())
            .chain_update([0])
            .chain_update(normalised(&self.message))
            .finalize();
        digest.iter().take(6).fold(String::with_capacity(12), |mut hex, byte| {
            use fmt::Write as _;
            let _infallible = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The message without what differs between equal failures: words with a digit, and quoted parts.
fn normalised(message: &str) -> String {
    let mut words = Vec::new();
    let mut is_inside = false;
    for word in message.to_lowercase().split_whitespace() {
        let quotes = word.chars().filter(|c| matches!(c, '"' | '`')).count();
        if is_inside || quotes > 0 || word.contains(|c: char| c.is_ascii_digit()) {
            if words.last().is_none_or(|last| last != "…") {
                words.push("…".to_owned());
            }
        } else {
            words.push(word.to_owned());
        }
        is_inside ^= quotes % 2 == 1;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Class, Failure, Stage};

    fn ask(message: &str) -> String {
        Failure::new(Class::Transient, Stage::Ask, Some(500), message).fingerprint()
    }

    #[test]
    fn failures_that_differ_in_numbers_and_quotes_only_share_a_fingerprint() {
        assert_eq!(ask("request 17 failed for \"a b\""), ask("request 99312 failed for \"c\""));
        assert_ne!(ask("request 17 failed"), ask("request 17 refused"));
        assert_ne!(ask("x"), Failure::new(Class::Transient, Stage::Ask, Some(502), "x").fingerprint());
        assert_eq!(ask("x").len(), 12);
    }

    #[test]
    fn a_message_is_cut_and_freed_of_control_characters() {
        let failure = Failure::new(Class::Invalid, Stage::Ask, None, &format!("a\0b\n{}", "x".repeat(1000)));
        assert_eq!(failure.message.chars().count(), super::MESSAGE_MAX_CHARS);
        assert!(failure.message.starts_with("a b "));
    }

    #[test]
    fn class_names_read_back() {
        for class in Class::ALL {
            assert_eq!(class.as_str().parse(), Ok(class));
        }
    }
}
