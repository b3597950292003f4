//! A wire to a server that a test can cut.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes between a port of its own and the server while it is whole.
pub(crate) struct Proxy {
    pub(crate) url: String,
    wire: Arc<watch::Sender<Wire>>,
    _passing: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections stand, and nothing passes.
    Silent,
    /// Whole until this is sent; that arrives, and nothing comes back.
    WholeUntil(&'static str),
    Deaf,
    Cut,
}

impl Proxy {
    /// A wire to the server of `url`, at whose other end it has the same credentials and path.
    pub(crate) async fn to(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
        let (credentials, server) = match authority.rsplit_once('@') {
            Some((credentials, server)) => (format!("{credentials}@"), server.to_owned()),
            None => (String::new(), authority.to_owned()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{credentials}{}{path}", listener.local_addr().unwrap());
        let wire = Arc::new(watch::Sender::new(Wire::Whole));
        let ours = Arc::clone(&wire);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                wires.spawn(connection(near, server.clone(), Arc::clone(&ours)));
            }
        });
        Self { url, wire, _passing: passing }
    }

    /// Ends every connection, and every new one at once.
    pub(crate) fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Lets every connection stand, and nothing pass.
    pub(crate) fn silence(&self) {
        self.wire.send_replace(Wire::Silent);
    }

    /// Lets every connection stand, and from the next `word` on everything through to the server and
    /// nothing back.
    pub(crate) fn deafen_after(&self, word: &'static str) {
        self.wire.send_replace(Wire::WholeUntil(word));
    }

    pub(crate) fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

async fn connection(near: TcpStream, server: String, wire: Arc<watch::Sender<Wire>>) {
    let mut now = wire.subscribe();
    if *now.borrow_and_update() == Wire::Cut {
        return;
    }
    let far = TcpStream::connect(server).await.unwrap();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = there(near_in, far_out, &wire) => {}
        () = back(far_in, near_out, wire.subscribe()) => {}
        _cut = now.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}

/// Passes bytes to the server, each when the wire lets it, until either end is closed.
async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &watch::Sender<Wire>) {
    let (mut piece, mut now) = (vec![0; 64 * 1024], wire.subscribe());
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        if now.wait_for(|wire| !matches!(wire, Wire::Silent | Wire::Cut)).await.is_err() {
            return;
        }
        wire.send_if_modified(|wire| match wire {
            Wire::WholeUntil(word) if piece[..count].windows(word.len()).any(|some| some == word.as_bytes()) => {
                *wire = Wire::Deaf;
                true
            }
            _ => false,
        });
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// Passes bytes back, as [`there`].
async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut now: watch::Receiver<Wire>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let may = |wire: &Wire| matches!(wire, Wire::Whole | Wire::WholeUntil(_));
        if now.wait_for(may).await.is_err() || to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
