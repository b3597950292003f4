//! One keep-alive connection, driven inside the task that uses it: no task switch per answer.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Time a request may take before its connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read of an answer at most; the longest is a batch of refusals.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Where packets are posted to.
#[derive(Clone, Debug)]
pub(super) struct Address {
    host: String,
    port: u16,
    authority: HeaderValue,
    base_path: String,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer; whether the request was stored is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the answer broke off or is too long")]
    Answer,
    #[error("the connection closed")]
    Closed,
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

impl Address {
    /// # Errors
    /// When `url` is not a plain HTTP address.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("`{url}` does not begin with http://: simulate sends over plain HTTP only");
        }
        let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str())?,
            base_path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `path` below this address, as a request names it.
    pub(super) fn uri(&self, path: &str) -> anyhow::Result<Uri> {
        format!("{}{path}", self.base_path).parse().with_context(|| format!("`{path}` is not a path"))
    }
}

/// A connection that is opened when first used, and again after it was lost.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    content_type: HeaderValue,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

impl Connection {
    pub(super) fn new(address: Address, content_type: &'static str) -> Self {
        Self { address, content_type: HeaderValue::from_static(content_type), open: None }
    }

    /// Posts `body` to `uri`.
    pub(super) async fn post(&mut self, uri: Uri, body: Bytes) -> Result<Answer, Lost> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, self.address.authority.clone());
        request.headers_mut().insert(CONTENT_TYPE, self.content_type.clone());
        // Kept apart while in use: a request that is dropped half-way takes its connection with it.
        let kept = self.open.take().filter(|open| !open.sender.is_closed());
        let exchange = async {
            let mut open = match kept {
                Some(open) => open,
                None => Open::new(&self.address).await?,
            };
            let answer = open.exchange(request).await?;
            Ok((open, answer))
        };
        let (open, answer) = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(Lost::Timeout))?;
        self.open = Some(open);
        Ok(answer)
    }
}

impl Open {
    async fn new(address: &Address) -> Result<Self, Lost> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Box::pin(driver) })
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
        let Self { sender, driver } = self;
        let answer = async {
            sender.ready().await?;
            read(sender.send_request(request).await?).await
        };
        let mut answer = pin!(answer);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            let driven = driver.as_mut().poll(cx);
            // What the driver just read may be the answer, the last one before the end included.
            match (answer.as_mut().poll(cx), driven) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(Lost::Closed)),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, Lost> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = http_body_util::Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|_| Lost::Answer)?;
    let retry_after = retry_after.map(Duration::from_secs);
    Ok(Answer { status: head.status, retry_after, body: body.to_bytes() })
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_keeps_host_port_and_path() {
        let address = Address::parse("http://[::1]:81/base/").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 81));
        assert_eq!(address.uri("/v1").unwrap(), "/base/v1");
        assert_eq!(Address::parse("http://localhost").unwrap().port, 80);
        for url in ["https://x", "localhost:8000", "", "http://"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
