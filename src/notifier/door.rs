//! Who may open a WebSocket, and to see what: refused before the upgrade or not at all.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::{Filter, Notifier, session};
use crate::service::problem::Problem;

/// Bytes in the longest supervisor id.
const SUPERVISOR_ID_MAX_BYTES: usize = 128;
/// Bytes in a frame that a client may send.
const FRAME_IN_MAX_BYTES: usize = 16 * 1024;
/// What a socket reads at a time; the default would take 128 KiB for each.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// What is gathered before a socket is written to, unless it is flushed first.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// What a socket may hold unwritten: more than the longest frame, a call with the longest metadata.
const WRITE_BUFFER_MAX_BYTES: usize = 512 * 1024;
/// When to come back while all places are taken.
const RETRY_AFTER_S: u16 = 5;

/// Upgrades to a WebSocket that shows the calls of the query string's filter.
pub(super) async fn open(
    State(notifier): State<Notifier>,
    headers: HeaderMap,
    supervisor_id: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    check_origin(&headers, &notifier.shared.options.allowed_origins)?;
    let supervisor_id = check_supervisor_id(supervisor_id)?;
    let filter = read_filter(query)?;
    let upgrade = upgrade.map_err(|rejection| {
        let detail = format!("this is a WebSocket, not a page: {}", rejection.body_text());
        Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail)
    })?;
    let away = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(RETRY_AFTER_S);
    if notifier.shared.shutdown.is_cancelled() {
        return Err(away("this notifier is about to end".to_owned()));
    }
    let place = Arc::clone(&notifier.shared.places).try_acquire_owned().map_err(|_| {
        away(format!(
            "all {} places for WebSockets are taken (--ws-connections)",
            notifier.shared.options.ws_connections
        ))
    })?;
    let connections = notifier.shared.connections.clone();
    // No subprotocol is answered, whatever was offered: the client is a plain one.
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
        .max_message_size(FRAME_IN_MAX_BYTES)
        .max_frame_size(FRAME_IN_MAX_BYTES)
        .on_failed_upgrade(|error| tracing::debug!(%error, "upgrade failed"))
        .on_upgrade(move |socket| {
            connections.track_future(async move {
                session::serve(socket, notifier, supervisor_id, filter).await;
                drop(place);
            })
        }))
}

/// A page of another site may not look into ours; what is no browser sends no Origin.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own =
        origin.split_once("://").zip(host).is_some_and(|((_, authority), host)| authority.eq_ignore_ascii_case(host));
    let is_allowed = allowed.iter().any(|one| one.trim_end_matches('/').eq_ignore_ascii_case(origin));
    if is_own || is_allowed {
        return Ok(());
    }
    let detail = format!("pages of {} may not open WebSockets here (--allowed-origin)", origin.escape_debug());
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", detail))
}

fn check_supervisor_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let bad =
        |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", detail).field("supervisor_id");
    let Path(id) = id.map_err(|rejection| bad(rejection.body_text()))?;
    if !(1..=SUPERVISOR_ID_MAX_BYTES).contains(&id.len()) {
        return Err(bad(format!("supervisor_id has {} bytes: it takes 1 to {SUPERVISOR_ID_MAX_BYTES}", id.len())));
    }
    if id.contains(char::is_control) {
        return Err(bad("supervisor_id holds a control character".to_owned()));
    }
    Ok(id)
}

fn read_filter(query: Result<Query<Vec<(String, String)>>, QueryRejection>) -> Result<Filter, Problem> {
    let bad = |field, detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", detail).field(field);
    let Query(pairs) = query.map_err(|rejection| bad("query", rejection.body_text()))?;
    Filter::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|error| bad(error.field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::check_origin;

    fn is_let_in(origin: Option<&'static str>, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        check_origin(&headers, &["https://ops.example.com/".to_owned()]).is_ok()
    }

    #[test]
    fn only_our_own_pages_those_allowed_and_programs_are_let_in() {
        assert!(is_let_in(None, "127.0.0.1:8002"));
        assert!(is_let_in(Some("http://127.0.0.1:8002"), "127.0.0.1:8002"));
        assert!(is_let_in(Some("https://OPS.example.com"), "127.0.0.1:8002"));
        for origin in ["http://127.0.0.1:8003", "https://evil.example", "null", "", "127.0.0.1:8002", "file://"] {
            assert!(!is_let_in(Some(origin), "127.0.0.1:8002"), "{origin}");
        }
    }
}
