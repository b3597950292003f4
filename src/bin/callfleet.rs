//! The tool of newcomers and operators.

use std::process::ExitCode;

use anyhow::ensure;
use callfleet::dev::run::{self, RunOptions};
use callfleet::dev::up::{self, UpOptions};
use callfleet::ops::{simulate, topology, watch};
use callfleet::service::start;
use callfleet::service::telemetry::LogOptions;
use clap::{Parser, Subcommand};

/// Starts, watches, tries out and repairs Callfleet.
#[derive(Parser, Debug)]
#[command(name = "callfleet", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten, next_help_heading = "Logging")]
    log: LogOptions,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run everything in this process, over a private PostgreSQL and nats-server of its own
    Up(Box<UpOptions>),
    /// Run a command with a private PostgreSQL and nats-server beside it, which end with it
    Servers(RunOptions),
    Simulate(simulate::Options),
    /// Compare JetStream's streams and consumers with what they should be, or make them so
    #[command(subcommand)]
    Topology(topology::Command),
    Watch(watch::Options),
}

fn main() -> ExitCode {
    let Program { command, log } = Program::parse();
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
    }
}
