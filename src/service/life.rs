//! The times and limits of a call's life, said once and handed to every role that acts on them.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use super::duration::{parse, parse_positive, show};
use crate::domain::Policy;

/// The longest of these times: beyond it a setting is a slip of the pen, and far beyond it no date
/// could hold it.
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// The shortest lease that can be renewed at a third of its length over a network.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// What time does to a call. `callfleet up` takes these once for all its roles.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct LifeOptions {
    /// Time after the end signal in which late packets still count
    #[arg(long, env = "CALLFLEET_SETTLE", default_value = "2s", value_name = "TIME", value_parser = parse)]
    pub settle: Duration,
    /// Silence after which a call without an end signal counts as ended
    #[arg(long, env = "CALLFLEET_IDLE_TIMEOUT", default_value = "120s", value_name = "TIME", value_parser = parse_positive)]
    pub idle_timeout: Duration,
    /// Time that a worker holds a job without a sign of life; renewed at a third of it
    #[arg(long, env = "CALLFLEET_LEASE", default_value = "30s", value_name = "TIME", value_parser = parse_positive)]
    pub lease: Duration,
    /// Failed attempts after which a call is given up
    #[arg(long, env = "CALLFLEET_MAX_ATTEMPTS", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_attempts: u32,
    /// Delay of the first retry; it doubles from there
    #[arg(long, env = "CALLFLEET_BACKOFF_BASE", default_value = "1s", value_name = "TIME", value_parser = parse_positive)]
    pub backoff_base: Duration,
    /// Longest delay between retries
    #[arg(long, env = "CALLFLEET_BACKOFF_MAX", default_value = "60s", value_name = "TIME", value_parser = parse_positive)]
    pub backoff_max: Duration,
    /// Time between two looks at the calls for which something is due
    #[arg(long, env = "CALLFLEET_RECONCILE_INTERVAL", default_value = "1s", value_name = "TIME", value_parser = parse_positive)]
    pub reconcile_interval: Duration,
    /// Time between two sweeps over all failed calls with attempts left
    #[arg(long, env = "CALLFLEET_SWEEP_INTERVAL", default_value = "5m", value_name = "TIME", value_parser = parse_positive)]
    pub sweep_interval: Duration,
}

impl LifeOptions {
    /// These settings as the rules that calls live by.
    ///
    /// # Errors
    /// One line that names the settings which make no sense (together).
    pub fn policy(&self) -> anyhow::Result<Policy> {
        let times = [
            ("settle", self.settle),
            ("idle-timeout", self.idle_timeout),
            ("lease", self.lease),
            ("backoff-base", self.backoff_base),
            ("backoff-max", self.backoff_max),
            ("reconcile-interval", self.reconcile_interval),
            ("sweep-interval", self.sweep_interval),
        ];
        for (name, time) in times {
            ensure!(time <= LONGEST, "--{name} {} is too long: at most {}", show(time), show(LONGEST));
        }
        ensure!(
            self.backoff_base <= self.backoff_max,
            "--backoff-base {} is above --backoff-max {}: the first delay cannot be longer than the longest",
            show(self.backoff_base),
            show(self.backoff_max)
        );
        ensure!(
            self.lease >= SHORTEST_LEASE,
            "--lease {} is too short to be renewed in time: at least {}",
            show(self.lease),
            show(SHORTEST_LEASE)
        );
        Ok(Policy {
            settle: self.settle,
            idle_timeout: self.idle_timeout,
            lease: self.lease,
            // As long as a worker may be silent, so long may a job go unclaimed.
            reissue: self.lease,
            max_attempts: self.max_attempts,
            backoff_base: self.backoff_base,
            backoff_max: self.backoff_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::LifeOptions;
    use crate::domain::Policy;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        life: LifeOptions,
    }

    fn policy(flags: &[&str]) -> Result<Policy, String> {
        let program = Program::try_parse_from(std::iter::once(&"program").chain(flags)).map_err(|e| e.to_string())?;
        program.life.policy().map_err(|e| e.to_string())
    }

    #[test]
    fn without_flags_calls_live_by_the_default_policy() {
        assert_eq!(format!("{:?}", policy(&[]).unwrap()), format!("{:?}", Policy::default()));
    }

    #[test]
    fn nonsense_is_refused_in_one_line_that_names_it() {
        for (flags, named) in [
            (&["--backoff-base", "2m"][..], "--backoff-max"),
            (&["--lease", "1ms"], "--lease"),
            (&["--lease", "0s"], "--lease"),
            (&["--idle-timeout", "0s"], "--idle-timeout"),
            (&["--sweep-interval", "9000h"], "--sweep-interval"),
            (&["--max-attempts", "0"], "--max-attempts"),
        ] {
            let refused = policy(flags).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
        assert!(policy(&["--settle", "0s", "--backoff-base", "60s"]).is_ok());
    }
}
