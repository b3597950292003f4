//! Calls back out: one, its timeline, and lists.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call_id::PathCallId;
use crate::domain::{CallId, CallKey, State, Tenant};
use crate::service::problem::Problem;
use crate::store::lists::{self, Cursor, Filter, PAGE_DEFAULT, PAGE_MAX};
use crate::store::{Store, StoreError, timeline, views};
use crate::wire::call::{CallPage, CallView, Timeline};

/// Seconds after which to ask again when the database is away.
const RETRY_AFTER_S: u16 = 1;

/// The doors that only read.
pub(super) fn router(store: Store) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(one_call))
        .routes(routes!(call_timeline))
        .routes(routes!(call_list))
        .with_state(store)
}

/// One call
///
/// Its state, its packets in numbers (`missing` as inclusive ranges, `late` what the transcript
/// lacks), its attempts and its transcript.
#[utoipa::path(
    get,
    path = "/v1/call/{call_id}",
    operation_id = "call",
    tag = "calls",
    params(("call_id" = String, Path, description = "The call's id, percent-encoded: a slash of the id is `%2F`")),
    responses(
        (status = 200, description = "The call", body = CallView),
        (status = 404, description = "`unknown_call`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`bad_field`: no call id", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is away: see Retry-After", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn one_call(Shared(store): Shared<Store>, PathCallId(call_id): PathCallId) -> Result<Json<CallView>, Problem> {
    let view = views::call(&store, key(&call_id)).await.map_err(|error| unreadable(&error))?;
    view.map(Json).ok_or_else(|| unknown_call(&call_id))
}

/// How a call came to be what it is
///
/// Transitions and attempts in order, and why the call waits now.
#[utoipa::path(
    get,
    path = "/v1/calls/{call_id}/timeline",
    operation_id = "timeline",
    tag = "calls",
    params(("call_id" = String, Path, description = "The call's id, percent-encoded: a slash of the id is `%2F`")),
    responses(
        (status = 200, description = "The timeline", body = Timeline),
        (status = 404, description = "`unknown_call`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`bad_field`: no call id", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is away: see Retry-After", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn call_timeline(
    Shared(store): Shared<Store>,
    PathCallId(call_id): PathCallId,
) -> Result<Json<Timeline>, Problem> {
    let timeline = timeline::of_call(&store, key(&call_id)).await.map_err(|error| unreadable(&error))?;
    timeline.map(Json).ok_or_else(|| unknown_call(&call_id))
}

/// Calls, the newest first
///
/// In pages: pass `next` as `after` until it is null.
#[utoipa::path(
    get,
    path = "/v1/calls",
    operation_id = "calls",
    tag = "calls",
    params(
        ("state" = Option<State>, Query, description = "Only calls in this state"),
        ("queue" = Option<String>, Query, description = "Only calls of this queue"),
        ("after" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Calls on the page: 1 to 1000, 100 when not given"),
    ),
    responses(
        (status = 200, description = "A page of calls", body = CallPage),
        (status = 422, description = "`bad_field`: a parameter, named", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is away: see Retry-After", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn call_list(
    Shared(store): Shared<Store>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<CallPage>, Problem> {
    let Query(parameters) = parameters.map_err(|error| bad("query", error.body_text()))?;
    let asked = ListQuery::read(parameters)?;
    let page = lists::page(&store, &asked.filter, asked.after, asked.limit);
    page.await.map(Json).map_err(|error| unreadable(&error))
}

#[derive(Debug)]
struct ListQuery {
    filter: Filter,
    after: Option<Cursor>,
    limit: u32,
}

impl ListQuery {
    /// Reads the parameters; an empty one counts as not given, an unknown one is refused: a filter
    /// with a typing error would otherwise show every call.
    fn read(parameters: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut asked = Self {
            filter: Filter { tenant: Tenant::open_mode(), state: None, queue: None },
            after: None,
            limit: PAGE_DEFAULT,
        };
        for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "state" => asked.filter.state = Some(value.parse().map_err(|error| bad("state", format!("{error}")))?),
                "queue" if value.contains('\0') => return Err(bad("queue", "holds U+0000".to_owned())),
                "queue" => asked.filter.queue = Some(value),
                "after" => asked.after = Some(value.parse().map_err(|error| bad("after", format!("{error}")))?),
                "limit" => asked.limit = limit(&value)?,
                _ => {
                    let detail = format!("`{name}` is not a parameter here: there are state, queue, after and limit");
                    return Err(bad("query", detail));
                }
            }
        }
        Ok(asked)
    }
}

fn limit(value: &str) -> Result<u32, Problem> {
    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| bad("limit", format!("takes a number from 1 to {PAGE_MAX}")))
}

fn bad(field: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", detail).field(field)
}

fn key(call_id: &CallId) -> CallKey {
    CallKey::derive(&Tenant::open_mode(), call_id)
}

fn unknown_call(call_id: &CallId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_call", format!("no packet of call `{call_id}` has been stored"))
}

fn unreadable(error: &StoreError) -> Problem {
    if error.is_transient() {
        let detail = "PostgreSQL is not available now: ask again";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail);
        tracing::warn!(request_id = %problem.request_id, %error, "a call could not be read");
        problem.retry_after(RETRY_AFTER_S)
    } else {
        let detail = "this could not be read, and asking again will not help: the log has the request id";
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", detail);
        tracing::error!(request_id = %problem.request_id, %error, "a call could not be read");
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::{ListQuery, PAGE_DEFAULT, State};

    fn read(parameters: &[(&str, &str)]) -> Result<ListQuery, Option<&'static str>> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ListQuery::read(parameters).map_err(|problem| {
            assert_eq!((problem.status, problem.code), (422, "bad_field"));
            problem.field
        })
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for (name, value, field) in [
            ("state", "failed", "state"),
            ("state", "FAILED'--", "state"),
            ("queue", "a\0", "queue"),
            ("after", "x", "after"),
            ("limit", "0", "limit"),
            ("limit", "1001", "limit"),
            ("limit", "-1", "limit"),
            ("limit", "ten", "limit"),
            ("stat", "FAILED", "query"),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err(), Some(field), "{name}={value}");
        }
    }

    #[test]
    fn parameters_that_are_left_out_or_empty_ask_for_everything() {
        let asked = read(&[("state", ""), ("queue", ""), ("after", ""), ("limit", "")]).unwrap();
        assert_eq!((asked.filter.state, asked.filter.queue, asked.limit), (None, None, PAGE_DEFAULT));
        let asked = read(&[("state", "FAILED"), ("queue", "a b"), ("limit", "1000")]).unwrap();
        assert_eq!((asked.filter.state, asked.filter.queue.as_deref()), (Some(State::Failed), Some("a b")));
        assert_eq!(asked.limit, 1000);
    }
}
