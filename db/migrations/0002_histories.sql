-- Histories: ids are never given twice, although a failover or a restore may take the sequence back.

-- The identity of the history that the server is writing now. Fails on a server in recovery, as it should: that one writes none.
CREATE FUNCTION postbus.identity() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' || s.system_identifier || '/' || d.oid
           || '/' || 'postbus.bus'::regclass::oid
    FROM pg_control_system() s, pg_database d
    WHERE d.datname = current_database()
$$;

CREATE FUNCTION postbus.identity_mark() RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT hashtextextended(postbus.identity(), 0) & 9223372036854775807
$$;

-- Begins a new history when the recorded one is not the present one, or when the sequence is below above; records it in any
-- case. The session lock is held for as long as this function runs, not until the transaction ends: nobody ever waits for
-- another's transaction, and who rolls back has still moved the sequence, which the next one sees.
--
-- The new first id is a multiple of 2^32, at least 2^31 above the highest id that is known: ids that the lost part of the old
-- history may have given lie between.
CREATE FUNCTION postbus.turn_history(above bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark    bigint := postbus.identity_mark();
    given   bigint;
    first   bigint;
BEGIN
    PERFORM pg_advisory_lock(1346532723, -1);
    given := coalesce(pg_sequence_last_value('postbus.bus_id_seq'), 0);
    first := coalesce(pg_sequence_last_value('postbus.history_first'), 1);
    IF pg_sequence_last_value('postbus.history_mark') IS DISTINCT FROM mark OR given < above THEN
        first := (((greatest(given, above, first) + 2147483648) >> 32) + 1) << 32;
        PERFORM setval('postbus.bus_id_seq', first - 1, true);
        PERFORM setval('postbus.history_first', first, true);
        PERFORM setval('postbus.history_mark', mark, true); -- last: what a crash cuts off is done again
    END IF;
    IF NOT EXISTS (SELECT FROM postbus.histories h WHERE h.first_id = first) THEN
        INSERT INTO postbus.histories (first_id, survived, identity)
        SELECT first, greatest(s.floor, s.trimmed_to, (SELECT max(b.id) FROM postbus.bus b WHERE b.id < first)), postbus.identity()
        FROM postbus.state s WHERE s.one;
    END IF;
    PERFORM pg_advisory_unlock(1346532723, -1);
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM pg_advisory_unlock(l.classid::int, -1) FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted AND l.objsubid = 2
      AND l.classid = 1346532723 AND l.objid = 4294967295;
    RAISE;
END $$;

-- What a session has checked it need not check again: a history ends with a restart, and so do sessions. The memo names the
-- process and the table, so that a pooler that carries settings over, or a table made anew, does not pass for checked.
CREATE FUNCTION postbus.check_history() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    memo text := pg_backend_pid() || '/' || 'postbus.bus'::regclass::oid;
BEGIN
    IF current_setting('postbus.history', true) = memo THEN
        RETURN;
    END IF;
    IF pg_sequence_last_value('postbus.history_mark') IS DISTINCT FROM postbus.identity_mark() OR NOT EXISTS (
        SELECT FROM postbus.histories h
        WHERE h.first_id = coalesce(pg_sequence_last_value('postbus.history_first'), 1))
    THEN
        PERFORM postbus.turn_history(0);
    END IF;
    PERFORM set_config('postbus.history', memo, false);
END $$;

-- For `postbus migrate --new-history` (a restore that the database cannot notice) and for a node that has delivered ids above the
-- sequence: a new history begins unless the sequence has reached above. NULL: in any case. Returns the present history's first id.
CREATE FUNCTION postbus.begin_history(above bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM postbus.turn_history(coalesce(above, coalesce(pg_sequence_last_value('postbus.bus_id_seq'), 0) + 1));
    RETURN coalesce(pg_sequence_last_value('postbus.history_first'), 1);
END $$;

SELECT setval('postbus.history_mark', postbus.identity_mark(), true);
INSERT INTO postbus.histories (first_id, survived, identity) VALUES (1, 0, postbus.identity());
