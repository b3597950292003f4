//! Whether PostgreSQL can be reached from here: lost by a flush that failed, found again by a sign of
//! life that was written, which the whole fleet can read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::service::health::Health;
use crate::spool::Spool;
use crate::store::{Store, StoreError, ingests, schema};

/// Pause between signs of life.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between them while PostgreSQL is lost: what is spooled meanwhile has to be stored later.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Time for one.
const SIGN_DEADLINE: Duration = Duration::from_secs(1);

/// What this process knows of PostgreSQL. A clone is the same knowledge.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    present: Arc<watch::Sender<bool>>,
}

impl Reach {
    /// As it was when this process began.
    pub(super) fn new(is_present: bool) -> Self {
        Self { present: Arc::new(watch::Sender::new(is_present)) }
    }

    pub(super) fn is_present(&self) -> bool {
        *self.present.borrow()
    }

    /// A flush found nobody.
    pub(super) fn lost(&self, error: &str) {
        if self.present.send_replace(false) {
            metrics::counter!("callfleet_ingest_store_lost_total").increment(1);
            tracing::warn!(error, "PostgreSQL does not answer: packets go to the spool");
        }
    }

    fn found(&self) {
        if !self.present.send_replace(true) {
            tracing::info!("PostgreSQL answers: packets are stored");
        }
    }

    /// Waits until PostgreSQL is there.
    pub(super) async fn present(&self) {
        // The sender is in `self`: an error cannot come.
        let mut present = self.present.subscribe();
        let _ended = present.wait_for(|present| *present).await;
    }
}

/// Gives signs of life until `shutdown`, as the ingest `name`, and reports to `health` whether a
/// packet would be accepted: either store suffices.
///
/// # Errors
/// When the schema is of another version: nothing may be written into it.
pub(super) async fn keep_looking(
    store: Store,
    spool: Spool,
    reach: Reach,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let name = uuid::Uuid::new_v4().simple().to_string();
    let mut is_fit = false;
    while !shutdown.is_cancelled() {
        match tokio::time::timeout(SIGN_DEADLINE, sign(&store, &name, &mut is_fit)).await {
            Ok(Ok(None)) => reach.found(),
            Ok(Ok(Some(unfit))) => bail!(unfit),
            Ok(Err(error)) => tracing::debug!(%error, "PostgreSQL is still away"),
            Err(_elapsed) => tracing::debug!("PostgreSQL is slow, or away"),
        }
        if reach.is_present() || spool.may_keep() {
            health.ok("stores");
        } else {
            health.failing("stores", "neither PostgreSQL nor the spool takes packets");
        }
        let pause = if reach.is_present() { SIGN_INTERVAL } else { LOOK_INTERVAL };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
    // Best effort: whoever is silent does not count for long.
    let _late = tokio::time::timeout(SIGN_DEADLINE, ingests::leave(&store, &name)).await;
    Ok(())
}

/// One sign of life, once it is known that the schema is ours; why not, when it is not.
async fn sign(store: &Store, name: &str, is_fit: &mut bool) -> Result<Option<String>, StoreError> {
    if !*is_fit {
        let unfit = schema::unfit(store).await?;
        if unfit.is_some() {
            return Ok(unfit);
        }
        *is_fit = true;
    }
    ingests::give_sign(store, name).await.map(|()| None)
}
