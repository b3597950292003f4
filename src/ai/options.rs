//! How the AI service is asked.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use reqwest::Url;

use crate::service::duration::{parse_positive, show};

/// Where `mock-ai` listens that nobody configured.
const DEFAULT_URL: &str = "http://127.0.0.1:8001/v1/transcribe";
/// Slots of a worker at most: each may hold a connection, and packets of a call in memory.
const CONCURRENCY_MAX: u32 = 10_000;
/// The longest that a request may take.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);
/// Characters of a worker's name at most; it is on every attempt.
const NAME_MAX_CHARS: usize = 100;

/// The AI service, and how many calls are taken to it at a time.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// The AI service: where the job of a call is posted
    #[arg(
        long,
        env = "AI_URL",
        value_name = "URL",
        hide_env_values = true,
        help = "The AI service: where the job of a call is posted [default: http://127.0.0.1:8001/v1/transcribe]"
    )]
    pub ai_url: Option<Url>,
    /// Longest time for an answer of the AI service, from the connection to the last byte
    #[arg(long, env = "CALLFLEET_AI_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = parse_positive)]
    pub ai_timeout: Duration,
    /// Calls that this worker takes to the AI service at the same time
    #[arg(long, env = "CALLFLEET_WORKER_CONCURRENCY", default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    pub worker_concurrency: u32,
    /// This worker's name in timelines (without it: host, process id and a few random letters)
    #[arg(long, env = "CALLFLEET_WORKER_NAME", value_name = "NAME")]
    pub worker_name: Option<String>,
}

impl Options {
    /// Where the AI service is: as given, else where `mock-ai` listens.
    ///
    /// # Errors
    /// Never: the default is an address.
    pub fn url(&self) -> anyhow::Result<Url> {
        self.ai_url.clone().map_or_else(|| DEFAULT_URL.parse().context("AI_URL"), Ok)
    }

    /// Makes sure that these settings make sense.
    ///
    /// # Errors
    /// One line that names the setting that does not.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.ai_url.as_ref().is_none_or(|url| matches!(url.scheme(), "http" | "https") && url.has_host()),
            "--ai-url is no address of an AI service: write http://host:port/path or https://…"
        );
        let timeout = self.ai_timeout;
        ensure!(timeout <= TIMEOUT_MAX, "--ai-timeout {} is too long: at most {}", show(timeout), show(TIMEOUT_MAX));
        self.name().map(|_| ())
    }

    /// The worker's name, new with every call unless it was given.
    ///
    /// # Errors
    /// When the given one cannot be a name.
    pub fn name(&self) -> anyhow::Result<String> {
        let Some(name) = &self.worker_name else {
            return Ok(format!("{}-{}-{}", host(), std::process::id(), random_letters(&mut fastrand::Rng::new())));
        };
        let fits = (1..=NAME_MAX_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        fits.then(|| name.clone()).with_context(|| format!("--worker-name is 1 to {NAME_MAX_CHARS} characters of text"))
    }
}

fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host: String = host.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if host.is_empty() { "worker".to_owned() } else { host }
}

fn random_letters(rng: &mut fastrand::Rng) -> String {
    (0..4).map(|_| rng.lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Options;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn check(flags: &[&str]) -> Result<Options, String> {
        let program = Program::try_parse_from(std::iter::once(&"program").chain(flags)).map_err(|e| e.to_string())?;
        program.options.check().map_err(|e| e.to_string())?;
        Ok(program.options)
    }

    #[test]
    fn nonsense_is_refused_in_a_line_that_names_it() {
        for (flags, named) in [
            (&["--ai-url", "ftp://host/"][..], "--ai-url"),
            (&["--ai-url", "localhost:8001"], "--ai-url"),
            (&["--ai-url", "transcribe"], "--ai-url"),
            (&["--ai-timeout", "0s"], "--ai-timeout"),
            (&["--ai-timeout", "25h"], "--ai-timeout"),
            (&["--worker-concurrency", "0"], "--worker-concurrency"),
            (&["--worker-name", ""], "--worker-name"),
        ] {
            let refused = check(flags).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn two_workers_of_one_host_differ_in_name() {
        let options = check(&[]).unwrap();
        assert_ne!(options.name().unwrap(), options.name().unwrap());
        assert_eq!(check(&["--worker-name", "w1"]).unwrap().name().unwrap(), "w1");
    }
}
