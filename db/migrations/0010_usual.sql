-- A shorter way for the usual message: JSON text, without headers, ttl or key, on names without surprises.
--
--   send ──▶ outbox_usual (row inserted, and deleted at once) ─ ─ at COMMIT ─ ─▶ flush_usual ──▶ bus (row numbered), bell
--
-- It is the way of 0004 with less to carry: a function that a condition calls costs half a percent of a send even when it does
-- little, because PostgreSQL prepares expressions anew in every transaction. Both ways may be mixed in a transaction: the events of all
-- deferred triggers fire in the order in which they were queued, so the ids ascend in the order of the calls
-- (TestSendKeepsTheOrderOfATransaction).

CREATE UNLOGGED TABLE postbus.outbox_usual (
    channel text NOT NULL,
    type    text NOT NULL,
    json    text NOT NULL
);
ALTER TABLE postbus.outbox_usual SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2000000000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- As flush: with the caller's search_path, so every name is qualified. Nothing volatile stands in the SELECT's list, which would cost
-- a plan node of its own, and what the plan can compute beforehand is in parentheses.
CREATE FUNCTION postbus.flush_usual() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    quiet boolean; -- nobody sleeps; NULL: not stored yet
BEGIN
    INSERT INTO postbus.bus (channel, type, json)
    SELECT NEW.channel, NEW.type, NEW.json
    WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'off'::pg_catalog.text
      AND pg_catalog.current_setting('postbus.history', true) OPERATOR(pg_catalog.=)
          (pg_catalog.pg_backend_pid()::pg_catalog.text OPERATOR(pg_catalog.||)
           ('/'::pg_catalog.text OPERATOR(pg_catalog.||) 'postbus.bus'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.text))
    RETURNING CASE WHEN pg_catalog.pg_try_advisory_lock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15)
                   THEN pg_catalog.pg_advisory_unlock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15) ELSE false END
    INTO quiet;
    IF quiet THEN
        RETURN NULL;
    END IF;

    IF quiet IS NULL THEN
        PERFORM postbus.check_history();
        IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'::pg_catalog.text THEN
            PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
        END IF;
        INSERT INTO postbus.bus (channel, type, json) VALUES (NEW.channel, NEW.type, NEW.json)
        RETURNING CASE WHEN pg_catalog.pg_try_advisory_lock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15)
                       THEN pg_catalog.pg_advisory_unlock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15) ELSE false END
        INTO quiet;
    END IF;
    IF NOT quiet AND (pg_catalog.current_setting('postbus.bell', true) OPERATOR(pg_catalog.=) 'off'::pg_catalog.text) IS NOT TRUE THEN
        PERFORM pg_catalog.pg_notify('postbus', '');
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION postbus.flush_usual() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox_usual
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION postbus.flush_usual();
ALTER TABLE postbus.outbox_usual ENABLE ALWAYS TRIGGER flush; -- in a session with session_replication_role = replica too

CREATE OR REPLACE FUNCTION postbus.send(
    channel text, payload text DEFAULT NULL, type text DEFAULT '', headers jsonb DEFAULT '{}', ttl interval DEFAULT NULL, key text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    row_at tid;
BEGIN
    -- Every message that passes here is right, not every right one passes: names of printable ASCII that are short together, a type
    -- without a colon and so not reserved, a body that is short and so neither too large nor too deep. stage examines the rest.
    INSERT INTO postbus.outbox_usual (channel, type, json)
    SELECT send.channel, send.type, payload
    WHERE send.channel COLLATE "C" ~ '^[!-~]+$' AND NOT starts_with(send.channel, 'postbus:')
      AND (send.type = '' OR send.type COLLATE "C" ~ '^[!-9;-~]+$')
      AND octet_length(send.channel || send.type) <= 255
      AND octet_length(payload) <= 1000 AND payload::json IS NOT NULL
      AND send.headers = '{}' AND send.ttl IS NULL AND send.key IS NULL
    RETURNING ctid INTO row_at;
    IF row_at IS NULL THEN
        PERFORM payload::json;
        PERFORM postbus.stage('', channel, coalesce(payload, 'null'), NULL, type, headers, ttl, key);
    ELSE
        DELETE FROM postbus.outbox_usual WHERE ctid = row_at;
    END IF;
END $$;
