-- name: Settings :one
-- The only row by its primary key.
SELECT s.max_body, s.max_request, extract(epoch FROM s.retention)::double precision AS retention,
       extract(epoch FROM s.key_retention)::double precision AS key_retention
FROM postbus.settings s WHERE s.one;

-- name: SaveSettings :exec
-- The only row by its primary key; what an earlier node has recorded stays unless replace.
UPDATE postbus.settings SET max_body = sqlc.arg(max_body), max_request = sqlc.arg(max_request),
    retention = make_interval(secs => sqlc.arg(retention)::double precision),
    key_retention = make_interval(secs => sqlc.arg(key_retention)::double precision), saved_at = clock_timestamp()
WHERE one AND (saved_at IS NULL OR sqlc.arg(replace)::boolean);

-- name: StuckHolders :many
-- The server's lock table, and who the transactions of Holders belong to.
SELECT l.virtualtransaction::text AS transaction, coalesce(l.pid, 0)::integer AS pid, coalesce(p.gid, '')::text AS gid,
       coalesce(a.application_name, '')::text AS application, coalesce(a.state, '')::text AS state,
       coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0)::double precision AS age
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN LATERAL (
    SELECT t.gid, t.prepared FROM pg_catalog.pg_locks x JOIN pg_catalog.pg_prepared_xacts t ON t.transaction = x.transactionid
    WHERE l.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction LIMIT 1
) p ON true
WHERE l.locktype = 'relation' AND l.relation = 'postbus.bus'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
ORDER BY age DESC LIMIT 20;
