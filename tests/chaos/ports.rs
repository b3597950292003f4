//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, bail};

/// Below the ports that systems lend to outgoing connections: one that is kept through restarts stays
/// free meanwhile.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const TRIES: u32 = 200;

/// A port that nobody listens on now.
pub(crate) fn free() -> anyhow::Result<u16> {
    for _ in 0..TRIES {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("{TRIES} ports between {} and {} are all taken", PORTS.start, PORTS.end)
}

/// Waits for nothing and says whether the port is free.
pub(crate) fn check(port: u16) -> anyhow::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("port {port} is taken")).map(drop)
}
