//! Where the broker is and which part of it is ours.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use clap::Args;
use percent_encoding::percent_decode_str;

use crate::service::duration;

/// Characters in the longest prefix.
const PREFIX_MAX_CHARS: usize = 32;

/// How to reach NATS, and the settings of its topology.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Where NATS is: `nats://[user:password@]host:port`, several servers of a cluster separated by commas
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", value_name = "URL", hide_env_values = true)]
    pub nats_url: ServerUrl,
    /// What is ours there.
    #[command(flatten)]
    pub settings: Settings,
}

/// Which streams are ours, and those of their settings that differ between environments.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Settings {
    /// Put before every stream and subject, so that several environments share a server (1 to 32 of A-Z a-z 0-9 _ -)
    #[arg(long, env = "CALLFLEET_NATS_PREFIX", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub nats_prefix: Prefix,
    /// Copies of each stream: 3 on a cluster, 1 on a single server
    #[arg(long, env = "CALLFLEET_NATS_REPLICAS", default_value = "1", value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nats_replicas: u8,
    /// Time after which a job that nobody acknowledged is delivered again
    #[arg(long, env = "CALLFLEET_ACK_WAIT", default_value = "30s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub ack_wait: Duration,
}

impl Default for Settings {
    /// As nothing on the command line.
    fn default() -> Self {
        Self { nats_prefix: Prefix::none(), nats_replicas: 1, ack_wait: Duration::from_secs(30) }
    }
}

/// The addresses of a NATS server or cluster. Shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    addresses: Vec<ServerAddr>,
}

/// What a server wants to know of who connects.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Nobody,
    User { name: String, password: String },
    Token(String),
}

impl ServerUrl {
    pub(super) fn addresses(&self) -> &[ServerAddr] {
        &self.addresses
    }

    /// The credentials of the first address that has some. The client library reads none from URLs.
    pub(super) fn credentials(&self) -> Credentials {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        self.addresses
            .iter()
            .find_map(|address| {
                let name = decode(address.username()?);
                Some(match address.password() {
                    Some(password) => Credentials::User { name, password: decode(password) },
                    None => Credentials::Token(name),
                })
            })
            .unwrap_or(Credentials::Nobody)
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addresses = text
            .split(',')
            .map(|one| one.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|addresses| addresses.iter().all(|address| !address.host().is_empty()));
        // The text may hold a password: it is not repeated.
        addresses.map(|addresses| Self { addresses }).ok_or_else(|| {
            "this is no address of NATS: write nats://host:4222 or nats://user:password@host:4222".to_owned()
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (open, close) = if address.host().contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{}://{open}{}{close}:{}", address.scheme(), address.host(), address.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the names of one environment's streams and subjects begin with; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Names without a prefix.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// `CALL_WORK` as `<prefix>_CALL_WORK`.
    #[must_use]
    pub fn stream(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}_{name}", self.0) }
    }

    /// `call.work.…` as `<prefix>.call.work.…`.
    #[must_use]
    pub fn subject(&self, subject: &str) -> String {
        if self.0.is_empty() { subject.to_owned() } else { format!("{}.{subject}", self.0) }
    }

    /// The reverse of [`Prefix::subject`]; a subject of another environment stays as it is.
    #[must_use]
    pub fn strip<'a>(&self, subject: &'a str) -> &'a str {
        if self.0.is_empty() {
            return subject;
        }
        subject.strip_prefix(self.0.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(subject)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits =
            text.len() <= PREFIX_MAX_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is no prefix: it takes 1 to {PREFIX_MAX_CHARS} of A-Z a-z 0-9 _ and -"))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Prefix, ServerUrl};

    #[test]
    fn credentials_are_read_from_the_url_and_never_shown() {
        let url: ServerUrl = "nats://alice:p%40ss@10.0.0.1:4223,nats://[::1]".parse().unwrap();
        assert!(
            matches!(url.credentials(), Credentials::User { name, password } if name == "alice" && password == "p@ss")
        );
        assert_eq!(url.to_string(), "nats://10.0.0.1:4223,nats://[::1]:4222");
        assert_eq!(format!("{url:?}"), url.to_string());
        let token: ServerUrl = "s3cr3t@localhost".parse().unwrap();
        assert!(matches!(token.credentials(), Credentials::Token(token) if token == "s3cr3t"));
        assert_eq!(token.to_string(), "nats://localhost:4222");
    }

    #[test]
    fn a_refused_url_is_not_repeated() {
        for text in ["http://user:hunter2@host", "nats://:hunter2@", "nats://hunter2 x:y:z"] {
            let refused = text.parse::<ServerUrl>().unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_prefix_is_put_before_names_and_taken_off_again() {
        let prefix: Prefix = "ci-7".parse().unwrap();
        assert_eq!(prefix.stream("CALL_WORK"), "ci-7_CALL_WORK");
        assert_eq!(prefix.subject("call.work.>"), "ci-7.call.work.>");
        assert_eq!(prefix.strip("ci-7.call.dlq.x"), "call.dlq.x");
        assert_eq!(Prefix::none().strip("call.dlq.x"), "call.dlq.x");
        for text in ["a.b", "a b", "*", &"x".repeat(33)] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
