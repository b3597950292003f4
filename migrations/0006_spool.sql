-- Packets that were accepted while PostgreSQL was away, and who can accept any.

CREATE TABLE spool_letters (
    id      uuid        PRIMARY KEY,
    reason  text        NOT NULL,
    subject text        NOT NULL UNIQUE,
    payload bytea       NOT NULL,
    at      timestamptz NOT NULL
);
COMMENT ON TABLE spool_letters IS
    'What came out of the spool and could not be stored: one to one with messages of CALL_DLQ, beside dead_letters.';
COMMENT ON COLUMN spool_letters.payload IS 'The whole message when it could not be read, else the one entry that was refused.';

CREATE VIEW dead_letter_messages AS
    SELECT subject, payload, format('dlq-%s-%s', replace(call_key::text, '-', ''), generation) AS msg_id, at, call_key
      FROM dead_letters
     UNION ALL
    SELECT subject, payload, format('dlq-spool-%s', replace(id::text, '-', '')), at, NULL
      FROM spool_letters;
COMMENT ON VIEW dead_letter_messages IS 'What CALL_DLQ should hold, message by message.';

CREATE TABLE ingests (
    name          text        PRIMARY KEY,
    storing_since timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    CONSTRAINT ingests_seen_after_since CHECK (seen_at >= storing_since)
) WITH (fillfactor = 50);
COMMENT ON TABLE ingests IS 'Every ingest says here each second that it can store packets; silence of a call counts only while one can.';
COMMENT ON COLUMN ingests.storing_since IS 'Since when it could without a break.';
