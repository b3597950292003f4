//! The settings of ingest.

use std::time::Duration;

use clap::Args;

use super::tracker::Caps;
use crate::service::duration;

/// How ingest takes packets.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Tasks that write packets, each with a connection of its own; 0 chooses by the number of cores
    #[arg(long, env = "CALLFLEET_WRITERS", default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub writers: u16,
    /// Packets that a call may have
    #[arg(long, env = "CALLFLEET_CALL_MAX_PACKETS", default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub call_max_packets: u64,
    /// Bytes of packet data that a call may have
    #[arg(long, env = "CALLFLEET_CALL_MAX_BYTES", default_value_t = 64 * 1024 * 1024, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub call_max_bytes: u64,
    /// Time that PostgreSQL gets to store packets before they go to the spool
    #[arg(long, env = "CALLFLEET_STORE_DEADLINE", default_value = "1s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub store_deadline: Duration,
    /// Let a spool with one replica count as durable: only where nats-server has `sync_interval: always`
    #[arg(long, env = "CALLFLEET_SPOOL_R1")]
    pub spool_r1: bool,
    /// Time that a missing packet may be late before a gap is logged
    #[arg(long, env = "CALLFLEET_GAP_GRACE", default_value = "1s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub gap_grace: Duration,
}

impl Options {
    /// As many writers as were asked for; else one a core, from two to four: while one waits for the
    /// disk the next one collects, and commits that wait together share one flush of the disk.
    pub(super) fn writer_count(&self) -> usize {
        if self.writers > 0 {
            return usize::from(self.writers);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        cores.clamp(2, 4)
    }

    pub(super) const fn caps(&self) -> Caps {
        Caps { packets: self.call_max_packets, bytes: self.call_max_bytes }
    }
}
