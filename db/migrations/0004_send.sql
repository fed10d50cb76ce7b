-- Sending inside an application's own transaction.
--
--   send ──▶ stage ──▶ outbox (row inserted, and deleted at once) ─ ─ at COMMIT ─ ─▶ flush ──▶ bus (row numbered), bell
--
-- So a transaction holds no id while it is open. flush runs with the caller's search_path, because a SET clause would cost a tenth of a
-- send: every name in it, operators too, is qualified. stage has its caller's, which is pg_catalog.
--
-- enable_seqscan is off in every sending function, for the delete: it must find its row by ctid, and on a table of few pages (after a crash it
-- has none) the planner would prefer a scan, which is slow later and makes SERIALIZABLE transactions fail. Every other
-- table is read by its key there.

CREATE FUNCTION postbus.flush() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    number bigint;
    quiet  boolean; -- nobody sleeps; NULL: not stored yet
BEGIN
    -- The usual case in one statement, since every other one would cost a snapshot in every transaction: conditions, row, bell. The
    -- bell comes after the row: RETURNING is computed when the row is there. A slot that cannot be had is held by a dispatcher that
    -- sleeps; it is taken and released in one expression, so that nothing can come between.
    INSERT INTO postbus.bus (channel, type, json, bin, headers, expires_at)
    SELECT NEW.channel, NEW.type, NEW.json, NEW.bin, NEW.headers, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) NEW.ttl
    WHERE NEW.key IS NULL
      AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'off'::pg_catalog.text
      AND pg_catalog.current_setting('postbus.history', true) OPERATOR(pg_catalog.=)
          (pg_catalog.pg_backend_pid()::pg_catalog.text OPERATOR(pg_catalog.||) '/'::pg_catalog.text
           OPERATOR(pg_catalog.||) 'postbus.bus'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.text)
    RETURNING CASE WHEN pg_catalog.pg_try_advisory_lock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15)
                   THEN pg_catalog.pg_advisory_unlock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15) ELSE false END
    INTO quiet;
    IF quiet THEN
        RETURN NULL;
    END IF;

    IF quiet IS NULL THEN
        -- Returns at once when this session has checked before.
        PERFORM postbus.check_history();
        -- An asynchronous commit is visible before it is durable: a crash would lose what was delivered.
        IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'::pg_catalog.text THEN
            PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
        END IF;
        INSERT INTO postbus.bus (channel, type, json, bin, headers, expires_at)
        VALUES (NEW.channel, NEW.type, NEW.json, NEW.bin, NEW.headers, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) NEW.ttl)
        RETURNING id INTO number;
        IF NEW.key IS NOT NULL THEN
            UPDATE postbus.keys SET id = number
            WHERE keys.channel OPERATOR(pg_catalog.=) NEW.channel AND keys.key OPERATOR(pg_catalog.=) NEW.key;
        END IF;
        quiet := CASE WHEN pg_catalog.pg_try_advisory_lock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15)
                      THEN pg_catalog.pg_advisory_unlock(1346532723, pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.&) 15) ELSE false END;
    END IF;
    IF NOT quiet AND (pg_catalog.current_setting('postbus.bell', true) OPERATOR(pg_catalog.=) 'off'::pg_catalog.text) IS NOT TRUE THEN
        PERFORM pg_catalog.pg_notify('postbus', '');
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION postbus.flush();
ALTER TABLE postbus.outbox ENABLE ALWAYS TRIGGER flush; -- in a session with session_replication_role = replica too

-- Claims a key for this transaction; false: a message with it is stored already. It never waits: a sender that waited would stop the
-- readers of everyone's messages.
CREATE FUNCTION postbus.claim(field text, to_channel text, new_key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(to_channel, hashtextextended(new_key, 0))) THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
            MESSAGE = field || ': another open transaction uses this key on this channel';
    END IF;
    INSERT INTO postbus.keys AS k (channel, key, expires_at)
    VALUES (to_channel, new_key, clock_timestamp() + (SELECT s.key_retention FROM postbus.settings s WHERE s.one))
    ON CONFLICT (channel, key) DO UPDATE SET id = NULL, expires_at = excluded.expires_at
    WHERE k.expires_at <= clock_timestamp();
    RETURN FOUND;
END $$;

