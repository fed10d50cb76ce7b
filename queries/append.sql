-- name: AppendBatch :one
-- Stores a batch; see the function. Serves itself: keys by their primary key, no other read.
SELECT postbus.append(
    sqlc.arg(sends)::integer[], sqlc.arg(channels)::text[], sqlc.arg(types)::text[], sqlc.arg(jsons)::text[], sqlc.arg(bins)::bytea[],
    sqlc.arg(headers)::text[], sqlc.arg(ttls)::double precision[], sqlc.narg(keys)::text[]
)::bigint[] AS ids, statement_timestamp()::timestamptz AS sent_at;
