//! The times and limits that the life of a call depends on.

use std::time::Duration;

/// Times and limits, each a setting (`SETTLE`, `LEASE` …).
#[derive(Clone, Debug)]
pub struct Policy {
    /// Time after the end signal in which late packets still count.
    pub settle: Duration,
    /// Silence after which a call counts as ended.
    pub idle_timeout: Duration,
    /// Time a worker holds a job without a sign of life.
    pub lease: Duration,
    /// Time after which a job that nobody claimed is issued again, should its message be gone.
    pub reissue: Duration,
    /// Charged attempts before a call is given up.
    pub max_attempts: u32,
    /// The first retry's delay; it doubles from there.
    pub backoff_base: Duration,
    /// The longest delay between retries.
    pub backoff_max: Duration,
}

/// Attempts of one generation that may go uncharged before a call is given up all the same.
pub const MAX_UNCHARGED_ATTEMPTS: u32 = 20;
/// Unreadable answers of one generation before a call is given up: the first and 2 more tries.
pub const MAX_INVALID_ANSWERS: u32 = 3;
/// The longest a service may tell us to wait.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(2);
/// The longest delay that a negative acknowledgement carries; a longer one waits in the database.
pub const NAK_DELAY_MAX: Duration = Duration::from_mins(1);

impl Default for Policy {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(2),
            idle_timeout: Duration::from_mins(2),
            lease: Duration::from_secs(30),
            reissue: Duration::from_secs(30),
            max_attempts: 5,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_mins(1),
        }
    }
}
