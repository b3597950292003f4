//! How long a failed attempt waits for the next one.

use std::time::Duration;

use exponential_backoff::Backoff;
use fastrand::Rng;

use super::classify::Failed;
use crate::domain::policy::RETRY_AFTER_MAX;
use crate::domain::{Attempts, Class, Policy};

/// How far a delay strays from the schedule, both ways, so that calls that failed together do not
/// come back together.
pub const JITTER: f64 = 0.2;
/// How much later than it asked for a busy service is asked again, at most.
pub const LATER: f64 = 0.1;

/// The delay before the next attempt, given the attempts so far, the one that failed included.
pub fn after(failed: &Failed, attempts: Attempts, policy: &Policy, rng: &mut Rng) -> Duration {
    match (failed.failure.class, failed.wait) {
        (Class::Busy, Some(told)) => {
            // A service that says "0 seconds" would be asked in a tight loop.
            let told = told.max(policy.backoff_base);
            told.mul_f64(1.0 + LATER * rng.f64()).min(RETRY_AFTER_MAX)
        }
        (Class::Busy, None) => jittered(scheduled(attempts.uncharged + 1, policy), policy, rng),
        // Nothing but a person helps; the call waits in the database meanwhile.
        (Class::Account, _) => RETRY_AFTER_MAX,
        _ => jittered(scheduled(attempts.charged, policy), policy, rng),
    }
}

/// The delay after the `n`-th failed attempt, from 1: base, twice that, four times … up to the limit.
#[must_use]
pub fn scheduled(n: u32, policy: &Policy) -> Duration {
    let mut backoff = Backoff::new(u32::MAX, policy.backoff_base, policy.backoff_max);
    backoff.set_factor(2);
    // The crate's own jitter cannot be seeded: ours is added after it.
    backoff.set_jitter(0.0);
    let before = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX).min(64);
    backoff.iter().nth(before).flatten().unwrap_or(policy.backoff_max)
}

fn jittered(delay: Duration, policy: &Policy, rng: &mut Rng) -> Duration {
    delay.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64()).min(policy.backoff_max)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fastrand::Rng;

    use super::{JITTER, after, scheduled};
    use crate::ai::classify::Failed;
    use crate::domain::{Attempts, Class, Failure, Policy, Stage};

    fn failed(class: Class, wait: Option<Duration>) -> Failed {
        Failed { failure: Failure::new(class, Stage::Ask, None, ""), wait }
    }

    #[test]
    fn delays_double_from_the_base_to_the_limit() {
        let policy = Policy::default();
        let seconds: Vec<u64> = (1..=9).map(|n| scheduled(n, &policy).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(scheduled(u32::MAX, &policy), policy.backoff_max);
    }

    #[test]
    fn a_delay_strays_by_the_jitter_and_never_over_the_limit() {
        let policy = Policy::default();
        let mut rng = Rng::with_seed(1);
        for charged in 1..=10 {
            let around = scheduled(charged, &policy);
            for _ in 0..200 {
                let delay =
                    after(&failed(Class::Transient, None), Attempts { charged, uncharged: 3 }, &policy, &mut rng);
                assert!(delay >= around.mul_f64(1.0 - JITTER), "{delay:?}");
                assert!(delay <= around.mul_f64(1.0 + JITTER).min(policy.backoff_max), "{delay:?}");
            }
        }
    }

    #[test]
    fn a_busy_service_is_left_alone_for_as_long_as_it_asked() {
        let policy = Policy::default();
        let mut rng = Rng::with_seed(1);
        let attempts = Attempts { charged: 1, uncharged: 0 };
        let mut wait = |seconds| {
            let told = Some(Duration::from_secs(seconds));
            after(&failed(Class::Busy, told), attempts, &policy, &mut rng).as_secs_f64()
        };
        assert!((7.0..=7.7).contains(&wait(7)));
        assert!((1.0..=1.1).contains(&wait(0)));
        assert!((120.0..=120.0).contains(&wait(120)));
    }
}
