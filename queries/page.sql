-- name: ReadPage :many
-- bus_channel_id, once for each channel, then bus_pkey for the rows that stay. Rows are compared as a whole, so that no other index will do: where
-- most rows are of one channel, PostgreSQL would look for a quiet one's among all by bus_pkey (TestQuietChannelsAreFoundByTheirIndex). One row
-- without an id when there is none: trimmed_to is always of the page's own snapshot.
WITH found AS (
    SELECT p.id, p.bytes FROM unnest(sqlc.arg(channels)::text[]) AS c(channel) CROSS JOIN LATERAL (
        SELECT b.id, coalesce(octet_length(b.json), octet_length(b.bin)) AS bytes
        FROM postbus.bus b
        WHERE (b.channel, b.id) > (c.channel, sqlc.arg(after)::bigint) AND (b.channel, b.id) <= (c.channel, sqlc.arg(until)::bigint)
          AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp())
        ORDER BY b.channel, b.id LIMIT sqlc.arg(rows)::integer
    ) p ORDER BY p.id LIMIT sqlc.arg(rows)::integer
), summed AS (
    SELECT f.id, sum(f.bytes) OVER (ORDER BY f.id ROWS UNBOUNDED PRECEDING) - f.bytes AS bytes_before FROM found f
)
SELECT s.trimmed_to, (SELECT count(*) FROM found)::bigint AS found, sqlc.arg(until)::bigint AS looked_to,
       b.id, b.channel, b.type, b.json, b.bin, b.headers, b.sent_at,
       coalesce(extract(epoch FROM b.expires_at - clock_timestamp()), 'Infinity')::double precision AS life
FROM postbus.state s
LEFT JOIN postbus.bus b ON b.id IN (SELECT k.id FROM summed k WHERE k.bytes_before < sqlc.arg(bytes)::bigint)
WHERE s.one ORDER BY b.id;

-- name: ReadPageAmongAll :many
-- bus_pkey, from after on, as far as looks rows go, and again for the rows that stay. The same columns as ReadPage's: looked_to is the last row that was
-- looked at, or until.
WITH looked AS MATERIALIZED (
    SELECT b.id, coalesce(octet_length(b.json), octet_length(b.bin)) AS bytes,
           b.channel IN (SELECT unnest(sqlc.arg(channels)::text[])) AND (b.expires_at IS NULL OR b.expires_at > clock_timestamp()) AS wanted
    FROM postbus.bus b
    WHERE b.id > sqlc.arg(after)::bigint AND b.id <= sqlc.arg(until)::bigint
    ORDER BY b.id LIMIT sqlc.arg(looks)::integer
), found AS (
    SELECT l.id, l.bytes FROM looked l WHERE l.wanted ORDER BY l.id LIMIT sqlc.arg(rows)::integer
), summed AS (
    SELECT f.id, sum(f.bytes) OVER (ORDER BY f.id ROWS UNBOUNDED PRECEDING) - f.bytes AS bytes_before FROM found f
)
SELECT s.trimmed_to, (SELECT count(*) FROM found)::bigint AS found,
       (SELECT CASE WHEN count(*) < sqlc.arg(looks)::integer THEN sqlc.arg(until)::bigint ELSE max(l.id) END FROM looked l)::bigint AS looked_to,
       b.id, b.channel, b.type, b.json, b.bin, b.headers, b.sent_at,
       coalesce(extract(epoch FROM b.expires_at - clock_timestamp()), 'Infinity')::double precision AS life
FROM postbus.state s
LEFT JOIN postbus.bus b ON b.id IN (SELECT k.id FROM summed k WHERE k.bytes_before < sqlc.arg(bytes)::bigint)
WHERE s.one ORDER BY b.id;

-- name: IDBefore :one
-- bus_pkey, about 30 probes.
SELECT postbus.id_before(make_interval(secs => sqlc.arg(seconds)::double precision))::bigint AS id;
