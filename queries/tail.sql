-- name: CheckHistory :exec
-- Moves to a new history if the recorded one is not the present one. Sequences and the few rows of histories.
SELECT postbus.check_history();

-- name: BeginHistory :one
-- Begins a new history unless the sequence has reached above; NULL: in any case.
SELECT postbus.begin_history(sqlc.narg(above)::bigint)::bigint AS first_id;

-- name: Position :one
-- The state's only row by its primary key; the head from the end of bus_pkey.
SELECT s.floor, s.trimmed_to, coalesce((SELECT max(b.id) FROM postbus.bus b), 0)::bigint AS head FROM postbus.state s WHERE s.one;

-- name: Histories :many
-- A handful of rows, no index.
SELECT h.first_id, max(h.survived)::bigint AS survived FROM postbus.histories h WHERE h.first_id > 1 GROUP BY h.first_id ORDER BY h.first_id;

-- name: LastGiven :one
-- The sequence itself: its page is read under its lock, so the answer is never too high.
SELECT coalesce(pg_sequence_last_value('postbus.bus_id_seq'), 0)::bigint AS last_given, pg_is_in_recovery() AS in_recovery;

-- name: ReadTail :many
-- bus_pkey, from after on; the state's only row by its primary key. The sum is of stored sizes: a row that the cut leaves out is never fetched from its TOAST table.
-- held has a bit for each id from after + 1 on, the lowest first: 1 for what is left out. Its rows are passed by, not sent.
SELECT t.id, t.channel, t.type, t.json, t.bin, t.headers, t.sent_at,
       coalesce(extract(epoch FROM t.expires_at - clock_timestamp()), 'Infinity')::double precision AS life,
       (SELECT s.trimmed_to FROM postbus.state s WHERE s.one)::bigint AS trimmed_to
FROM (
    SELECT b.id, b.channel, b.type, b.json, b.bin, b.headers, b.sent_at, b.expires_at,
           sum(coalesce(octet_length(b.json), octet_length(b.bin))) OVER (ORDER BY b.id ROWS UNBOUNDED PRECEDING)
           - coalesce(octet_length(b.json), octet_length(b.bin)) AS bytes_before
    FROM postbus.bus b
    WHERE b.id > sqlc.arg(after)::bigint
      AND CASE WHEN b.id - sqlc.arg(after)::bigint <= 8 * octet_length(sqlc.arg(held)::bytea)
               THEN get_bit(sqlc.arg(held)::bytea, b.id - sqlc.arg(after)::bigint - 1) = 0 ELSE true END
    ORDER BY b.id LIMIT sqlc.arg(rows)::integer
) t WHERE t.bytes_before < sqlc.arg(bytes)::bigint ORDER BY t.id;

-- name: ReadTailOf :many
-- bus_pkey, from after on, and again for the rows that are sent: those of channels, cut as ReadTail cuts. Of the others the ids alone, in
-- the first row, and their newest that only retention may remove. One row without an id when none is sent.
WITH seen AS MATERIALIZED (
    SELECT b.id, b.channel IN (SELECT unnest(sqlc.arg(channels)::text[])) AS wanted, b.expires_at IS NULL AS stays,
           coalesce(octet_length(b.json), octet_length(b.bin)) AS bytes
    FROM postbus.bus b
    WHERE b.id > sqlc.arg(after)::bigint
      AND CASE WHEN b.id - sqlc.arg(after)::bigint <= 8 * octet_length(sqlc.arg(held)::bytea)
               THEN get_bit(sqlc.arg(held)::bytea, b.id - sqlc.arg(after)::bigint - 1) = 0 ELSE true END
    ORDER BY b.id LIMIT sqlc.arg(rows)::integer
), summed AS (
    SELECT n.id, sum(n.bytes) OVER (ORDER BY n.id ROWS UNBOUNDED PRECEDING) - n.bytes AS bytes_before FROM seen n WHERE n.wanted
)
SELECT s.trimmed_to,
       (CASE WHEN row_number() OVER (ORDER BY b.id) = 1 THEN (SELECT array_agg(n.id ORDER BY n.id) FROM seen n WHERE NOT n.wanted) END)::bigint[] AS hollow,
       w.id AS witness, w.sent_at AS witness_sent_at,
       b.id, b.channel, b.type, b.json, b.bin, b.headers, b.sent_at,
       coalesce(extract(epoch FROM b.expires_at - clock_timestamp()), 'Infinity')::double precision AS life
FROM postbus.state s
LEFT JOIN postbus.bus w ON w.id = (SELECT max(n.id) FROM seen n WHERE n.stays AND NOT n.wanted)
LEFT JOIN postbus.bus b ON b.id IN (SELECT k.id FROM summed k WHERE k.bytes_before < sqlc.arg(bytes)::bigint)
WHERE s.one ORDER BY b.id;

-- name: Holders :many
-- The server's lock table: who holds what an INSERT into the log takes before its ids and keeps until it is visible or void.
SELECT l.virtualtransaction::text AS transaction, coalesce(l.pid, 0)::integer AS pid,
       coalesce(CASE WHEN l.pid IS NULL THEN (
           SELECT p.gid FROM pg_catalog.pg_locks x JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
           WHERE x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction LIMIT 1) END, '')::text AS gid
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'postbus.bus'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid();

-- name: Arm :exec
-- Holds the bell's slots: a sender that cannot have one rings. No table.
SELECT pg_advisory_lock_shared(1346532723, slot) FROM generate_series(0, 15) AS slot;

-- name: Disarm :exec
-- Lets go of the bell's slots. No table.
SELECT pg_advisory_unlock_shared(1346532723, slot) FROM generate_series(0, 15) AS slot;

-- name: SaveFloor :exec
-- The state's only row by its primary key.
UPDATE postbus.state SET floor = sqlc.arg(pos)::bigint WHERE one AND floor < sqlc.arg(pos)::bigint;

-- name: LostAbove :one
-- bus_pkey. What a new history must reach above when a row that was committed is gone, though neither retention took it nor its
-- history has ended; 0: the row is there.
SELECT (CASE WHEN sqlc.arg(id)::bigint <= s.trimmed_to
               OR EXISTS (SELECT FROM postbus.bus b WHERE b.id = sqlc.arg(id)::bigint AND b.sent_at = sqlc.arg(sent_at)::timestamptz)
               OR EXISTS (SELECT FROM postbus.histories h WHERE h.first_id > sqlc.arg(id)::bigint) THEN 0
             ELSE greatest(sqlc.arg(id)::bigint, coalesce(pg_sequence_last_value('postbus.bus_id_seq'), 0) + 1) END)::bigint AS above
FROM postbus.state s WHERE s.one;
