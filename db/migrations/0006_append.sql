-- How a node stores a batch: one statement that commits by itself, READ COMMITTED. Not for use inside longer transactions, which
-- would hold ids while they are open.
--
-- The arrays have one entry for each message: the number of its send, '' for a type, json, headers or key that is not there, NULL for a
-- bin, 0 for a ttl. The answer, in the same order: an id; minus the first one's id for a duplicate; 0 for a message whose
-- whole send was left out because a key of it is in use. sent_at is statement_timestamp().
CREATE FUNCTION postbus.append(
    sends integer[], channels text[], types text[], jsons text[], bins bytea[], headers text[], ttls double precision[], keys text[]
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids    bigint[];
    slot   integer := pg_backend_pid() & 15;
BEGIN
    IF (current_setting('postbus.history', true) = pg_backend_pid() || '/' || 'postbus.bus'::regclass::oid) IS NOT TRUE THEN
        PERFORM postbus.check_history();
    END IF;
    IF keys IS NULL THEN
        WITH stored AS (
            INSERT INTO postbus.bus (channel, type, json, bin, headers, sent_at, expires_at)
            SELECT m.channel, m.type, nullif(m.json, ''), m.bin, nullif(m.headers, '')::jsonb, statement_timestamp(),
                   statement_timestamp() + nullif(m.ttl, 0) * interval '1 second'
            FROM unnest(channels, types, jsons, bins, headers, ttls) WITH ORDINALITY AS m(channel, type, json, bin, headers, ttl, n)
            ORDER BY m.n
            RETURNING id
        )
        SELECT array_agg(s.id ORDER BY s.id) INTO ids FROM stored s;
    ELSE
        ids := postbus.append_keyed(sends, channels, types, jsons, bins, headers, ttls, keys);
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
    IF NOT (CASE WHEN pg_try_advisory_lock(1346532723, slot) THEN pg_advisory_unlock(1346532723, slot) ELSE false END) THEN
        PERFORM pg_notify('postbus', '');
    END IF;
    RETURN ids;
END $$;

-- The same when some messages have keys. Keys are claimed before any id is taken, sorted, without waiting.
CREATE FUNCTION postbus.append_keyed(
    sends integer[], channels text[], types text[], jsons text[], bins bytea[], headers text[], ttls double precision[], keys text[]
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    result    bigint[] := array_fill(0::bigint, ARRAY[cardinality(channels)]);
    busy      integer[];   -- sends left out
    fresh     integer[];   -- messages that are the first with their key, or have none
    ids       bigint[];
    now       timestamptz := clock_timestamp();
    known     record;
BEGIN
    SELECT array_agg(DISTINCT m.send) INTO busy
    FROM unnest(sends, channels, keys) AS m(send, channel, key)
    JOIN (SELECT k.channel, k.key, pg_try_advisory_xact_lock(k.hash) AS mine
          FROM (SELECT DISTINCT u.channel, u.key, hashtextextended(u.channel, hashtextextended(u.key, 0)) AS hash
                FROM unnest(channels, keys) AS u(channel, key) WHERE u.key <> '' ORDER BY hash OFFSET 0) k
          OFFSET 0) c USING (channel, key)
    WHERE NOT c.mine;

    -- What is new among the keys of the sends that stay; the first message with a key is the one to store.
    WITH first AS (
        SELECT DISTINCT ON (m.channel, m.key) m.channel, m.key, m.n
        FROM unnest(sends, channels, keys) WITH ORDINALITY AS m(send, channel, key, n)
        WHERE m.key <> '' AND (m.send = ANY (busy)) IS NOT TRUE
        ORDER BY m.channel, m.key, m.n
    ), taken AS (
        INSERT INTO postbus.keys AS k (channel, key, expires_at)
        SELECT f.channel, f.key, now + s.key_retention FROM first f, postbus.settings s WHERE s.one
        ON CONFLICT (channel, key) DO UPDATE SET id = NULL, expires_at = excluded.expires_at WHERE k.expires_at <= now
        RETURNING k.channel, k.key
    )
    SELECT array_agg(u.n ORDER BY u.n) INTO fresh FROM (
        SELECT f.n::integer FROM first f JOIN taken USING (channel, key)
        UNION ALL
        SELECT m.n::integer FROM unnest(sends, keys) WITH ORDINALITY AS m(send, key, n)
        WHERE m.key = '' AND (m.send = ANY (busy)) IS NOT TRUE
    ) u;

    WITH stored AS (
        INSERT INTO postbus.bus (channel, type, json, bin, headers, sent_at, expires_at)
        SELECT channels[f.n], types[f.n], nullif(jsons[f.n], ''), bins[f.n], nullif(headers[f.n], '')::jsonb, statement_timestamp(),
               statement_timestamp() + nullif(ttls[f.n], 0) * interval '1 second'
        FROM unnest(fresh) AS f(n)
        ORDER BY f.n
        RETURNING id
    )
    SELECT array_agg(s.id ORDER BY s.id) INTO ids FROM stored s;
    FOR i IN 1 .. coalesce(cardinality(fresh), 0) LOOP
        result[fresh[i]] := ids[i];
    END LOOP;
    UPDATE postbus.keys k SET id = result[f.n]
    FROM unnest(fresh) AS f(n)
    WHERE keys[f.n] <> '' AND k.channel = channels[f.n] AND k.key = keys[f.n];

    -- Duplicates, of what was there before or of this batch.
    FOR known IN
        SELECT m.n, k.id FROM unnest(sends, channels, keys) WITH ORDINALITY AS m(send, channel, key, n)
        JOIN postbus.keys k ON k.channel = m.channel AND k.key = m.key
        WHERE m.key <> '' AND (m.send = ANY (busy)) IS NOT TRUE
    LOOP
        IF result[known.n] = 0 THEN
            result[known.n] := -known.id;
        END IF;
    END LOOP;
    RETURN result;
END $$;
