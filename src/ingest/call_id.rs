//! The call id of a path, as every door with one in its path reads it.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::domain::{CallId, InvalidId};
use crate::service::problem::Problem;

/// The `{call_id}` of a path, percent-decoded once: `%2F` is a slash of the id, `%252F` is `%2F`.
///
/// Whatever is no call id (empty, over 255 bytes, not UTF-8, a control character) is answered with a
/// 422 that names `call_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCallId(pub CallId);

impl<S: Send + Sync> FromRequestParts<S> for PathCallId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // The one rejection there is for a route with a parameter: bytes that are not UTF-8.
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| refused(&InvalidId::NotUtf8))?;
        let decoded = params.iter().find(|(name, _)| *name == "call_id").map_or("", |(_, value)| value);
        CallId::new(decoded).map(Self).map_err(|error| refused(&error))
    }
}

/// The problem of a call id that is none, wherever it was sent.
#[must_use]
pub fn refused(error: &InvalidId) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", error.to_string()).field("call_id")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode, header};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::PathCallId;

    async fn ask(path: &str) -> (StatusCode, String, Vec<u8>) {
        let router = Router::new()
            .route("/v1/call/{call_id}", get(|PathCallId(id): PathCallId| async move { id.as_str().to_owned() }))
            .route("/v1/calls/{call_id}/end", get(|PathCallId(id): PathCallId| async move { id.as_str().to_owned() }));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let kind = response.headers().get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap()).to_owned();
        (response.status(), kind, to_bytes(response.into_body(), 10_000).await.unwrap().to_vec())
    }

    fn encoded(id: &str) -> String {
        percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[tokio::test]
    async fn an_id_in_a_path_is_decoded_once() {
        let sip = "f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@host.example";
        let widest = "x".repeat(255);
        for id in [sip, "a/b", "a%2Fb", "%", "*", ">", "..", "é", "'; --", " ", &widest] {
            for path in [format!("/v1/call/{}", encoded(id)), format!("/v1/calls/{}/end", encoded(id))] {
                let (status, _, body) = ask(&path).await;
                assert_eq!((status, body.as_slice()), (StatusCode::OK, id.as_bytes()), "{id}");
            }
        }
        // What need not be encoded may come as it is, and a stray % is itself.
        assert_eq!(ask("/v1/call/a+b@c:d*(e)%zz").await.2, b"a+b@c:d*(e)%zz");
    }

    #[tokio::test]
    async fn what_is_no_call_id_is_a_422_that_names_the_field() {
        for path in ["%00", "a%0Ab", "%7f", "%ff", "a%c3", &"x".repeat(256), &"%41".repeat(256)] {
            for path in [format!("/v1/call/{path}"), format!("/v1/calls/{path}/end")] {
                let (status, kind, body) = ask(&path).await;
                assert_eq!((status, kind.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "application/problem+json"));
                let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((&problem["code"], &problem["field"]), (&"bad_field".into(), &"call_id".into()), "{path}");
                assert!(problem["request_id"].is_string());
            }
        }
    }
}
