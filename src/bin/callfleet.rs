//! The tool of newcomers and operators.

use std::process::ExitCode;

use callfleet::dev::run::{self, RunOptions};
use callfleet::service::start;
use callfleet::service::telemetry::LogOptions;
use clap::{Parser, Subcommand};

/// Runs and looks after a fleet of call workers.
#[derive(Parser, Debug)]
#[command(name = "callfleet", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a command with a private PostgreSQL and nats-server beside it, which end with it
    Servers(RunOptions),
}

fn main() -> ExitCode {
    let Program { command, log } = Program::parse();
    match command {
        Command::Servers(options) => {
            let mut code = 0;
            let ended = start::main(&log, |shutdown| async {
                code = run::run(&options, shutdown).await?;
                Ok(())
            });
            if code == 0 { ended } else { ExitCode::from(code) }
        }
    }
}
