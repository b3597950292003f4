//! Which room may name which room, and which dependency has which home.

use super::tokens::{paths, sources};

/// The rooms in flow order, each with the rooms it may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("service", &["domain"]),
    ("store", &["domain", "wire", "service"]),
    ("broker", &["domain", "wire", "service"]),
    ("spool", &["wire", "broker"]),
    ("relay", &["wire", "service", "store", "broker"]),
    ("ingest", &["domain", "wire", "service", "store", "spool", "relay"]),
    ("ai", &["domain", "wire", "service", "store", "broker", "spool", "relay"]),
    ("reconcile", &["domain", "wire", "service", "store", "broker", "spool", "relay"]),
    ("notifier", &["domain", "wire", "service", "store", "broker"]),
    ("ops", &["domain", "wire", "service", "store", "broker"]),
    (
        "dev",
        &[
            "domain",
            "wire",
            "service",
            "store",
            "broker",
            "spool",
            "relay",
            "ingest",
            "ai",
            "reconcile",
            "notifier",
            "ops",
        ],
    ),
];

/// Dependencies that only some rooms may name.
const HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("async_nats", &["broker"]),
    ("reqwest", &["ai", "ops", "dev"]),
    ("axum", &["service", "ingest", "notifier", "dev"]),
    ("hyper", &["service", "ops", "dev"]),
    ("hyper_util", &["service", "ops", "dev"]),
    ("tokio_tungstenite", &["notifier", "ops"]),
    ("exponential_backoff", &["ai"]),
    ("indicatif", &["ops", "dev"]),
    ("comfy_table", &["ops"]),
    ("hdrhistogram", &["ops"]),
    ("flate2", &["ingest"]),
    ("nix", &["dev"]),
    ("clap", &["service", "store", "broker", "ingest", "ai", "notifier", "ops", "dev"]),
    ("anyhow", &["service", "store", "relay", "ingest", "ai", "reconcile", "notifier", "ops", "dev"]),
];

/// What a pure room must not name.
const IMPURE: &[&str] = &["tokio", "futures_util", "metrics", "tracing", "fastrand"];

fn room(path: &std::path::Path) -> String {
    path.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn a_room_names_only_the_rooms_before_it() {
    for source in sources("src") {
        let room = room(&source.path);
        if ["lib", "bin"].contains(&room.as_str()) {
            continue;
        }
        let (_, may) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("`{room}` is no room"));
        for (first, second) in paths(&source.text) {
            let is_room = ROOMS.iter().any(|(name, _)| *name == second);
            if first == "crate" && is_room && second != room {
                assert!(may.contains(&second.as_str()), "{}: {room} may not name {second}", source.path.display());
            }
        }
    }
}

#[test]
fn a_dependency_is_named_only_at_home() {
    for source in sources("src") {
        let room = room(&source.path);
        if ["lib", "bin"].contains(&room.as_str()) {
            continue;
        }
        for (first, _) in paths(&source.text) {
            if let Some((_, homes)) = HOMES.iter().find(|(name, _)| *name == first) {
                assert!(homes.contains(&room.as_str()), "{}: {first} is not at home in {room}", source.path.display());
            }
            let is_pure = ["domain", "wire"].contains(&room.as_str());
            assert!(
                !(is_pure && IMPURE.contains(&first.as_str())),
                "{}: {first} in a pure room",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_crate_lists_its_rooms_in_flow_order() {
    let lib = sources("src").into_iter().find(|s| s.path.ends_with("lib.rs")).unwrap().text;
    let listed: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut known: Vec<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    known.sort_unstable();
    assert_eq!(sorted, known);
}
