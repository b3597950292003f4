//! A wire to the server that a test can cut.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes between a port of its own and the server while it is whole.
pub(super) struct Proxy {
    pub(super) url: String,
    whole: watch::Sender<bool>,
    _passing: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        let url = std::env::var("NATS_URL").expect("NATS_URL: scripts/test sets it");
        let (credentials, server) = match url.trim_start_matches("nats://").rsplit_once('@') {
            Some((credentials, server)) => (format!("{credentials}@"), server.to_owned()),
            None => (String::new(), url.trim_start_matches("nats://").to_owned()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{credentials}{}", listener.local_addr().unwrap());
        let (whole, cut) = watch::channel(true);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (server, mut cut) = (server.clone(), cut.clone());
                wires.spawn(async move {
                    if *cut.borrow_and_update() {
                        let far = TcpStream::connect(server).await.unwrap();
                        tokio::select! {
                            () = pass(near, far) => {}
                            _ = cut.wait_for(|whole| !whole) => {}
                        }
                    }
                });
            }
        });
        Self { url, whole, _passing: passing }
    }

    /// Ends every connection, and every new one at once.
    pub(super) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream) {
    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
