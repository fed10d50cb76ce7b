-- The tables of Postbus. Functions are the contract; tables are not.

CREATE SCHEMA IF NOT EXISTS postbus;

-- Which files of this folder the database has.
CREATE TABLE IF NOT EXISTS postbus.migrations (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Ids come from here, inside the INSERT into postbus.bus and nowhere else: CACHE 1 gives them in order,
-- and it only ever moves up.
CREATE SEQUENCE postbus.bus_id_seq AS bigint CACHE 1 NO CYCLE;

-- The log. Append only: retention deletes its beginning. Exactly one of json and bin is the payload; json is
-- kept as the text that was sent, since jsonb would change its tokens.
CREATE TABLE postbus.bus (
    id         bigint PRIMARY KEY DEFAULT nextval('postbus.bus_id_seq'),
    channel    text NOT NULL,
    type       text NOT NULL,
    json       text,
    bin        bytea,
    headers    jsonb,                                           -- NULL: none
    sent_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,                                     -- NULL: with the retention
    CONSTRAINT one_body CHECK ((json IS NULL) <> (bin IS NULL))
);
ALTER SEQUENCE postbus.bus_id_seq OWNED BY postbus.bus.id;

CREATE INDEX bus_channel_id ON postbus.bus (channel, id);
CREATE INDEX bus_expires_at ON postbus.bus (expires_at) WHERE expires_at IS NOT NULL;

-- Rows are written once and deleted once: vacuum by count, not by a share of a large table, and soon after inserts too,
-- so that the visibility map and the freezing keep up. Truncating the end would need a lock that stops senders.
ALTER TABLE postbus.bus SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 200000,
    autovacuum_vacuum_cost_delay = 1, vacuum_truncate = off
);

-- Where SQL transactions leave messages until they commit. A row is deleted by the statement after the one that inserts it:
-- its committed state is always empty, so it needs no WAL.
CREATE UNLOGGED TABLE postbus.outbox (
    channel text NOT NULL,
    type    text NOT NULL,
    json    text,
    bin     bytea,
    headers jsonb,
    ttl     interval,
    key     text
);
ALTER TABLE postbus.outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2000000000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- Idempotency keys. A row is claimed (id NULL) before its message has a number, and filled in by the same transaction. One
-- that has expired counts as absent.
CREATE TABLE postbus.keys (
    channel    text NOT NULL,
    key        text NOT NULL,
    id         bigint,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (channel, key)
);
CREATE INDEX keys_expires_at ON postbus.keys (expires_at);
ALTER TABLE postbus.keys SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off
);

-- One row, updated about once a second: room on its page, so that its updates stay there.
CREATE TABLE postbus.state (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    floor      bigint NOT NULL DEFAULT 0,        -- every id up to here is settled
    trimmed_to bigint NOT NULL DEFAULT 0         -- retention has removed messages up to here
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO postbus.state DEFAULT VALUES;

-- One row: what every sender and every node must agree on.
CREATE TABLE postbus.settings (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    min_program   integer NOT NULL DEFAULT 1,            -- programs below this number refuse the schema
    max_body      integer NOT NULL DEFAULT 1048576       -- bytes of one payload
                  CHECK (max_body BETWEEN 65536 AND 268435456),
    max_request   integer NOT NULL DEFAULT 4194304,      -- bytes of one send_messages
    retention     interval NOT NULL DEFAULT '24 hours',
    key_retention interval NOT NULL DEFAULT '24 hours',
    saved_at      timestamptz                            -- NULL: no node has recorded its flags yet
);
INSERT INTO postbus.settings DEFAULT VALUES;

-- Every history of the database: its ids begin at first_id, and what was numbered above survived and below first_id may be
-- lost. Several rows of one history may be recorded at once by senders that do not see each other; a unique
-- constraint would make them wait for each other's transactions. Readers take the highest survived of each first_id:
-- every row is a lower bound of what survived.
CREATE TABLE postbus.histories (
    first_id    bigint NOT NULL,
    survived    bigint NOT NULL,
    identity    text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The present history, outside transactions as the ids are: senders that do not see each other's rows see these. The mark is a
-- number made of the identity.
CREATE SEQUENCE postbus.history_first AS bigint CACHE 1 NO CYCLE;
CREATE SEQUENCE postbus.history_mark AS bigint MINVALUE 0 CACHE 1 NO CYCLE;
