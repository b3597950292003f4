//! Serving a router: limits on connections and header time, and an end that nobody is cut off by.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections that one listener holds at a time; later ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 20_000;
/// Time a client may take for the head of a request, so that half-open clients free their place.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after the wish to end in which connections are still taken and kept: a client that keeps its
/// connection busy meets an answer that ends it, where it would have sent a request into its end.
const LINGER: Duration = Duration::from_secs(1);
/// Time that connections get then to finish the request in hand.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `shutdown`, and then takes its leave so that no client notices
/// more than a connection that ends: for some seconds it goes on as before, but each answer says that it
/// is the last on its connection; then it takes in what the kernel has accepted for it, stops to
/// listen, and finishes the requests in hand.
///
/// # Errors
/// When the listener dies.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    let server =
        Server { router, shutdown, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), open: TaskTracker::new() };
    tokio::select! {
        () = server.accept(&listener) => {}
        () = server.shutdown.cancelled() => {}
    }
    server.open.close();
    tokio::select! {
        () = server.accept(&listener) => {}
        () = server.open.wait() => {}
        () = tokio::time::sleep(LINGER) => {}
    }
    server.take_in_the_rest(listener)?;
    if tokio::time::timeout(DRAIN, server.open.wait()).await.is_err() {
        tracing::warn!(open = server.open.len(), "connections still open at the end of the drain");
    }
    Ok(())
}

struct Server {
    router: Router,
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
    open: TaskTracker,
}

impl Server {
    /// Takes connections for ever.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream, place),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes the connections that wait in the kernel's queue, whose clients may have sent a request:
    /// closed with the listener they would be reset. Then the listener is closed.
    fn take_in_the_rest(&self, listener: TcpListener) -> anyhow::Result<()> {
        let listener = listener.into_std().context("the listener cannot be emptied")?;
        while let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
            && let Ok((stream, _)) = listener.accept()
        {
            stream.set_nonblocking(true).context("a connection cannot be served")?;
            self.serve(TcpStream::from_std(stream).context("a connection cannot be served")?, place);
        }
        Ok(())
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (router, shutdown) = (self.router.clone(), self.shutdown.clone());
        self.open.spawn(async move {
            connection(stream, router, shutdown).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    // Answers are small and awaited: Nagle's delay would be all of their latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let is_ending = shutdown.clone();
    let service = TowerToHyperService::new(
        router
            .map_request(|request: hyper::Request<Incoming>| request.map(axum::body::Body::new))
            .map_response(move |answer: Response| if is_ending.is_cancelled() { last(answer) } else { answer }),
    );
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        // An idle client that is about to send a request gets its answer; the others are gone by then.
        () = async { shutdown.cancelled().await; tokio::time::sleep(LINGER).await } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Says that the connection ends behind this answer. One that becomes a WebSocket goes on.
fn last(mut answer: Response) -> Response {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
