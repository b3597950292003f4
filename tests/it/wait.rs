//! Waiting for events, with a deadline that only a failure meets.

use std::time::{Duration, Instant};

/// Longer than anything takes that works, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at what gives no event of its own.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `holds` returns true.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What `wanted` gives, which must come soon.
pub(crate) async fn soon<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wanted).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
