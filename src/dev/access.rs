//! How a private server is reached: its port and password, kept in the data folder between runs.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, bail};
use uuid::Uuid;

use super::data_dir::write_private;

/// Below the ports that systems lend to outgoing connections, so that a kept port stays free.
const PORTS: Range<u16> = 15_000..30_000;
/// Ports tried before giving up; one in a hundred being free would do.
const PORT_TRIES: u32 = 200;

/// Port and password of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) port: u16,
    pub(super) password: String,
}

impl Access {
    /// What [`Access::save`] wrote; nothing when the file is missing or not as it was written.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let port = value("PORT").and_then(|port| port.parse().ok());
        let password = value("PASSWORD").filter(|password| !password.is_empty());
        Ok(port.zip(password).map(|(port, password)| Self { port, password: password.to_owned() }))
    }

    /// Keeps it in `path`, readable by its owner only.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, &format!("PORT={}\nPASSWORD={}\n", self.port, self.password))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A password of 122 random bits that needs no quoting anywhere.
pub(super) fn new_password() -> String {
    Uuid::new_v4().simple().to_string()
}

/// `former` when it is still free on loopback, else a port that is.
pub(super) fn free_port(former: Option<u16>) -> anyhow::Result<u16> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    if let Some(port) = former.filter(is_free) {
        return Ok(port);
    }
    match (0..PORT_TRIES).map(|_| fastrand::u16(PORTS)).find(is_free) {
        Some(port) => Ok(port),
        None => bail!("no free port on 127.0.0.1 between {} and {}", PORTS.start, PORTS.end),
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, free_port, new_password};
    use std::net::TcpListener;

    #[test]
    fn port_and_password_survive_and_a_damaged_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        assert_eq!(Access::load(&path).unwrap(), None);
        let access = Access { port: 20_000, password: new_password() };
        access.save(&path).unwrap();
        assert_eq!(Access::load(&path).unwrap(), Some(access));
        std::fs::write(&path, "PORT=20000\nPASS").unwrap();
        assert_eq!(Access::load(&path).unwrap(), None);
    }

    #[test]
    fn the_former_port_is_kept_unless_somebody_took_it() {
        let port = free_port(None).unwrap();
        assert_eq!(free_port(Some(port)).unwrap(), port);
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_ne!(free_port(Some(port)).unwrap(), port);
    }
}
