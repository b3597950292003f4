//! A wire to a server: cut, silenced, led elsewhere, or losing an answer at the worst moment.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a simple query that commits ends on PostgreSQL's wire.
const COMMIT: &[u8] = b"COMMIT\0";

/// Passes bytes between an address of its own and a server.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    _passing: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct State {
    server: String,
    passes: bool,
    /// Connections made before this one never pass anything again.
    first_alive: u64,
    made: u64,
    /// Answers to commits still to be lost.
    lose: u32,
}

impl Wire {
    /// A wire to `server` (host and port).
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { server: server.to_owned(), passes: true, first_alive: 0, made: 0, lose: 0 };
        let (state, _) = watch::channel(state);
        let mut passing = JoinSet::new();
        let shared = state.clone();
        passing.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let mut number = 0;
                shared.send_modify(|state| {
                    number = state.made;
                    state.made += 1;
                });
                wires.spawn(connection(near, number, shared.clone()));
            }
        });
        Self { address, state, _passing: passing }
    }

    /// `url` with this wire in the place of its server.
    pub(crate) fn through(&self, url: &str) -> String {
        let (before, rest) = url.split_once("://").unwrap();
        let (credentials, place) = rest.rsplit_once('@').map_or((String::new(), rest), |(c, p)| (format!("{c}@"), p));
        let behind = place.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"));
        format!("{before}://{credentials}{}{behind}", self.address)
    }

    /// Lets every connection stand, also new ones, and nothing pass.
    pub(crate) fn silence(&self) {
        self.state.send_modify(|state| state.passes = false);
    }

    /// Lets those connections that there are stand and nothing pass on them ever again, as when the
    /// machine behind them is gone; new ones are whole.
    pub(crate) fn strand(&self) {
        self.state.send_modify(|state| state.first_alive = state.made);
    }

    /// Lets everything pass.
    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| state.passes = true);
    }

    /// Takes new connections to another server.
    pub(crate) fn lead_to(&self, server: &str) {
        self.state.send_modify(|state| server.clone_into(&mut state.server));
    }

    /// Ends the connection on which the next transaction is committed, after the commit and before its
    /// answer has come back.
    pub(crate) fn lose_the_next_answer_to_a_commit(&self) {
        self.state.send_modify(|state| state.lose += 1);
    }

    /// Whether such an answer is still to come.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.state.borrow().lose == 0
    }
}

/// The server of an address with a scheme: host and port.
pub(crate) fn server(url: &str) -> String {
    let place = url.split_once("://").unwrap().1;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    place.split('/').next().unwrap().to_owned()
}

async fn connection(mut near: TcpStream, number: u64, shared: watch::Sender<State>) {
    let mut state = shared.subscribe();
    let server = state.borrow().server.clone();
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (mut from_near, mut from_far) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let now = state.borrow_and_update().clone();
        if number < now.first_alive {
            // Nobody closes it: it stands for as long as the test does.
            std::future::pending::<()>().await;
        }
        if !now.passes {
            state.changed().await.unwrap();
            continue;
        }
        tokio::select! {
            _ = state.changed() => {}
            read = near.read(&mut from_near) => {
                let Ok(count @ 1..) = read else { return };
                let asked = &from_near[..count];
                if far.write_all(asked).await.is_err() {
                    return;
                }
                if now.lose > 0 && asked.windows(COMMIT.len()).any(|some| some == COMMIT) {
                    // Its answer says that it is done.
                    let _answer = far.read(&mut from_far).await;
                    shared.send_modify(|state| state.lose -= 1);
                    return;
                }
            }
            read = far.read(&mut from_far) => {
                let Ok(count @ 1..) = read else { return };
                if near.write_all(&from_far[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
