-- What the workers tried, what came of it, and what could not be done.

CREATE TABLE attempts (
    call_key    uuid        NOT NULL REFERENCES calls (key) ON DELETE CASCADE,
    generation  integer     NOT NULL,
    attempt     integer     NOT NULL CHECK (attempt >= 1),
    worker      text        NOT NULL,
    started_at  timestamptz NOT NULL,
    charged     boolean     NOT NULL,
    ended_at    timestamptz,
    class       text,
    http_status integer,
    stage       text,
    fingerprint text,
    message     text,
    sent        jsonb,
    PRIMARY KEY (call_key, generation, attempt),
    CONSTRAINT attempts_class_known CHECK (
        class IN ('done', 'transient', 'busy', 'account', 'permanent', 'invalid', 'crash', 'handed_back')),
    CONSTRAINT attempts_end_has_a_class CHECK ((ended_at IS NULL) = (class IS NULL)),
    CONSTRAINT attempts_failure_has_a_fingerprint CHECK (
        (fingerprint IS NOT NULL) = (class IS NOT NULL AND class NOT IN ('done', 'handed_back')))
);
COMMENT ON TABLE attempts IS 'One row for every request to the AI service, counted before it begins.';
COMMENT ON COLUMN attempts.charged IS 'Whether it counts against the call''s budget.';
COMMENT ON COLUMN attempts.class IS 'How it ended; null while it runs.';
COMMENT ON COLUMN attempts.stage IS 'Which step failed: load, ask or record.';
COMMENT ON COLUMN attempts.fingerprint IS 'Class, status, stage and normalised message as one short hash, so that failures group.';
COMMENT ON COLUMN attempts.sent IS 'Inclusive ranges of the sequences that were sent: [[1,20]].';

CREATE TABLE results (
    call_key   uuid        NOT NULL REFERENCES calls (key) ON DELETE CASCADE,
    generation integer     NOT NULL,
    attempt    integer     NOT NULL,
    transcript text        NOT NULL,
    response   text        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (call_key, generation)
);
COMMENT ON TABLE results IS 'What the AI service answered, one row for each generation.';
COMMENT ON COLUMN results.response IS 'The whole answer as it came, unknown fields included.';

CREATE TABLE dead_letters (
    call_key    uuid        NOT NULL REFERENCES calls (key) ON DELETE CASCADE,
    generation  integer     NOT NULL,
    class       text        NOT NULL,
    fingerprint text        NOT NULL,
    message     text        NOT NULL,
    subject     text        NOT NULL UNIQUE,
    payload     bytea       NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (call_key, generation)
);
COMMENT ON TABLE dead_letters IS 'Calls the AI service could not be made to answer: one to one with the messages of CALL_DLQ.';
COMMENT ON COLUMN dead_letters.payload IS 'The message''s body, so that a wiped stream can be refilled.';
