//! The tool of newcomers and operators.

use std::process::ExitCode;

use anyhow::ensure;
use callfleet::dev::run::{self, RunOptions};
use callfleet::dev::up::{self, UpOptions};
use callfleet::ops::{audit, call, dlq, migrate, simulate, status, topology, watch};
use callfleet::service::start;
use callfleet::service::telemetry::LogOptions;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

/// Starts, watches, tries out and repairs Callfleet.
#[derive(Parser, Debug)]
#[command(name = "callfleet", version, after_help = EXAMPLES)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten, next_help_heading = "Logging")]
    log: LogOptions,
}

const EXAMPLES: &str = "\
Run it:
  callfleet up                      everything in one process, on one port
  callfleet migrate                 the schema of a database of your own
  callfleet topology check          the streams of a NATS of your own

Try it:
  callfleet simulate --calls 200    made-up calls, and the proof that none got lost

Look:
  callfleet status                  the fleet on one screen
  callfleet watch                   changes as they happen
  callfleet call my-call            one call, and what it waits for
  callfleet dlq list                the calls that were given up, and why

Prove:
  callfleet audit --wait 1m         that everything balances

In the folder of a running `callfleet up`, every command finds its servers by
itself; elsewhere give DATABASE_URL and NATS_URL, or the flags of the same name.

Exit codes: 0 all is well; 1 something is not, and one line says what; 2 wrong usage.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run everything in this process, over a private PostgreSQL and nats-server of its own
    Up(Box<UpOptions>),
    /// Run a command with a private PostgreSQL and nats-server beside it, which end with it
    Servers(RunOptions),
    Simulate(simulate::Options),
    Status(status::Options),
    Watch(watch::Options),
    Call(call::Options),
    Dlq(dlq::Options),
    Audit(audit::Options),
    Migrate(migrate::Options),
    /// Compare JetStream's streams and consumers with what they should be, or make them so
    #[command(subcommand)]
    Topology(topology::Command),
    /// Print the completions of a shell
    ///
    /// For bash: callfleet completions bash > ~/.local/share/bash-completion/completions/callfleet
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let matches = Program::command().get_matches();
    let Program { command, mut log } = match Program::from_arg_matches(&matches) {
        Ok(program) => program,
        Err(error) => error.exit(),
    };
    if matches.value_source("filter") == Some(ValueSource::DefaultValue) && command.only_prints() {
        "error".clone_into(&mut log.filter);
    }
    match command {
        Command::Up(options) => start::main(&log, |shutdown| up::run(*options, shutdown)),
        Command::Servers(options) => {
            let mut code = 0;
            let ended = start::main(&log, |shutdown| async {
                code = run::run(&options, shutdown).await?;
                Ok(())
            });
            if code == 0 { ended } else { ExitCode::from(code) }
        }
        Command::Simulate(options) => start::main(&log, |shutdown| async move {
            let is_balanced = simulate::run(options, shutdown).await?;
            ensure!(is_balanced, "the run does not balance");
            Ok(())
        }),
        Command::Topology(command) => start::main(&log, |_shutdown| topology::run(command)),
        Command::Watch(options) => start::main(&log, |shutdown| watch::run(options, shutdown)),
        Command::Migrate(options) => start::main(&log, |_| async move { migrate::run(&options).await }),
        Command::Status(options) => start::main(&log, |_| async move { status::run(&options).await }),
        Command::Call(options) => start::main(&log, |_| async move { call::run(&options).await }),
        Command::Dlq(options) => start::main(&log, |_| async move { dlq::run(&options).await }),
        Command::Audit(options) => start::main(&log, |_| async move {
            ensure!(audit::run(&options).await?, "the audit does not balance");
            Ok(())
        }),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Program::command(), "callfleet", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

impl Command {
    /// Whether all there is to say is on standard output, or one line on standard error.
    const fn only_prints(&self) -> bool {
        matches!(
            self,
            Self::Topology(_) | Self::Migrate(_) | Self::Status(_) | Self::Call(_) | Self::Dlq(_) | Self::Audit(_)
        )
    }
}
