//! Whether the database is there, and what its clock says, for as long as a process lives.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Store;
use crate::service::health::Health;

/// Time between looks: a quarter of what people wait before they reload.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the database's clock every second and reports to `health` whether that worked.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run(store: Store, health: Health, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        match store.sync_clock().await {
            Ok(()) => health.ok("postgres"),
            Err(error) => health.failing("postgres", error.to_string()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
