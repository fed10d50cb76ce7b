-- A header is given once, also one whose name begins with "_": every name in headers is the sender's own.

CREATE OR REPLACE FUNCTION postbus.stage_object(at text, message json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    base64   text;
    bin      bytea;
    duration text;
    headers  json;
    twice    text;
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
        SELECT k INTO twice FROM json_object_keys(headers) k GROUP BY k HAVING count(*) > 1 LIMIT 1;
        IF FOUND THEN -- those that begin with "_", too: every name is the sender's own
            PERFORM postbus.refuse(at || 'headers.' || twice, 'given twice');
        END IF;
    END IF;
    PERFORM postbus.stage(at, postbus.string_of(at, message, 'channel'),
        CASE WHEN base64 IS NULL THEN coalesce((message -> 'payload')::text, 'null') END, bin,
        postbus.string_of(at, message, 'type'), nullif(headers::text, 'null')::jsonb,
        least(rtrim(duration, 's')::double precision, 32e9) * interval '1 second',
        postbus.string_of(at, message, 'key'));
END $$;
