# One image for every role: `docker run callfleet ingest --help`, `… ai-worker`, `… callfleet`.

FROM rust:1.95-bookworm AS build
WORKDIR /callfleet
ENV SQLX_OFFLINE=true

# The dependencies in a layer of their own, which stays until they change.
COPY Cargo.toml Cargo.lock ./
# The fault suite is named in the manifest, and not built here.
RUN mkdir -p src/bin tests/chaos \
    && touch src/lib.rs tests/chaos/main.rs \
    && echo 'fn main() {}' > src/bin/callfleet.rs \
    && cargo build --release --locked \
    && rm -r src

COPY README.md ./
COPY migrations migrations
COPY nats nats
COPY .sqlx .sqlx
COPY src src
# The files copied are older than the build of the empty program above.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bins \
    && mkdir programs \
    && for program in src/bin/*.rs; do cp "target/release/$(basename "$program" .rs)" programs/; done

FROM debian:bookworm-slim
# The certificates by which an https AI_URL is known.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home callfleet
COPY --from=build /callfleet/programs/ /usr/local/bin/
USER callfleet
CMD ["callfleet", "--help"]
