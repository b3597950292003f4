//! PostgreSQL's clock, as this process last read it: machines whose own clocks differ agree on when
//! a lease is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// An answer that took longer says too little about the time.
const ROUND_TRIP_MAX: TimeDelta = TimeDelta::seconds(1);

/// The time that every statement is given. A clone is the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_micros: Arc<AtomicI64>,
    is_set: Arc<AtomicBool>,
    advanced_micros: Arc<AtomicI64>,
}

impl Clock {
    /// The database's present, within the time of one round trip.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let ahead = self.ahead_micros.load(Ordering::Relaxed) + self.advanced_micros.load(Ordering::Relaxed);
        Utc::now() + TimeDelta::microseconds(ahead)
    }

    /// As [`Clock::now`], cut to what a row can hold, so that it is read back as it was written.
    #[must_use]
    pub fn now_to_the_micro(&self) -> DateTime<Utc> {
        self.now().trunc_subsecs(6)
    }

    /// Lets time pass at once: for tests of what time does.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.advanced_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Takes over the database's time, read between `asked` and now. Not when the answer was long on
    /// its way: half of that time is what nobody knows, and the former reading is better.
    pub(super) fn set(&self, asked: DateTime<Utc>, database: DateTime<Utc>) {
        let round_trip = Utc::now() - asked;
        if self.is_set.swap(true, Ordering::Relaxed) && round_trip > ROUND_TRIP_MAX {
            return;
        }
        let midway = asked + round_trip / 2;
        let ahead = (database - midway).num_microseconds().unwrap_or(0);
        self.ahead_micros.store(ahead, Ordering::Relaxed);
    }
}
