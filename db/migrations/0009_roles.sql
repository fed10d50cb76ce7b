-- Who may do what. The names are the operator's; `postbus migrate` calls this with them each time.

-- Creates the roles that are missing, if it may, and grants to those that are there. It grants on what exists, so the call follows every
-- migration.
CREATE FUNCTION postbus.grant_roles(sender text, reader text, node text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[sender, reader, node] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % does not exist and % may not create it: nothing is granted to it', name, current_user;
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- another database's migration was faster
            END;
        END IF;
    END LOOP;

    REVOKE ALL ON SCHEMA postbus FROM PUBLIC;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postbus FROM PUBLIC;
    FOR name IN SELECT r.rolname FROM pg_roles r WHERE r.rolname IN (sender, reader, node) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA postbus TO %I', name);
    END LOOP;
    FOR name IN SELECT r.rolname FROM pg_roles r WHERE r.rolname IN (sender, node) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION
            postbus.send(text, text, text, jsonb, interval, text), postbus.send(text, json, text, jsonb, interval, text),
            postbus.send(text, jsonb, text, jsonb, interval, text), postbus.send_binary(text, bytea, text, jsonb, interval, text),
            postbus.send_messages(json), postbus.id_of(text, text) TO %I', name);
    END LOOP;
    FOR name IN SELECT r.rolname FROM pg_roles r WHERE r.rolname IN (reader, node) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION postbus.poll(text[], bigint, integer) TO %I', name);
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = node) THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION
            postbus.append(integer[], text[], text[], text[], bytea[], text[], double precision[], text[]),
            postbus.check_history(), postbus.begin_history(bigint), postbus.id_before(interval) TO %I', node);
        EXECUTE format('GRANT SELECT ON postbus.bus, postbus.keys, postbus.state, postbus.settings, postbus.histories, postbus.migrations,
            postbus.bus_id_seq TO %I', node);
        EXECUTE format('GRANT DELETE ON postbus.bus, postbus.keys TO %I', node);
        EXECUTE format('GRANT UPDATE ON postbus.state, postbus.settings, postbus.keys TO %I', node);
    END IF;
END $$;

REVOKE ALL ON SCHEMA postbus FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA postbus FROM PUBLIC;
