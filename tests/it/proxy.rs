//! A wire to the server that a test can cut.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes between a port of its own and the server while it is whole.
pub(crate) struct Proxy {
    pub(crate) url: String,
    wire: watch::Sender<Wire>,
    _passing: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections stand, and nothing passes.
    Silent,
    Cut,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let url = std::env::var("NATS_URL").expect("NATS_URL: scripts/test sets it");
        let (credentials, server) = match url.trim_start_matches("nats://").rsplit_once('@') {
            Some((credentials, server)) => (format!("{credentials}@"), server.to_owned()),
            None => (String::new(), url.trim_start_matches("nats://").to_owned()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{credentials}{}", listener.local_addr().unwrap());
        let (wire, now) = watch::channel(Wire::Whole);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                wires.spawn(connection(near, server.clone(), now.clone()));
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

    pub(crate) fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

async fn connection(mut near: TcpStream, server: String, mut wire: watch::Receiver<Wire>) {
    if *wire.borrow_and_update() == Wire::Cut {
        return;
    }
    let mut far = TcpStream::connect(server).await.unwrap();
    while *wire.borrow_and_update() != Wire::Cut {
        if *wire.borrow() == Wire::Silent {
            wire.wait_for(|wire| *wire != Wire::Silent).await.unwrap();
            continue;
        }
        tokio::select! {
            _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _changed = wire.changed() => {}
        }
    }
}
