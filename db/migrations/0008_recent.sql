-- The highest settled id that was sent longer ago than age; 0: none. Found by halving, since sent_at has no index: exact as far
-- as sent_at ascends, which it does but for the moments between numbering and commit.
CREATE FUNCTION postbus.id_before(age interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cutoff timestamptz := clock_timestamp() - age;
    low    bigint;  -- up to here: older
    high   bigint;  -- above here: younger
    middle bigint;
    probed record;
BEGIN
    SELECT s.trimmed_to, s.floor INTO low, high FROM postbus.state s WHERE s.one;
    WHILE low < high LOOP
        middle := low + (high - low + 1) / 2;
        SELECT b.id, b.sent_at INTO probed FROM postbus.bus b WHERE b.id >= middle AND b.id <= high ORDER BY b.id LIMIT 1;
        IF NOT FOUND OR probed.sent_at >= cutoff THEN
            high := middle - 1;
        ELSE
            low := probed.id;
        END IF;
    END LOOP;
    RETURN low;
END $$;
