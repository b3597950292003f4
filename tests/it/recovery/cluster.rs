//! Three nats-servers that keep three copies of everything.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::up::folder::Folder;
use crate::wait::until;

const NODES: usize = 3;

pub(super) struct Cluster {
    nodes: Vec<Node>,
    folder: Folder,
}

struct Node {
    name: String,
    port: u16,
    config: std::path::PathBuf,
    process: Option<Child>,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let folder = Folder::new();
        let ports: Vec<(u16, u16)> = (0..NODES).map(|_| (free_port(), free_port())).collect();
        let routes: Vec<String> = ports.iter().map(|(_, route)| format!("nats://127.0.0.1:{route}")).collect();
        let mut nodes = Vec::new();
        for (index, (port, route)) in ports.iter().enumerate() {
            let name = format!("n{index}");
            let config = folder.path().join(format!("{name}.conf"));
            let settings = json!({
                "server_name": name,
                "listen": format!("127.0.0.1:{port}"),
                "jetstream": { "store_dir": folder.path().join(&name) },
                "cluster": { "name": "it", "listen": format!("127.0.0.1:{route}"), "routes": routes },
            });
            std::fs::write(&config, settings.to_string()).unwrap();
            nodes.push(Node { name, port: *port, config, process: None });
        }
        let mut cluster = Self { nodes, folder };
        cluster.revive().await;
        cluster
    }

    /// All addresses.
    pub(super) fn url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.port)).collect();
        urls.join(",")
    }

    /// Starts those that do not run, and waits until JetStream has a leader and all its followers.
    pub(super) async fn revive(&mut self) {
        let program = std::env::var_os("CALLFLEET_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        for node in self.nodes.iter_mut().filter(|node| node.process.is_none()) {
            let log =
                std::fs::OpenOptions::new().create(true).append(true).open(node.config.with_extension("log")).unwrap();
            let mut command = Command::new(&program);
            command.arg("-c").arg(&node.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            node.process = Some(command.spawn().unwrap());
        }
        // A stream of three copies can be made when a leader and its followers are there.
        let name = format!("probe-{:08x}", fastrand::u32(..));
        let probe = json!({ "name": name, "subjects": [name], "num_replicas": NODES, "storage": "memory" });
        until("a cluster", async || {
            let made = self.try_ask(&format!("STREAM.CREATE.{name}"), probe.clone()).await;
            made.is_some_and(|made| made.get("error").is_none())
        })
        .await;
    }

    pub(super) async fn ask(&self, request: &str) -> Value {
        let mut answer = Value::Null;
        until(request, async || {
            answer = self.try_ask(request, json!({})).await.unwrap_or_default();
            answer["type"].is_string() && answer.get("error").is_none()
        })
        .await;
        answer
    }

    /// The name of the node that leads what `info` is about.
    pub(super) async fn leader(&self, info: &str) -> String {
        self.ask(info).await["cluster"]["leader"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) async fn until_it_is_led(&self, info: &str) {
        until(&format!("a leader for {info}"), async || {
            let leader = self.leader(info).await;
            self.nodes.iter().any(|node| node.name == leader && node.process.is_some())
        })
        .await;
    }

    /// Kills a node.
    pub(super) fn kill(&mut self, name: &str) {
        let node = self.nodes.iter_mut().find(|node| node.name == name).unwrap();
        let mut process = node.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub(super) fn end(self) {
        let Self { nodes, folder } = self;
        for mut process in nodes.into_iter().filter_map(|node| node.process) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        drop(folder);
    }

    async fn try_ask(&self, request: &str, body: Value) -> Option<Value> {
        let alive = self.nodes.iter().filter(|node| node.process.is_some());
        for node in alive {
            let Ok(client) = async_nats::connect(format!("127.0.0.1:{}", node.port)).await else { continue };
            let asked = client.request(format!("$JS.API.{request}"), body.to_string().into());
            if let Ok(Ok(answer)) = tokio::time::timeout(std::time::Duration::from_secs(2), asked).await {
                return serde_json::from_slice(&answer.payload).ok();
            }
        }
        None
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
