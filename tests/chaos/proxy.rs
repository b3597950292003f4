//! A wire between a role and a server, which the suite can cut, slow down or let fall silent.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::wait;

/// Bytes that pass at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks under way on a slow wire.
const CHUNKS_UNDER_WAY: usize = 256;

/// How a wire behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Passes everything at once
    Whole,
    /// Passes everything, each byte so much later
    Slow(Duration),
    /// Half-open: connections stand and new ones come about, and nothing passes
    Silent,
    /// Every connection ends with a reset, new ones too
    Cut,
}

/// A port of its own that leads to a server.
pub(crate) struct Proxy {
    port: u16,
    wire: watch::Sender<Wire>,
    _passing: JoinSet<()>,
}

impl Proxy {
    /// A wire to whatever port `target` says at the time of each connection.
    pub(crate) async fn start(target: watch::Receiver<u16>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a proxy")?;
        let port = listener.local_addr()?.port();
        let (wire, now) = watch::channel(Wire::Whole);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((near, _)) = accepted {
                        connections.spawn(connection(near, target.clone(), now.clone()));
                    },
                    Some(_ended) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, wire, _passing: passing })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

/// Its end was passed on, or it broke: then both sides are to learn of it.
#[derive(Debug)]
enum End {
    Passed,
    Broken,
}

async fn connection(near: TcpStream, target: watch::Receiver<u16>, mut wire: watch::Receiver<Wire>) {
    if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
        return;
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *target.borrow()));
    let far = if *wire.borrow() == Wire::Cut { None } else { TcpStream::connect(address).await.ok() };
    let Some(far) = far else {
        let _reset = near.set_zero_linger();
        return;
    };
    for side in [&near, &far] {
        // Without it the wire would be slower than what it stands for.
        let _as_it_is = side.set_nodelay(true);
    }
    let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
    let there = pass(near_out, far_in, wire.clone());
    let back = pass(far_out, near_in, wire);
    // The first break ends both.
    let _ended = tokio::try_join!(there, back);
}

/// Passes what comes on one side to the other, until its end.
async fn pass(from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) -> Result<(), End> {
    let (queue, chunks) = mpsc::channel(CHUNKS_UNDER_WAY);
    let (there, back) = (wire.clone(), wire.clone());
    let end = tokio::select! {
        _ = wire.wait_for(|wire| *wire == Wire::Cut) => End::Broken,
        (read, written) = async { tokio::join!(read(from, queue, there), write(&mut to, chunks, back)) } => {
            if matches!((&read, &written), (End::Passed, End::Passed)) { End::Passed } else { End::Broken }
        }
    };
    match end {
        End::Passed => to.shutdown().await.map_err(|_| End::Broken),
        End::Broken => {
            let _reset = to.as_ref().set_zero_linger();
            Err(End::Broken)
        }
    }
}

type Chunk = (Instant, Vec<u8>);

async fn read(mut from: OwnedReadHalf, queue: mpsc::Sender<Chunk>, mut wire: watch::Receiver<Wire>) -> End {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let delay = match wire.wait_for(|wire| *wire != Wire::Silent).await.map(|wire| *wire) {
            Ok(Wire::Slow(delay)) => delay,
            Ok(_) => Duration::ZERO,
            Err(_) => return End::Broken,
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = wire.changed() => continue,
            () = queue.closed() => return End::Broken,
        };
        match read {
            Ok(0) => return End::Passed,
            Ok(count) => {
                let chunk = buffer.get(..count).unwrap_or_default().to_vec();
                if queue.send((Instant::now() + delay, chunk)).await.is_err() {
                    return End::Broken;
                }
            }
            Err(_) => return End::Broken,
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, mut chunks: mpsc::Receiver<Chunk>, mut wire: watch::Receiver<Wire>) -> End {
    while let Some((due, chunk)) = chunks.recv().await {
        wait::at(due).await;
        let passes = wire.wait_for(|wire| *wire != Wire::Silent).await.is_ok();
        if !passes || to.write_all(&chunk).await.is_err() {
            return End::Broken;
        }
    }
    End::Passed
}
