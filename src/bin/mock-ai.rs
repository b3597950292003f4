//! The flaky AI service as a program of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use callfleet::dev::mock_ai;
use callfleet::service::listen::{self, AccessOptions};
use callfleet::service::start;
use callfleet::service::telemetry::LogOptions;
use clap::Parser;

/// An AI voice service that fails about one time in four, and in worse ways on demand.
///
/// POST a job to any path and get its transcript, or a failure. `GET /control` shows how it behaves
/// and `PUT /control` changes that while it runs; `GET /stats` counts what it did:
///
///   curl -X PUT localhost:8001/control -d '{"mode":"outage"}'
#[derive(Parser, Debug)]
#[command(name = "mock-ai", version, verbatim_doc_comment)]
struct Program {
    /// Where to listen
    #[arg(long, env = "CALLFLEET_LISTEN", default_value = "127.0.0.1:8001", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    options: mock_ai::Options,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    log: LogOptions,
}

fn main() -> ExitCode {
    let Program { listen, options, access, log } = Program::parse();
    start::main(&log, |shutdown| async move {
        let listener = listen::bind(listen, &access).await?;
        tracing::info!("mock-ai listens on http://{}", listener.local_addr()?);
        mock_ai::run(options, listener, shutdown).await
    })
}
