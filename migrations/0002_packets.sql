-- What the PBX sent.

CREATE TABLE packets (
    call_key    uuid        NOT NULL,
    sequence    bigint      NOT NULL CHECK (sequence >= 0),
    data        bytea       NOT NULL,
    sent_at     timestamptz,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (call_key, sequence)
);
COMMENT ON TABLE packets IS
    'Every packet once. No foreign key to calls: a flush opens the call before its packets in one transaction, '
    'and the check would cost more than the insert.';
COMMENT ON COLUMN packets.data IS 'The packet''s text as UTF-8 bytes: it may hold U+0000, which text cannot.';
COMMENT ON COLUMN packets.sent_at IS 'The sender''s timestamp, never trusted.';

CREATE TABLE packet_copies (
    call_key uuid    NOT NULL,
    sequence bigint  NOT NULL,
    copies   integer NOT NULL CHECK (copies > 0),
    PRIMARY KEY (call_key, sequence)
);
COMMENT ON TABLE packet_copies IS 'How many further copies of a stored packet came.';

CREATE TABLE packet_conflicts (
    call_key    uuid        NOT NULL,
    sequence    bigint      NOT NULL,
    digest      bytea       NOT NULL,
    data        bytea       NOT NULL,
    sent_at     timestamptz,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (call_key, sequence, digest)
);
COMMENT ON TABLE packet_conflicts IS 'Copies whose content differs from the stored packet: the first stays, the losers are kept here.';
COMMENT ON COLUMN packet_conflicts.digest IS 'SHA-256 of data.';
