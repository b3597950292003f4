//! The doors' documentation: `/docs` for people, `/openapi.json` for machines; nothing is fetched.

use axum::Router;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

/// The documented routes as a router that also serves their documentation.
pub(super) fn with_docs(documented: OpenApiRouter) -> Router {
    let (router, api) = documented.split_for_parts();
    router.merge(SwaggerUi::new("/docs").url("/openapi.json", titled(api)))
}

/// The whole document, for tools that check it.
#[must_use]
pub fn openapi(documented: OpenApiRouter) -> OpenApi {
    let (_, api) = documented.split_for_parts();
    titled(api)
}

fn titled(api: OpenApi) -> OpenApi {
    let info = InfoBuilder::new()
        .title("Callfleet")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Packets of calls in, calls and their transcripts out. A 2xx means durable; an error says whether to \
             send again: 503 and 429 after Retry-After, any other 4xx never.",
        ))
        .build();
    let mut titled = OpenApiBuilder::new().info(info).build();
    titled.merge(api);
    titled
}
