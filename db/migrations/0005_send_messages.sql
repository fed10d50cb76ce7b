-- The body of POST /v1/send, in SQL. It is read as json, never jsonb, so that payloads keep their tokens. Escapes
-- that name no character (\u0000, half a surrogate pair) are refused here, by PostgreSQL's own reader; postbus.send takes them.

-- Refuses members that are not known, by name, and those named twice; names that begin with "_" pass.
CREATE FUNCTION postbus.check_members(at text, object json, known text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    fault text;
BEGIN
    SELECT k INTO fault FROM json_object_keys(object) k WHERE k <> ALL (known) AND NOT starts_with(k, '_') LIMIT 1;
    IF FOUND THEN
        PERFORM postbus.refuse(at || fault, 'unknown field');
    END IF;
    SELECT k INTO fault FROM json_object_keys(object) k WHERE NOT starts_with(k, '_') GROUP BY k HAVING count(*) > 1 LIMIT 1;
    IF FOUND THEN
        PERFORM postbus.refuse(at || fault, 'given twice');
    END IF;
END $$;

-- A member that must be a string; NULL when absent or null.
CREATE FUNCTION postbus.string_of(at text, object json, member text) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    kind text := json_typeof(object -> member);
BEGIN
    IF kind IS NULL OR kind = 'null' THEN
        RETURN NULL;
    ELSIF kind <> 'string' THEN
        PERFORM postbus.refuse(at || member, 'must be a string, is of type ' || kind);
    END IF;
    RETURN object ->> member;
END $$;

CREATE FUNCTION postbus.stage_object(at text, message json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    base64   text;
    bin      bytea;
    duration text;
    headers  json;
BEGIN
    IF json_typeof(message) <> 'object' THEN
        PERFORM postbus.refuse(rtrim(at, '.'), 'must be an object, is of type ' || json_typeof(message));
    END IF;
    PERFORM postbus.check_members(at, message, '{channel,type,payload,binary,headers,ttl,key}');

    base64 := postbus.string_of(at, message, 'binary');
    IF base64 IS NOT NULL THEN
        IF message -> 'payload' IS NOT NULL THEN
            PERFORM postbus.refuse(at || 'binary', 'given beside payload, at most one of the two');
        END IF;
        base64 := rtrim(translate(base64, '-_', '+/'), '=');
        IF base64 !~ '^[A-Za-z0-9+/]*$' OR length(base64) % 4 = 1 THEN
            PERFORM postbus.refuse(at || 'binary', 'is not base64');
        END IF;
        bin := decode(rpad(base64, (length(base64) + 3) / 4 * 4, '='), 'base64');
    END IF;
    duration := postbus.string_of(at, message, 'ttl');
    IF duration !~ '^[0-9]{1,12}([.][0-9]{1,9})?s$' THEN
        PERFORM postbus.refuse(at || 'ttl', format('%s is not a duration above zero such as "1.5s"', to_json(duration)));
    END IF;
    headers := message -> 'headers';
    IF json_typeof(headers) = 'object' THEN
        PERFORM postbus.check_members(at || 'headers.', headers, ARRAY(SELECT json_object_keys(headers)));
    END IF;
    PERFORM postbus.stage(at, postbus.string_of(at, message, 'channel'),
        CASE WHEN base64 IS NULL THEN coalesce((message -> 'payload')::text, 'null') END, bin,
        postbus.string_of(at, message, 'type'), nullif(headers::text, 'null')::jsonb,
        least(rtrim(duration, 's')::double precision, 32e9) * interval '1 second',
        postbus.string_of(at, message, 'key'));
END $$;

CREATE FUNCTION postbus.send_messages(body json) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    maximum  integer := (SELECT s.max_request FROM postbus.settings s WHERE s.one);
    messages json;
    message  json;
    n        integer := 0;
BEGIN
    IF body IS NULL OR json_typeof(body) <> 'object' THEN
        PERFORM postbus.refuse('body', 'must be a JSON object');
    ELSIF octet_length(body::text) > maximum THEN
        PERFORM postbus.refuse('body', octet_length(body::text) || ' bytes, at most ' || maximum);
    END IF;
    PERFORM postbus.check_members('', body, '{messages}');
    messages := body -> 'messages';
    IF messages IS NULL OR json_typeof(messages) <> 'array' THEN
        PERFORM postbus.refuse('messages', 'must be an array');
    ELSIF json_array_length(messages) NOT BETWEEN 1 AND 1000 THEN
        PERFORM postbus.refuse('messages', json_array_length(messages) || ' messages, 1 to 1000');
    END IF;
    FOR message IN SELECT m.value FROM json_array_elements(messages) WITH ORDINALITY AS m(value, n) ORDER BY m.n LOOP
        PERFORM postbus.stage_object('messages[' || n || '].', message);
        n := n + 1;
    END LOOP;
END $$;
