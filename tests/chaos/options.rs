//! What to run.

use std::path::PathBuf;
use std::time::Duration;

use callfleet::service::duration;
use clap::{Parser, ValueEnum};

use crate::nats::Form;

/// Breaks a running Callfleet in every way its design names, and proves that nothing is lost.
///
/// Starts the real release programs, a private PostgreSQL and nats-server (single and as a cluster of
/// three), sends load with a ledger of its own, injects one fault after another, and checks after each
/// from the ledger, plain SQL and the streams. Everything stays on loopback.
///
/// Exit codes: 0 nothing is lost and every goal met; 1 the product failed; 2 the suite itself could
/// not run (a server does not start, a port is taken, wrong usage).
#[derive(Parser, Clone, Debug)]
#[command(name = "chaos")]
pub(crate) struct Options {
    /// Seed of the plan: the same seed and flags give the same faults [default: chosen, and printed]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// How many faults to inject [default: 60, or one of each --fault]
    #[arg(long, value_name = "COUNT")]
    pub(crate) rounds: Option<usize>,
    /// The form for CI: every important fault once, within about 6 minutes
    #[arg(long, conflicts_with = "rounds")]
    pub(crate) short: bool,
    /// Only this kind of fault (several may be given; --list names them)
    #[arg(long = "fault", value_name = "NAME")]
    pub(crate) faults: Vec<String>,
    /// A single nats-server, a cluster of three, or first the one and then the other
    #[arg(long, default_value = "both", value_name = "FORM")]
    pub(crate) nats: NatsForms,
    /// Writes report.md, report.html, the ledgers of failed rounds and all logs into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Lists the faults and what each proves
    #[arg(long)]
    pub(crate) list: bool,
    /// Ends with the first fault that the product does not stand
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Multiplies the goals of time, for machines that are busy or slow
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_slack)]
    pub(crate) slack: f64,
    /// Ends by itself after so long [default: 10m with --short, else a minute a fault and 10m]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) limit: Option<Duration>,
    /// Clients that send calls at the same time
    #[arg(long, default_value_t = 32, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..=500))]
    pub(crate) senders: u16,
}

/// Which forms of NATS to run over.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub(crate) enum NatsForms {
    /// One server
    Single,
    /// Three servers, streams with three replicas
    Cluster,
    /// Both, one after the other
    Both,
}

impl NatsForms {
    pub(crate) const fn forms(self) -> &'static [Form] {
        match self {
            Self::Single => &[Form::Single],
            Self::Cluster => &[Form::Cluster],
            Self::Both => &[Form::Single, Form::Cluster],
        }
    }
}

impl Options {
    /// The command that runs this plan again.
    pub(crate) fn replay(&self, seed: u64) -> String {
        let mut words = vec!["scripts/chaos".to_owned(), format!("--seed {seed}")];
        words.extend(self.short.then(|| "--short".to_owned()));
        words.extend(self.rounds.map(|rounds| format!("--rounds {rounds}")));
        words.extend(self.faults.iter().map(|fault| format!("--fault {fault}")));
        if let Some(form) = self.nats.to_possible_value().filter(|_| self.nats != NatsForms::Both) {
            words.push(format!("--nats {}", form.get_name()));
        }
        words.join(" ")
    }
}

fn parse_slack(text: &str) -> Result<f64, String> {
    let slack = text.parse().ok().filter(|slack| (1.0..=100.0).contains(slack));
    slack.ok_or_else(|| format!("`{text}` is no factor from 1 to 100"))
}
