//! The message of the work stream: which call, and which asking of it. All else is in the database.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{Call, CallKey};

/// A job on `call.work.<lane>.<tenant>.<key>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The shape's version.
    pub v: u8,
    /// The call's key.
    pub key: Uuid,
    /// Which asking of the AI this is; a message of an earlier one is dropped.
    pub generation: i32,
}

impl Job {
    /// The job of a call's present generation.
    #[must_use]
    pub const fn of(call: &Call) -> Self {
        Self { v: 1, key: call.key.as_uuid(), generation: call.generation }
    }

    /// The key it is about.
    #[must_use]
    pub const fn call_key(&self) -> CallKey {
        CallKey::from_uuid(self.key)
    }

    /// Names the job to the AI service: the same on every attempt of a generation.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.call_key(), self.generation)
    }
}
