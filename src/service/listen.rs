//! The address a role listens on, and whether it may do so without keys.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;

/// Who may talk to a role.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct AccessOptions {
    /// Who may call: `open` lets everybody in and is refused on any but a loopback address
    #[arg(long, env = "CALLFLEET_AUTH", default_value = "open", value_name = "MODE")]
    pub auth: Auth,
    /// Listen beyond loopback in open mode: only where the network itself is closed
    #[arg(long, env = "CALLFLEET_INSECURE_OPEN_NETWORK")]
    pub insecure_open_network: bool,
}

/// The ways of letting callers in.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Auth {
    /// Everybody who can reach the address
    Open,
}

/// Binds `address`.
///
/// # Errors
/// When the port is taken or may not be used (the error names it), or when the address is not
/// loopback and the network has not been declared closed.
pub async fn bind(address: SocketAddr, access: &AccessOptions) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() && !access.insecure_open_network {
        bail!(
            "{address} is not a loopback address and anybody who reaches it could call: listen on 127.0.0.1, \
             or say --insecure-open-network where the network itself is closed"
        );
    }
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is the port taken? Choose another with --listen"))
}
