package bug

// schema are mistakes in the schema's functions: sending in SQL, the statement of a node's
// batch, polling in SQL.
func schema() []Bug {
	return []Bug{{
		Name:      "numbered-at-the-call",
		Promise:   "G5",
		Mistake:   "a plain trigger numbers the row when it is inserted",
		Seen:      "one open transaction holds up everyone's messages, and ids are not in commit order",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/migrations/0004_send.sql",
			Old:  "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
			New:  "DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW",
		}},
	}, {
		Name:      "asynchronous-commit",
		Promise:   "G1",
		Mistake:   "synchronous_commit = off makes senders twice as fast",
		Seen:      "what Send has answered is gone after a crash of the database",
		Scenarios: []string{"restart-database"},
		Edits: []Edit{{
			File: "db/migrations/0013_append_one.sql",
			Old: `    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
`,
			New: `    IF current_setting('synchronous_commit') <> 'off' THEN
        PERFORM set_config('synchronous_commit', 'off', true);
`,
		}},
	}, {
		Name:      "duplicate-renews-its-key",
		Promise:   "G7",
		Mistake:   "an upsert without its condition",
		Seen:      "a Send that is tried again with its key is stored twice",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/migrations/0006_append.sql",
			Old:  "expires_at = excluded.expires_at WHERE k.expires_at <= now\n",
			New:  "expires_at = excluded.expires_at\n",
		}},
	}, {
		Name:      "sorted-by-channel",
		Promise:   "G6",
		Mistake:   "rows are inserted in the order of the index, which is kinder to it",
		Seen:      "the messages of one Send come in another order than they were sent in",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/migrations/0013_append_one.sql",
			Old:  "            ORDER BY m.n\n            RETURNING id\n",
			New:  "            ORDER BY m.channel, m.n\n            RETURNING id\n",
		}},
	}, {
		Name:      "payload-through-jsonb",
		Promise:   "G9",
		Mistake:   "JSON belongs into jsonb",
		Seen:      "numbers lose digits, members change their order, repeated ones vanish",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/migrations/0013_append_one.sql",
			Old:  "SELECT m.channel, m.type, nullif(m.json, ''), m.bin,",
			New:  "SELECT m.channel, m.type, nullif(m.json, '')::jsonb::text, m.bin,",
		}, {
			File: "db/migrations/0013_append_one.sql",
			Old:  "VALUES (channels[1], types[1], nullif(jsons[1], ''), bins[1],",
			New:  "VALUES (channels[1], types[1], nullif(jsons[1], '')::jsonb::text, bins[1],",
		}},
	}, {
		Name:      "sql-poll-reads-the-head",
		Promise:   "G2",
		Mistake:   "a poll in SQL sees what is committed, so it may go up to the highest id",
		Seen:      "who reads by postbus.poll misses messages that commit a moment later",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/migrations/0014_poll_by_channel.sql",
			Old:  "    SELECT s.floor INTO settled FROM postbus.state s WHERE s.one;\n",
			New:  "    SELECT coalesce(max(b.id), 0) INTO settled FROM postbus.bus b;\n",
		}},
	}}
}
