-- name: ReadPage :many
-- bus_channel_id, once for each channel, then bus_pkey for the rows that stay. One row without an id when there is none: trimmed_to is
-- always of the page's own snapshot.
WITH found AS (
    SELECT p.id, p.bytes FROM unnest(sqlc.arg(channels)::text[]) AS c(channel) CROSS JOIN LATERAL (
        SELECT b.id, coalesce(octet_length(b.json), octet_length(b.bin)) AS bytes
        FROM postbus.bus b
        WHERE b.channel = c.channel AND b.id > sqlc.arg(after)::bigint AND b.id <= sqlc.arg(until)::bigint
          AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp())
        ORDER BY b.id LIMIT sqlc.arg(rows)::integer
    ) p ORDER BY p.id LIMIT sqlc.arg(rows)::integer
), summed AS (
    SELECT f.id, sum(f.bytes) OVER (ORDER BY f.id ROWS UNBOUNDED PRECEDING) - f.bytes AS bytes_before FROM found f
)
SELECT s.trimmed_to, (SELECT count(*) FROM found)::bigint AS found, b.id, b.channel, b.type, b.json, b.bin, b.headers, b.sent_at,
       coalesce(extract(epoch FROM b.expires_at - clock_timestamp()), 'Infinity')::double precision AS life
FROM postbus.state s
LEFT JOIN postbus.bus b ON b.id IN (SELECT k.id FROM summed k WHERE k.bytes_before < sqlc.arg(bytes)::bigint)
WHERE s.one ORDER BY b.id;

-- name: IDBefore :one
-- bus_pkey, about 30 probes.
SELECT postbus.id_before(make_interval(secs => sqlc.arg(seconds)::double precision))::bigint AS id;
