-- The names that people debug by.

CREATE VIEW call_events AS
    SELECT c.call_id, p.sequence AS sequence_number, p.received_at AS created_at,
           p.data, p.sent_at, c.tenant, p.call_key
      FROM packets p JOIN calls c ON c.key = p.call_key;
COMMENT ON VIEW call_events IS 'Packets by call id: SELECT call_id, sequence_number, created_at FROM call_events ORDER BY created_at;';

CREATE VIEW ai_results AS
    SELECT c.call_id, c.ai_status AS status, r.transcript, c.tenant, c.generation, r.created_at, c.key AS call_key
      FROM calls c
      LEFT JOIN LATERAL (
          SELECT transcript, created_at FROM results r WHERE r.call_key = c.key ORDER BY generation DESC LIMIT 1) r ON true
     WHERE c.ai_status <> 'NONE';
COMMENT ON VIEW ai_results IS 'The newest transcript of each call: SELECT call_id, status, transcript FROM ai_results;';
