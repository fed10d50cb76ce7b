-- What an index is compared with here must be known when the statement begins: statement_timestamp(), and the state by a query of its own, since
-- a join with it starts at the first row there ever was (TestRetentionLooksNoFurtherThanItMust).

-- name: Overdue :one
-- bus_pkey from trimmed_to on, bus_expires_at, keys_expires_at: the first row of each. By "id + 0" PostgreSQL cannot choose bus_pkey for the second.
SELECT (coalesce((SELECT b.sent_at < statement_timestamp() - make_interval(secs => sqlc.arg(retention)::double precision)
                  FROM postbus.bus b WHERE b.id > s.trimmed_to AND b.id <= s.floor ORDER BY b.id LIMIT 1), false)
        OR EXISTS (SELECT FROM postbus.bus b WHERE b.expires_at < statement_timestamp() AND b.id + 0 <= s.floor)
        OR EXISTS (SELECT FROM postbus.keys k WHERE k.expires_at < statement_timestamp()))::boolean AS overdue
FROM postbus.state s WHERE s.one;

-- name: TryTrimLock :one
-- No table: one node at a time, without waiting.
SELECT pg_try_advisory_xact_lock(1346532723, -2)::boolean AS mine;

-- name: TrimOldest :one
-- bus_pkey from trimmed_to on, in id order up to the first that is young enough.
WITH oldest AS (
    SELECT b.id, b.sent_at < statement_timestamp() - make_interval(secs => sqlc.arg(retention)::double precision) AS old
    FROM postbus.bus b
    WHERE b.id > (SELECT s.trimmed_to FROM postbus.state s WHERE s.one) AND b.id <= (SELECT s.floor FROM postbus.state s WHERE s.one)
    ORDER BY b.id LIMIT sqlc.arg(rows)::integer
), gone AS (
    DELETE FROM postbus.bus b USING oldest o
    WHERE b.id = o.id AND o.id < coalesce((SELECT min(y.id) FROM oldest y WHERE NOT y.old), 9223372036854775807)
    RETURNING b.id
)
SELECT count(*)::bigint AS removed, coalesce(max(g.id), 0)::bigint AS trimmed_to FROM gone g;

-- name: SaveTrimmed :exec
-- The state's only row by its primary key. A statement of its own, the transaction's last: its row is wanted by every node's floor.
UPDATE postbus.state SET trimmed_to = sqlc.arg(trimmed_to)::bigint WHERE one AND trimmed_to < sqlc.arg(trimmed_to)::bigint;

-- name: SweepExpired :execrows
-- bus_expires_at.
DELETE FROM postbus.bus WHERE id IN (
    SELECT b.id FROM postbus.bus b
    WHERE b.expires_at < statement_timestamp() AND b.id <= (SELECT s.floor FROM postbus.state s WHERE s.one)
    ORDER BY b.expires_at LIMIT sqlc.arg(rows)::integer);

-- name: SweepKeys :execrows
-- keys_expires_at. A key that a sender is taking again is skipped, not waited for.
DELETE FROM postbus.keys WHERE (channel, key) IN (
    SELECT k.channel, k.key FROM postbus.keys k
    WHERE k.expires_at < statement_timestamp() ORDER BY k.expires_at LIMIT sqlc.arg(rows)::integer FOR UPDATE SKIP LOCKED);
