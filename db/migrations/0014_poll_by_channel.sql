-- Rows are compared as a whole, so that no index but bus_channel_id will do: where most rows are of one channel, PostgreSQL would look for a
-- quiet one's among all of them, 0.2 s for each channel and a million rows (TestQuietChannelsAreFoundByTheirIndex). All else is as before.

CREATE OR REPLACE FUNCTION postbus.poll(channels text[], after bigint DEFAULT NULL, max integer DEFAULT 100) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gap_bytes CONSTANT integer := 1048576;
    settled   bigint;
    cursor_at bigint;
    until     bigint;
    trimmed   bigint;
    survived  bigint;
    boundary  boolean;
    cut       boolean;
    page      text;
    last_id   bigint;
    reason    text;
    widest    bigint := -1;
    gap_after bigint;
    gap_until bigint;
    name      text;
    n         integer := 0;
BEGIN
    IF coalesce(cardinality(channels), 0) NOT BETWEEN 1 AND 1000 THEN
        PERFORM postbus.refuse('channels', coalesce(cardinality(channels), 0) || ' channels, 1 to 1000');
    ELSIF after < 0 THEN
        PERFORM postbus.refuse('after', after || ', must not be negative');
    ELSIF max IS NULL OR max NOT BETWEEN 1 AND 1000 THEN
        PERFORM postbus.refuse('max', coalesce(max::text, 'null') || ', 1 to 1000');
    END IF;
    FOREACH name IN ARRAY channels LOOP
        PERFORM postbus.check_channel('channels[' || n || ']', name);
        n := n + 1;
    END LOOP;

    SELECT s.floor INTO settled FROM postbus.state s WHERE s.one;
    cursor_at := coalesce(after, settled);
    IF cursor_at > settled AND NOT pg_is_in_recovery()
       AND cursor_at > coalesce(pg_sequence_last_value('postbus.bus_id_seq'), 0)
    THEN
        cursor_at := settled;
        reason := 'REASON_AHEAD';
        gap_after := settled;
        gap_until := settled;
        widest := 0;
    END IF;

    LOOP
        -- Up to the end of the history that the cursor is in, when all of that is settled.
        SELECT h.first_id - 1, max(h.survived) INTO until, survived
        FROM postbus.histories h WHERE h.first_id > 1 AND h.first_id - 1 > cursor_at AND h.first_id - 1 <= settled
        GROUP BY h.first_id ORDER BY h.first_id LIMIT 1;
        boundary := FOUND;
        until := CASE WHEN boundary THEN until ELSE greatest(settled, cursor_at) END;

        WITH found AS (
            SELECT b.id, b.bytes FROM (SELECT DISTINCT u FROM unnest(channels) u) c(channel) CROSS JOIN LATERAL (
                SELECT i.id, octet_length(i.channel) + octet_length(i.type) + coalesce(octet_length(i.json), 0)
                       + coalesce(octet_length(i.bin), 0) * 4 / 3 + coalesce(octet_length(i.headers::text), 0) + 128 AS bytes
                FROM postbus.bus i
                WHERE (i.channel, i.id) > (c.channel, cursor_at) AND (i.channel, i.id) <= (c.channel, until)
                  AND (i.expires_at IS NULL OR i.expires_at > clock_timestamp())
                ORDER BY i.channel, i.id LIMIT max + 1
            ) b ORDER BY b.id LIMIT max + 1
        ), kept AS (
            SELECT f.id, row_number() OVER w AS n, sum(f.bytes) OVER w - f.bytes AS before FROM found f WINDOW w AS (ORDER BY f.id)
        ), taken AS (
            SELECT k.id FROM kept k WHERE k.n <= max AND k.before < gap_bytes
        )
        SELECT s.trimmed_to, r.page, r.last_id, r.rows < (SELECT count(*) FROM found) INTO trimmed, page, last_id, cut
        FROM postbus.state s,
             (SELECT string_agg(postbus.notification_json(b), ',' ORDER BY b.id) AS page, max(b.id) AS last_id, count(*) AS rows
              FROM postbus.bus b WHERE b.id IN (SELECT t.id FROM taken t)) r
        WHERE s.one;

        IF trimmed > cursor_at THEN
            IF coalesce(after, 1) <> 0 OR reason IS NOT NULL THEN
                gap_until := trimmed;
                gap_after := coalesce(gap_after, cursor_at);
                IF trimmed - cursor_at > widest THEN
                    reason := 'REASON_TRIMMED';
                    widest := trimmed - cursor_at;
                END IF;
            END IF;
            cursor_at := trimmed;
            settled := greatest(settled, trimmed);
            after := cursor_at;
            CONTINUE;
        ELSIF cut OR (boundary AND page IS NOT NULL) THEN
            cursor_at := last_id; -- a gap, if there is one, comes next
        ELSE
            survived := greatest(survived, cursor_at);
            cursor_at := greatest(cursor_at, until);
            IF boundary THEN
                gap_after := coalesce(gap_after, survived);
                gap_until := cursor_at;
                IF cursor_at - survived > widest THEN
                    reason := 'REASON_HISTORY';
                    widest := cursor_at - survived;
                END IF;
                after := cursor_at;
                CONTINUE;
            END IF;
        END IF;
        EXIT;
    END LOOP;

    RETURN concat('{"notifications":[', page, '],"last":', cursor_at,
        CASE WHEN reason IS NOT NULL THEN format(',"gap":{"reason":"%s","after":%s,"until":%s}', reason, gap_after, gap_until) END,
        '}');
END $$;
