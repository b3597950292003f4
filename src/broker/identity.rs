//! Whether a stream is still the one it was.

use serde_json::{Value, json};

use super::api::{self, ApiError};
use super::connect::Broker;

/// The streams that hold what PostgreSQL can issue again.
const WORK: &str = "CALL_WORK";
const DLQ: &str = "CALL_DLQ";

/// When the streams were made: another time means another, empty stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// The jobs' stream.
    pub work: String,
    /// How many jobs it holds.
    pub work_messages: u64,
    /// The dead letters' stream.
    pub dead_letters: String,
}

impl Broker {
    /// When the streams were made.
    ///
    /// # Errors
    /// When JetStream is away, or a stream is missing ([`ApiError::is_missing`]).
    pub async fn identities(&self) -> Result<Identities, ApiError> {
        let (work, work_messages) = self.created(WORK).await?;
        let (dead_letters, _) = self.created(DLQ).await?;
        Ok(Identities { work, work_messages, dead_letters })
    }

    async fn created(&self, stream: &str) -> Result<(String, u64), ApiError> {
        let request = format!("STREAM.INFO.{}", self.inner().prefix.stream(stream));
        let answer = api::ask(self, &request, &json!({})).await?;
        let created = answer.get("created").and_then(Value::as_str);
        let messages = answer.pointer("/state/messages").and_then(Value::as_u64);
        let created = created.ok_or_else(|| ApiError::unreadable(&request, "created"))?;
        Ok((created.to_owned(), messages.unwrap_or(0)))
    }
}
