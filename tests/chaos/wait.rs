//! Time: how long a fault lasts, how a client paces itself, and waiting for events with a deadline.
//! The one place that lets time pass.

use std::time::{Duration, Instant};

/// Time between two looks at what gives no event of its own.
const LOOK: Duration = Duration::from_millis(20);

/// Lets a fault last, or a client rest, for so long.
pub(crate) async fn hold(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Returns at `instant`.
pub(crate) async fn at(instant: Instant) {
    tokio::time::sleep_until(instant.into()).await;
}

/// Whether `holds` came true before the deadline.
pub(crate) async fn until(deadline: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        // A look may hang with whatever it looks at.
        match tokio::time::timeout(end.saturating_duration_since(Instant::now()), holds()).await {
            Ok(true) => return true,
            Ok(false) if Instant::now() < end => tokio::time::sleep(LOOK).await,
            Ok(false) | Err(_) => return false,
        }
    }
}

/// What `work` gives, unless it takes too long.
pub(crate) async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(deadline, work).await.ok()
}

/// As [`until`], where nothing asynchronous runs any more.
pub(crate) fn until_blocking(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    while !holds() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
