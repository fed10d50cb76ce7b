-- What is known of the ids that were given is not only in the sequences: a logical copy of the database may have left them behind.
-- So a new history begins above the rows, too, and above every history that is recorded.

CREATE OR REPLACE FUNCTION postbus.turn_history(above bigint) RETURNS void
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
        first := (((greatest(given, above, first, (SELECT max(b.id) FROM postbus.bus b), (SELECT max(h.first_id) FROM postbus.histories h),
                            (SELECT greatest(s.floor, s.trimmed_to) FROM postbus.state s WHERE s.one)) + 2147483648) >> 32) + 1) << 32;
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
