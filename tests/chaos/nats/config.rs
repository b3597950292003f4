//! The servers' configuration: as nats/server.conf and nats/cluster.conf have it, on loopback.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::server::Server;
use super::{Form, PASSWORD, USER};
use crate::ports;

/// What the limits of all streams may add up to, used or not.
const MAX_FILE_STORE_BYTES: u64 = 64 * 1024 * 1024 * 1024;
const MAX_PAYLOAD_BYTES: u64 = 1024 * 1024;

/// Servers with their configuration written and ports chosen, none of them started.
pub(super) fn make(program: &Path, folder: &Path, store: &Path, form: Form) -> anyhow::Result<Vec<Server>> {
    let count = form.servers();
    let client_ports = (0..count).map(|_| ports::free()).collect::<anyhow::Result<Vec<u16>>>()?;
    let route_ports = (0..count).map(|_| ports::free()).collect::<anyhow::Result<Vec<u16>>>()?;
    let routes: Vec<String> =
        route_ports.iter().map(|port| format!("nats-route://route:{PASSWORD}@127.0.0.1:{port}")).collect();
    let mut servers = Vec::with_capacity(count);
    for (number, (port, route_port)) in client_ports.iter().zip(&route_ports).enumerate() {
        let name = format!("nats-{}", number + 1);
        let store = store.join(&name);
        let mut config = common(&name, *port, &store);
        if let (Form::Cluster, Some(config)) = (form, config.as_object_mut()) {
            config.insert(
                "cluster".to_owned(),
                json!({
                    "name": "callfleet",
                    "listen": format!("127.0.0.1:{route_port}"),
                    "authorization": { "user": "route", "password": PASSWORD, "timeout": 2 },
                    "routes": routes,
                    // Clients know all three from their URL, and reach each over a wire of its own.
                    "no_advertise": true,
                }),
            );
        }
        servers.push(server(program, folder, name, *port, store, &config)?);
    }
    Ok(servers)
}

fn common(name: &str, port: u16, store: &Path) -> Value {
    json!({
        "server_name": name,
        "listen": format!("127.0.0.1:{port}"),
        "authorization": { "user": USER, "password": PASSWORD },
        "max_payload": MAX_PAYLOAD_BYTES,
        "jetstream": {
            "store_dir": store,
            "sync_interval": "always",
            "max_file_store": MAX_FILE_STORE_BYTES,
        },
    })
}

fn server(
    program: &Path,
    folder: &Path,
    name: String,
    port: u16,
    store: PathBuf,
    config: &Value,
) -> anyhow::Result<Server> {
    let path = folder.join(format!("{name}.conf"));
    std::fs::write(&path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Server::new(program.to_owned(), name, port, store, path))
}
