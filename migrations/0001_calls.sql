-- The call, what it may become, and how it came to be what it is.

CREATE TABLE call_transitions_allowed (
    from_state text NOT NULL,
    to_state   text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE call_transitions_allowed IS
    'Every legal step of a call; domain::State holds the same table and a test compares them.';
INSERT INTO call_transitions_allowed (from_state, to_state) VALUES
    ('IN_PROGRESS',   'COMPLETED'),
    ('COMPLETED',     'PROCESSING_AI'),
    ('FAILED',        'PROCESSING_AI'),
    ('PROCESSING_AI', 'PROCESSING_AI'),
    ('PROCESSING_AI', 'ARCHIVED'),
    ('PROCESSING_AI', 'FAILED'),
    ('FAILED',        'ARCHIVED');

CREATE TABLE calls (
    key                uuid        PRIMARY KEY,
    tenant             text        NOT NULL COLLATE "C",
    call_id            text        NOT NULL COLLATE "C",
    state              text        NOT NULL,
    ai_status          text        NOT NULL,
    version            integer     NOT NULL,
    generation         integer     NOT NULL,
    queue              text,
    direction          text,
    from_party         text,
    to_party           text,
    agent              text,
    tags               jsonb       NOT NULL DEFAULT '{}',
    attempts_charged   integer     NOT NULL DEFAULT 0,
    attempts_uncharged integer     NOT NULL DEFAULT 0,
    ended_at           timestamptz,
    end_reason         text,
    final_sequence     bigint,
    lease_token        uuid,
    lease_until        timestamptz,
    next_attempt_at    timestamptz,
    reconcile_at       timestamptz,
    over_limit_at      timestamptz,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    completed_at       timestamptz,
    archived_at        timestamptz,

    CONSTRAINT calls_tenant_call_id UNIQUE (tenant, call_id),
    CONSTRAINT calls_call_id_length CHECK (octet_length(call_id) BETWEEN 1 AND 255),
    CONSTRAINT calls_tenant_form CHECK (tenant ~ '^[a-z0-9_-]{1,64}$'),
    CONSTRAINT calls_version_counts CHECK (version >= 1 AND generation >= 1),
    CONSTRAINT calls_final_sequence_counts CHECK (final_sequence >= 0),
    -- What each state says of the AI's work; ARCHIVED calls may be asked about again.
    CONSTRAINT calls_ai_status_fits CHECK (
        CASE state
            WHEN 'IN_PROGRESS'   THEN ai_status = 'NONE'
            WHEN 'COMPLETED'     THEN ai_status = 'PENDING'
            WHEN 'PROCESSING_AI' THEN ai_status = 'RUNNING'
            WHEN 'FAILED'        THEN ai_status IN ('RETRY_SCHEDULED', 'DEAD_LETTERED', 'PENDING')
            WHEN 'ARCHIVED'      THEN ai_status IN ('SUCCEEDED', 'DISCARDED', 'PENDING', 'RUNNING', 'RETRY_SCHEDULED', 'DEAD_LETTERED')
            ELSE false
        END),
    CONSTRAINT calls_lease_while_running CHECK ((ai_status = 'RUNNING') = (lease_token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT calls_retry_has_a_time CHECK ((ai_status = 'RETRY_SCHEDULED') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT calls_archived_has_a_time CHECK ((state = 'ARCHIVED') = (archived_at IS NOT NULL)),
    CONSTRAINT calls_completed_has_a_time CHECK ((state = 'IN_PROGRESS') = (completed_at IS NULL))
) WITH (fillfactor = 70);

COMMENT ON TABLE calls IS 'One row a call: its present. The past is in transitions.';
COMMENT ON COLUMN calls.key IS 'Derived from (tenant, call_id), so that it exists without a database; the call''s name in subjects and foreign keys.';
COMMENT ON COLUMN calls.call_id IS 'The PBX''s own id, hostile input, compared byte by byte.';
COMMENT ON COLUMN calls.version IS 'Raised by one with every change of state, ai_status or filterable metadata.';
COMMENT ON COLUMN calls.generation IS 'Which asking of the AI this is; a replay starts the next.';
COMMENT ON COLUMN calls.attempts_charged IS 'Attempts of this generation that count against the budget.';
COMMENT ON COLUMN calls.attempts_uncharged IS 'Attempts of this generation that do not (busy service, hand-back).';
COMMENT ON COLUMN calls.ended_at IS 'When the end signal came; the call settles from here.';
COMMENT ON COLUMN calls.final_sequence IS 'The last sequence the sender said there is, when it said so.';
COMMENT ON COLUMN calls.lease_token IS 'Fencing: a result is recorded only while this token still stands.';
COMMENT ON COLUMN calls.reconcile_at IS 'When the reconciler looks at this call next; null when time can do nothing to it.';
COMMENT ON COLUMN calls.over_limit_at IS 'When the first packet over the call''s caps was refused.';

CREATE INDEX calls_agenda ON calls (reconcile_at) WHERE reconcile_at IS NOT NULL;
CREATE INDEX calls_by_state ON calls (state, created_at, key);
CREATE INDEX calls_by_queue ON calls (queue, created_at, key) WHERE queue IS NOT NULL;
CREATE INDEX calls_by_age ON calls (created_at, key);
CREATE INDEX calls_lately_archived ON calls (archived_at, key) WHERE archived_at IS NOT NULL;

CREATE FUNCTION calls_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IS DISTINCT FROM OLD.state
       AND NOT EXISTS (SELECT FROM call_transitions_allowed a WHERE a.from_state = OLD.state AND a.to_state = NEW.state) THEN
        RAISE EXCEPTION 'a call cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'calls_legal_transition';
    END IF;
    IF NEW.version <> OLD.version + 1 THEN
        RAISE EXCEPTION 'version % cannot follow version %', NEW.version, OLD.version
            USING ERRCODE = 'check_violation', CONSTRAINT = 'calls_version_contiguous';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION calls_guard() IS 'Refuses illegal transitions and versions that jump, whoever writes.';

CREATE TRIGGER calls_guard BEFORE UPDATE ON calls
    FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.ai_status IS DISTINCT FROM NEW.ai_status
          OR OLD.version IS DISTINCT FROM NEW.version OR OLD.lease_token IS DISTINCT FROM NEW.lease_token
          OR OLD.queue IS DISTINCT FROM NEW.queue OR OLD.direction IS DISTINCT FROM NEW.direction
          OR OLD.from_party IS DISTINCT FROM NEW.from_party OR OLD.to_party IS DISTINCT FROM NEW.to_party
          OR OLD.agent IS DISTINCT FROM NEW.agent OR OLD.tags IS DISTINCT FROM NEW.tags)
    EXECUTE FUNCTION calls_guard();

CREATE TABLE transitions (
    call_key   uuid        NOT NULL REFERENCES calls (key) ON DELETE CASCADE,
    version    integer     NOT NULL,
    from_state text,
    to_state   text        NOT NULL,
    ai_status  text        NOT NULL,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    reason     text        NOT NULL,
    PRIMARY KEY (call_key, version)
);
COMMENT ON TABLE transitions IS 'The call''s timeline: one row for every version, never changed.';
COMMENT ON COLUMN transitions.from_state IS 'Null for the first packet; equal to to_state when only ai_status or metadata changed.';
COMMENT ON COLUMN transitions.actor IS 'Which program or person: ingest, reconciler, worker …';
