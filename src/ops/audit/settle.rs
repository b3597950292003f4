//! Waiting until what is on its way has arrived.

use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;

use crate::store::counts::{self, Unsettled};
use crate::store::{Store, StoreError};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Waits up to `time` until nothing is on its way, and says what still is. A database that is away
/// for a moment is waited for as well.
///
/// # Errors
/// When the database is away at the end.
pub(super) async fn wait(store: &Store, time: Duration) -> Result<Unsettled, StoreError> {
    let deadline = Instant::now() + time;
    let spinner = (!time.is_zero()).then(ProgressBar::new_spinner);
    loop {
        let looked = counts::unsettled(store).await;
        let is_over = Instant::now() >= deadline;
        match looked {
            Ok(unsettled) if unsettled.is_none() || is_over => {
                if let Some(spinner) = spinner {
                    spinner.finish_and_clear();
                }
                return Ok(unsettled);
            }
            Ok(unsettled) => {
                if let Some(spinner) = &spinner {
                    spinner.set_message(unsettled.to_string());
                    spinner.tick();
                }
            }
            Err(error) if is_over || !error.is_transient() => return Err(error),
            Err(error) => tracing::debug!(%error, "waiting for the database"),
        }
        tokio::time::sleep_until((Instant::now() + LOOK).min(deadline)).await;
    }
}
