//! A plain HTTP/1.1 client: one keep-alive connection, one request at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait;

/// Bytes of the longest answer.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody listens
    Refused,
    /// The connection ended before the answer did
    Broken,
    /// Neither answer nor end came in time
    Silent,
}

/// A connection to one port of loopback, made anew when it has ended.
#[derive(Debug)]
pub(crate) struct Connection {
    port: u16,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) const fn new(port: u16) -> Self {
        Self { port, stream: None }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value, deadline: Duration) -> Result<Answer, Lost> {
        self.ask("POST", path, &body.to_string(), deadline).await
    }

    /// Asks, and gives up after `deadline`: then the connection is not used again.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Duration,
    ) -> Result<Answer, Lost> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let kept = self.stream.take().filter(is_open);
        let asked = wait::within(deadline, exchange(kept, self.port, request.as_bytes())).await;
        let (stream, answer) = asked.unwrap_or(Err(Lost::Silent))?;
        self.stream = stream;
        Ok(answer)
    }
}

/// `GET` on a connection of its own: the status, and the body as JSON where it is.
pub(crate) async fn get(port: u16, path: &str, deadline: Duration) -> Result<(u16, Value), Lost> {
    let answer = Connection::new(port).ask("GET", path, "", deadline).await?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

/// Whether the other side has neither ended a connection at rest nor said anything unasked.
fn is_open(stream: &TcpStream) -> bool {
    let nothing_yet = stream.try_read(&mut [0]);
    nothing_yet.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn exchange(kept: Option<TcpStream>, port: u16, request: &[u8]) -> Result<(Option<TcpStream>, Answer), Lost> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let stream = TcpStream::connect(address).await.map_err(|_| Lost::Refused)?;
            stream.set_nodelay(true).map_err(|_| Lost::Broken)?;
            stream
        }
    };
    stream.write_all(request).await.map_err(|_| Lost::Broken)?;
    let mut bytes = Vec::with_capacity(1024);
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(&mut stream, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(bytes.get(..head_end).unwrap_or_default()).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(Lost::Broken)?;
    let length: usize = header(&head, "content-length").and_then(|length| length.parse().ok()).ok_or(Lost::Broken)?;
    while bytes.len() < head_end + length {
        read_more(&mut stream, &mut bytes).await?;
    }
    let body = bytes.split_off(head_end);
    let closes = header(&head, "connection").is_some_and(|word| word.eq_ignore_ascii_case("close"));
    let answer = Answer { status, retry_after: header(&head, "retry-after").map(str::to_owned), body };
    Ok(((!closes).then_some(stream), answer))
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Lost> {
    let read = stream.read_buf(bytes).await.map_err(|_| Lost::Broken)?;
    if read == 0 || bytes.len() > ANSWER_MAX_BYTES { Err(Lost::Broken) } else { Ok(()) }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