-- Checks one message and leaves it in the outbox. at is the path of the message for errors ("messages[3]."); a json text's grammar
-- has been checked.
CREATE FUNCTION postbus.stage(
    at text, new_channel text, new_json text, new_bin bytea, new_type text, new_headers jsonb, new_ttl interval, new_key text
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    row_at tid;
    bytes  integer;
BEGIN
    -- The usual name needs one look; any other is examined.
    IF (new_channel COLLATE "C" ~ '^[!-~]+$' AND octet_length(new_channel) <= 255
        AND NOT starts_with(new_channel, 'postbus:')) IS NOT TRUE
    THEN
        PERFORM postbus.check_channel(at || 'channel', new_channel);
    END IF;
    IF new_type IS NULL THEN
        new_type := '';
    ELSIF new_type <> '' THEN
        PERFORM postbus.check_name(at || 'type', new_type);
    END IF;

    bytes := coalesce(octet_length(new_json), octet_length(new_bin));
    IF bytes > 1000 THEN -- no shorter text is nested deeper, and the limit is at least 64 KiB
        IF bytes > 65536 THEN
            PERFORM postbus.check_large_body(CASE WHEN new_json IS NULL THEN at || 'binary' ELSE at || 'payload' END, bytes);
        END IF;
        IF new_json IS NOT NULL THEN
            PERFORM postbus.check_depth(at || 'payload', new_json);
        END IF;
    END IF;

    IF new_headers = '{}' THEN
        new_headers := NULL;
    ELSIF new_headers IS NOT NULL THEN
        PERFORM postbus.check_headers(at || 'headers', new_headers);
    END IF;
    IF new_ttl IS NOT NULL THEN
        IF new_ttl <= interval '0' THEN
            PERFORM postbus.refuse(at || 'ttl', new_ttl || ', must be above zero');
        ELSIF new_ttl >= interval '1000 years' THEN
            new_ttl := NULL; -- the retention comes first, and the sum stays a timestamp
        END IF;
    END IF;
    IF new_key = '' THEN
        new_key := NULL;
    ELSIF new_key IS NOT NULL THEN
        PERFORM postbus.check_name(at || 'key', new_key);
        IF NOT postbus.claim(at || 'key', new_channel, new_key) THEN
            RETURN;
        END IF;
    END IF;

    INSERT INTO postbus.outbox (channel, type, json, bin, headers, ttl, key)
    VALUES (new_channel, new_type, new_json, new_bin, new_headers, new_ttl, new_key)
    RETURNING ctid INTO row_at;
    DELETE FROM postbus.outbox WHERE ctid = row_at;
END $$;

CREATE FUNCTION postbus.send(
    channel text, payload text DEFAULT NULL, type text DEFAULT '', headers jsonb DEFAULT '{}', ttl interval DEFAULT NULL, key text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    row_at tid;
BEGIN
    -- The usual message is checked by the statement that stages it, since every other one would cost a snapshot: a plain channel and type, a
    -- body that is short and so neither too large nor too deep.
    INSERT INTO postbus.outbox (channel, type, json)
    SELECT send.channel, send.type, payload
    WHERE send.channel COLLATE "C" ~ '^[!-~]+$' AND octet_length(send.channel) <= 255 AND NOT starts_with(send.channel, 'postbus:')
      AND (send.type = ''
           OR send.type COLLATE "C" ~ '^[!-~]+$' AND octet_length(send.type) <= 255 AND NOT starts_with(send.type, 'postbus:'))
      AND octet_length(payload) <= 1000 AND payload::json IS NOT NULL
      AND send.headers = '{}' AND send.ttl IS NULL AND send.key IS NULL
    RETURNING ctid INTO row_at;
    IF row_at IS NULL THEN
        PERFORM payload::json;
        PERFORM postbus.stage('', channel, coalesce(payload, 'null'), NULL, type, headers, ttl, key);
    ELSE
        DELETE FROM postbus.outbox WHERE ctid = row_at;
    END IF;
END $$;

CREATE FUNCTION postbus.send(
    channel text, payload json, type text DEFAULT '', headers jsonb DEFAULT '{}', ttl interval DEFAULT NULL, key text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    PERFORM postbus.stage('', channel, coalesce(payload::text, 'null'), NULL, type, headers, ttl, key);
END $$;

CREATE FUNCTION postbus.send(
    channel text, payload jsonb, type text DEFAULT '', headers jsonb DEFAULT '{}', ttl interval DEFAULT NULL, key text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    PERFORM postbus.stage('', channel, coalesce(payload::text, 'null'), NULL, type, headers, ttl, key);
END $$;

-- A NULL payload is the JSON null here too.
CREATE FUNCTION postbus.send_binary(
    channel text, payload bytea, type text DEFAULT '', headers jsonb DEFAULT '{}', ttl interval DEFAULT NULL, key text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    PERFORM postbus.stage('', channel, CASE WHEN payload IS NULL THEN 'null' END, payload, type, headers, ttl, key);
END $$;

-- The id that a key's message was given, once its transaction has committed; NULL: none.
CREATE FUNCTION postbus.id_of(channel text, key text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT k.id FROM postbus.keys k
            WHERE k.channel = id_of.channel AND k.key = id_of.key AND k.expires_at > clock_timestamp());
END $$;
