-- The rules of a message, for SQL senders. A node has checked its messages by the same rules before it stores them.

CREATE FUNCTION postbus.refuse(field text, fault text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = field || ': ' || fault;
END $$;

-- Names (channel, type, key, header names): at most 255 bytes, no control characters, no white space at either end, not reserved. The
-- white space is Unicode's, spelled out so that no locale has a say.
CREATE FUNCTION postbus.check_name(field text, value text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    control text;
BEGIN
    IF octet_length(value) > 255 THEN
        PERFORM postbus.refuse(field, octet_length(value) || ' bytes, at most 255');
    END IF;
    control := substring(value COLLATE "C" FROM '[\u0001-\u001f\u007f-\u009f]');
    IF control IS NOT NULL THEN
        PERFORM postbus.refuse(field, format('control character U+%s at byte %s, none allowed',
            lpad(upper(to_hex(ascii(control))), 4, '0'), octet_length(left(value, strpos(value, control) - 1))));
    ELSIF value COLLATE "C" ~ '^[\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
       OR value COLLATE "C" ~ '[\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$'
    THEN
        PERFORM postbus.refuse(field, 'white space at an end, none allowed');
    ELSIF starts_with(value, 'postbus:') THEN
        PERFORM postbus.refuse(field, 'begins with "postbus:", which is reserved');
    END IF;
END $$;

CREATE FUNCTION postbus.check_channel(field text, channel text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF channel IS NULL THEN
        PERFORM postbus.refuse(field, 'must not be null');
    ELSIF channel = '' THEN
        PERFORM postbus.refuse(field, 'empty, 1 to 255 bytes');
    END IF;
    PERFORM postbus.check_name(field, channel);
END $$;

CREATE FUNCTION postbus.check_headers(field text, headers jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    header  record;
    entries integer := 0;
    bytes   integer := 0;
BEGIN
    IF jsonb_typeof(headers) <> 'object' THEN
        PERFORM postbus.refuse(field, 'must be a JSON object, is of type ' || jsonb_typeof(headers));
    END IF;
    FOR header IN SELECT h.key AS name, jsonb_typeof(h.value) AS kind, h.value #>> '{}' AS value FROM jsonb_each(headers) h LOOP
        IF header.kind <> 'string' THEN
            PERFORM postbus.refuse(format('%s[%s]', field, to_json(header.name)), 'must be a string, is of type ' || header.kind);
        END IF;
        IF header.name = '' THEN
            PERFORM postbus.refuse(field || '[""]', 'empty name, 1 to 255 bytes');
        ELSIF starts_with(header.name, 'postbus-') THEN
            PERFORM postbus.refuse(format('%s[%s]', field, to_json(header.name)), 'name begins with "postbus-", which is reserved');
        END IF;
        PERFORM postbus.check_name(format('%s[%s]', field, to_json(header.name)), header.name);
        entries := entries + 1;
        bytes := bytes + octet_length(header.name) + octet_length(header.value);
    END LOOP;
    IF entries > 64 THEN
        PERFORM postbus.refuse(field, entries || ' entries, at most 64');
    ELSIF bytes > 4096 THEN
        PERFORM postbus.refuse(field, bytes || ' bytes in all, at most 4096');
    END IF;
END $$;

-- How deep a JSON text is nested: strings taken out, every opener counts up and every closer down.
CREATE FUNCTION postbus.depth(json_text text) RETURNS integer
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(level), 0)::integer FROM (
        SELECT sum(CASE WHEN c IN ('[', '{') THEN 1 ELSE -1 END) OVER (ORDER BY n) AS level
        FROM string_to_table(
            regexp_replace(regexp_replace(json_text, '"(?:[^"\\]|\\.)*"', '', 'g'), '[^][{}]+', '', 'g'), NULL) WITH ORDINALITY AS t(c, n)
    ) levels
$$;

CREATE FUNCTION postbus.check_large_body(field text, bytes integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    maximum integer := (SELECT s.max_body FROM postbus.settings s WHERE s.one);
BEGIN
    IF bytes > maximum THEN
        PERFORM postbus.refuse(field, bytes || ' bytes, at most ' || maximum);
    END IF;
END $$;

CREATE FUNCTION postbus.check_depth(field text, json_text text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Most large texts have few openers: counting them needs no parser.
    IF 2 * octet_length(json_text) - octet_length(replace(json_text, '[', '')) - octet_length(replace(json_text, '{', '')) > 1000 THEN
        IF postbus.depth(json_text) > 1000 THEN
            PERFORM postbus.refuse(field, 'nested ' || postbus.depth(json_text) || ' deep, at most 1000');
        END IF;
    END IF;
END $$;
