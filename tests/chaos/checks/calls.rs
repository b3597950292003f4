//! Calls, timelines and attempts: plain statements, each giving a line for whatever is not as it should
//! be. The legal steps are written down here once more, not read from the product's own table.

use sqlx::PgPool;

use crate::findings::{Finding, Sort};

struct Statement {
    sort: Sort,
    what: &'static str,
    sql: &'static str,
}

const fn statement(sort: Sort, what: &'static str, sql: &'static str) -> Statement {
    Statement { sort, what, sql }
}

/// As DESIGN.md has them.
const STATEMENTS: &[Statement] = &[
    statement(
        Sort::Lost,
        "calls that are neither archived nor dead",
        "SELECT format('%s is %s %s since %s, version %s, retry due %s, lease until %s, looked at %s', call_id, state,
                       ai_status, updated_at, version, next_attempt_at, lease_until, reconcile_at)
           FROM calls WHERE NOT (state = 'ARCHIVED' AND ai_status = 'SUCCEEDED')
            AND NOT (state = 'FAILED' AND ai_status = 'DEAD_LETTERED')",
    ),
    statement(
        Sort::Duplicated,
        "calls that are there more than once",
        "SELECT format('%s is there %s times', call_id, count(*)) FROM calls GROUP BY call_id HAVING count(*) > 1",
    ),
    statement(
        Sort::Duplicated,
        "calls that reached their end not exactly once",
        "SELECT format('%s was archived %s times and died %s times, and is %s', c.call_id,
                       count(*) FILTER (WHERE t.to_state = 'ARCHIVED' AND t.from_state <> 'ARCHIVED'),
                       count(*) FILTER (WHERE t.ai_status = 'DEAD_LETTERED' AND t.from_state = 'PROCESSING_AI'), c.state)
           FROM calls c JOIN transitions t ON t.call_key = c.key GROUP BY c.key
         HAVING count(*) FILTER (WHERE t.to_state = 'ARCHIVED' AND t.from_state <> 'ARCHIVED')
                + count(*) FILTER (WHERE t.ai_status = 'DEAD_LETTERED' AND t.from_state = 'PROCESSING_AI')
                <> (c.state = 'ARCHIVED' OR c.ai_status = 'DEAD_LETTERED')::int",
    ),
    statement(
        Sort::Duplicated,
        "transcripts that are not recorded exactly once",
        "SELECT format('%s is %s and has %s transcripts of %s successful attempts', c.call_id, c.ai_status,
                       (SELECT count(*) FROM results r WHERE r.call_key = c.key AND r.generation = c.generation),
                       (SELECT count(*) FROM attempts a WHERE a.call_key = c.key AND a.generation = c.generation
                           AND a.class = 'done'))
           FROM calls c
          WHERE (SELECT count(*) FROM results r WHERE r.call_key = c.key AND r.generation = c.generation)
                <> (c.ai_status = 'SUCCEEDED')::int
             OR (SELECT count(*) FROM attempts a WHERE a.call_key = c.key AND a.generation = c.generation
                    AND a.class = 'done') <> (c.ai_status = 'SUCCEEDED')::int",
    ),
    statement(
        Sort::Broken,
        "versions that are not contiguous",
        "SELECT format('%s has version %s and %s lines from %s to %s', c.call_id, c.version, count(t.version),
                       min(t.version), max(t.version))
           FROM calls c LEFT JOIN transitions t ON t.call_key = c.key GROUP BY c.key
         HAVING count(t.version) <> c.version OR min(t.version) <> 1 OR max(t.version) <> c.version",
    ),
    statement(
        Sort::Broken,
        "steps that are not legal, or do not follow from the one before",
        "SELECT format('%s version %s: from %s to %s after %s', c.call_id, t.version, t.from_state, t.to_state, t.before)
           FROM (SELECT t.*, lag(t.to_state) OVER (PARTITION BY t.call_key ORDER BY t.version) AS before
                   FROM transitions t) t
           JOIN calls c ON c.key = t.call_key
          WHERE t.from_state IS DISTINCT FROM t.before
             OR (t.version = 1 AND t.to_state <> 'IN_PROGRESS')
             OR (t.from_state <> t.to_state AND (t.from_state, t.to_state) NOT IN (
                    ('IN_PROGRESS', 'COMPLETED'), ('COMPLETED', 'PROCESSING_AI'), ('FAILED', 'PROCESSING_AI'),
                    ('PROCESSING_AI', 'ARCHIVED'), ('PROCESSING_AI', 'FAILED'), ('FAILED', 'ARCHIVED')))",
    ),
    statement(
        Sort::Broken,
        "calls that are not what their timeline says",
        "SELECT format('%s is %s %s, its timeline ends in %s %s', c.call_id, c.state, c.ai_status, t.to_state, t.ai_status)
           FROM calls c LEFT JOIN transitions t ON t.call_key = c.key AND t.version = c.version
          WHERE t.to_state IS DISTINCT FROM c.state OR t.ai_status IS DISTINCT FROM c.ai_status",
    ),
    statement(
        Sort::Broken,
        "changes dated well after their own commit: a role's clock is ahead of the database's",
        "SELECT format('%s version %s (%s) by %s says %s and was committed at %s', c.call_id, t.version, t.to_state, t.actor,
                       t.at, pg_xact_commit_timestamp(t.xmin))
           FROM transitions t JOIN calls c ON c.key = t.call_key
          WHERE t.at > pg_xact_commit_timestamp(t.xmin) + interval '500 milliseconds'",
    ),
    statement(
        Sort::Broken,
        "answers recorded by a worker that did not hold the call",
        "SELECT format('%s version %s: %s recorded what %s had claimed', c.call_id, t.version, t.actor, p.actor)
           FROM transitions t
           -- What a packet newly says of its call may come in between.
           CROSS JOIN LATERAL (SELECT * FROM transitions p WHERE p.call_key = t.call_key AND p.version < t.version
                                  AND p.actor <> 'ingest' ORDER BY p.version DESC LIMIT 1) p
           JOIN calls c ON c.key = t.call_key
          WHERE t.from_state = 'PROCESSING_AI' AND t.to_state IN ('ARCHIVED', 'FAILED')
            AND p.to_state = 'PROCESSING_AI' AND t.actor <> p.actor AND t.actor <> 'reconciler'",
    ),
    statement(
        Sort::Broken,
        "attempts that are open, uncounted, or more than may be",
        "SELECT format('%s is %s: %s attempts, %s charged, %s open, %s the budget; the call counts %s and %s', c.call_id,
                       c.ai_status, count(a.attempt), count(*) FILTER (WHERE a.charged),
                       count(a.attempt) FILTER (WHERE a.ended_at IS NULL),
                       CASE WHEN count(*) FILTER (WHERE a.charged) > 5 THEN 'over' ELSE 'within' END,
                       c.attempts_charged, c.attempts_uncharged)
           FROM calls c LEFT JOIN attempts a ON a.call_key = c.key AND a.generation = c.generation GROUP BY c.key
         HAVING count(a.attempt) <> c.attempts_charged + c.attempts_uncharged
             OR count(*) FILTER (WHERE a.charged) <> c.attempts_charged
             OR count(*) FILTER (WHERE a.charged) > 5
             OR count(a.attempt) FILTER (WHERE a.ended_at IS NULL) <> (c.ai_status = 'RUNNING')::int
             OR coalesce(max(a.attempt), 0) <> count(a.attempt)",
    ),
    statement(
        Sort::Broken,
        "dead letters that are not those of dead calls",
        "SELECT format('%s is %s and has %s letters', c.call_id, c.ai_status, count(d.call_key))
           FROM calls c LEFT JOIN dead_letters d ON d.call_key = c.key GROUP BY c.key
         HAVING count(d.call_key) <> (c.ai_status = 'DEAD_LETTERED')::int",
    ),
    statement(
        Sort::Broken,
        "packets of no call, or calls that nobody made",
        "SELECT format('packet %s of %s', p.sequence, p.call_key)
           FROM packets p LEFT JOIN calls c ON c.key = p.call_key
          WHERE c.key IS NULL OR c.call_id !~ '^r[0-9]{4}-' OR c.tenant <> 'default'
         UNION ALL
         SELECT format('call %s', call_id) FROM calls WHERE call_id !~ '^r[0-9]{4}-' OR tenant <> 'default'",
    ),
    statement(
        Sort::Broken,
        "packets that count as sent with other content, though none was",
        "SELECT format('%s of %s', sequence, call_key) FROM packet_conflicts",
    ),
];

/// Runs every statement.
pub(super) async fn check(pool: &PgPool) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for Statement { sort, what, sql } in STATEMENTS {
        let lines: Vec<String> = sqlx::query_scalar(*sql).fetch_all(pool).await?;
        findings.extend(Finding::of(*sort, what, &lines));
    }
    Ok(findings)
}
