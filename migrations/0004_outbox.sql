-- Messages that wait for the relay.

CREATE TABLE outbox (
    msg_id       text        PRIMARY KEY,
    subject      text        NOT NULL,
    payload      bytea       NOT NULL,
    replaces     boolean     NOT NULL,
    available_at timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE outbox IS 'Written in the transaction that changes the call; deleted when JetStream has acknowledged the message.';
COMMENT ON COLUMN outbox.msg_id IS 'Also the Nats-Msg-Id: publishing twice within the window stores once.';
COMMENT ON COLUMN outbox.replaces IS 'A re-issued job whose holder is known to be dead: whatever its subject still holds goes first.';
COMMENT ON COLUMN outbox.available_at IS 'Until then the writer''s own relay has it; later any relay may lease it.';
CREATE INDEX outbox_left_behind ON outbox (available_at);
