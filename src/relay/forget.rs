//! The rows of messages that are safe: deleted together, as many as have come up since the last time.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::jittered;
use crate::store::{Store, outbox};

/// Chunks whose rows may wait; further ones keep theirs, and go out once more.
const QUEUE_MAX_CHUNKS: usize = 64;
/// Rows that one statement deletes, and at most a chunk more.
const DELETED_TOGETHER: usize = 4096;
/// Pause after the database did not take it.
const RETRY: Duration = Duration::from_millis(500);

pub(super) type Sender = mpsc::Sender<Vec<String>>;

pub(super) fn channel() -> (Sender, mpsc::Receiver<Vec<String>>) {
    mpsc::channel(QUEUE_MAX_CHUNKS)
}

/// Hands over the names of messages that are safe; never waits.
pub(super) fn send(published: &Sender, safe: Vec<String>) {
    let count = safe.len() as u64;
    if count > 0 && published.try_send(safe).is_err() {
        metrics::counter!("callfleet_relay_published_again_total").increment(count);
    }
}

/// Deletes what comes until nothing more can.
pub(super) async fn forget(store: &Store, mut safe: mpsc::Receiver<Vec<String>>, shutdown: &CancellationToken) {
    while let Some(mut msg_ids) = safe.recv().await {
        while msg_ids.len() < DELETED_TOGETHER
            && let Ok(more) = safe.try_recv()
        {
            msg_ids.extend(more);
        }
        while let Err(error) = outbox::delete(store, &msg_ids).await {
            tracing::debug!(%error, rows = msg_ids.len(), "published messages are still in the outbox");
            if shutdown.is_cancelled() {
                // They go out once more, which is harmless.
                return;
            }
            tokio::time::sleep(jittered(RETRY)).await;
        }
    }
}
