//! Dead letters in the table and in the stream, brought together one to one.

use std::collections::HashSet;

use crate::broker::{ApiError, Broker, survey};
use crate::relay;
use crate::store::{Store, StoreError, dead_letters};

/// Subjects that one statement handles.
const PAGE: usize = 1000;

/// What a comparison did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Messages that were missing and are sent again.
    pub sent_again: usize,
    /// Messages without a dead letter, which are deleted.
    pub deleted: usize,
}

/// Why table and stream could not be compared. Later they may be.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The stream could not be read.
    #[error(transparent)]
    Broker(#[from] ApiError),
    /// The table could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends again what the stream lacks and deletes what the table does not know.
///
/// # Errors
/// When the broker or the database is away.
pub async fn compare(store: &Store, broker: &Broker, relay: &relay::Handle) -> Result<Compared, CompareError> {
    // The stream first: a message's row is committed before the message is sent, so that what has no
    // row afterwards has none for good.
    let queued = survey::dead_letter_subjects(broker).await?;
    let mut compared = Compared::default();
    for some in queued.chunks(PAGE) {
        for subject in dead_letters::unknown(store, some).await? {
            survey::delete_dead_letter(broker, &subject).await?;
            compared.deleted += 1;
        }
    }
    let queued: HashSet<String> = queued.into_iter().collect();
    let mut after = String::new();
    loop {
        let page = dead_letters::subjects(store, &after, i64::try_from(PAGE).unwrap_or(i64::MAX)).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        let missing: Vec<String> = page.into_iter().filter(|subject| !queued.contains(subject)).collect();
        if !missing.is_empty() {
            compared.sent_again += missing.len();
            relay.send(dead_letters::send_again(store, &missing).await?);
        }
    }
    if compared != Compared::default() {
        let Compared { sent_again, deleted } = compared;
        tracing::info!(sent_again, deleted, "dead letters and their stream were brought together");
    }
    Ok(compared)
}
