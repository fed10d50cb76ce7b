package bug

// sleeping are mistakes that lose wake-ups. They are planted together with a fallback read
// an hour away: with the one of every second they would only make messages late.
func sleeping() []Bug {
	return []Bug{{
		Name:      "sleep-without-the-last-read",
		Promise:   "G10",
		Mistake:   "the tail was read a moment ago and was empty: arm the bell and sleep",
		Seen:      "after a quiet moment a message waits for the next one to be delivered",
		Scenarios: []string{"quiet"},
		Edits: []Edit{deaf(), {
			File: "internal/dispatch/sleep.go",
			Old: `		progress, gap, err := f.read(ctx)
		if err != nil || progress || gap {
			return true, err
		}
		if len(before) == 0 {
`,
			New: `		if len(before) == 0 {
`,
		}},
	}, {
		Name:      "sleep-over-open-transactions",
		Promise:   "G10",
		Mistake:   "who commits from now on rings, so why wait for those who have begun",
		Seen:      "a transaction that looked at the bell before the node slept is delivered with the next message",
		Scenarios: []string{"quiet"},
		Edits: []Edit{deaf(), {
			File: "internal/dispatch/sleep.go",
			Old:  "	pause := shortPoll\n	for {\n		progress, gap, err := f.read(ctx)\n",
			New:  "	before = nil\n	pause := shortPoll\n	for {\n		progress, gap, err := f.read(ctx)\n",
		}},
	}, {
		Name:      "bell-before-the-insert",
		Promise:   "G10",
		Mistake:   "see who sleeps first, then store, then notify: the order looks all the same",
		Seen:      "a message sent as the node falls asleep waits for the next one to be delivered",
		Scenarios: []string{"quiet"},
		Edits: []Edit{deaf(), {
			File: "db/migrations/0013_append_one.sql",
			Old:  "    slot   integer := pg_backend_pid() & 15;\n",
			New: `    slot   integer := pg_backend_pid() & 15;
    quiet  boolean := CASE WHEN pg_try_advisory_lock(1346532723, slot) THEN pg_advisory_unlock(1346532723, slot) ELSE false END;
`,
		}, {
			File: "db/migrations/0013_append_one.sql",
			Old:  "    IF NOT (CASE WHEN pg_try_advisory_lock(1346532723, slot) THEN pg_advisory_unlock(1346532723, slot) ELSE false END) THEN\n",
			New:  "    IF NOT quiet THEN\n",
		}},
	}, {
		Name:      "bell-at-the-call",
		Promise:   "G10",
		Mistake:   "NOTIFY takes effect at the commit anyway, so decide about it in send() already",
		Seen:      "a transaction that stays open while the node falls asleep is delivered with the next message",
		Scenarios: []string{"quiet"},
		Edits: []Edit{deaf(), {
			File: "db/migrations/0004_send.sql",
			Old:  "    IF NOT quiet AND (",
			New:  "    IF false AND (",
		}, {
			File: "db/migrations/0004_send.sql",
			Old:  "CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox\n",
			New: `CREATE FUNCTION postbus.ring() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slot integer := pg_backend_pid() & 15;
BEGIN
    IF NOT (CASE WHEN pg_try_advisory_lock(1346532723, slot) THEN pg_advisory_unlock(1346532723, slot) ELSE false END)
       AND (current_setting('postbus.bell', true) = 'off') IS NOT TRUE
    THEN
        PERFORM pg_notify('postbus', '');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ring BEFORE INSERT ON postbus.outbox FOR EACH ROW EXECUTE FUNCTION postbus.ring();

CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox
`,
		}, {
			File: "db/migrations/0010_usual.sql",
			Old:  "    IF NOT quiet AND (",
			New:  "    IF false AND (",
		}, {
			File: "db/migrations/0010_usual.sql",
			Old:  "CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox_usual\n",
			New: `CREATE TRIGGER ring BEFORE INSERT ON postbus.outbox_usual FOR EACH ROW EXECUTE FUNCTION postbus.ring();

CREATE CONSTRAINT TRIGGER flush AFTER INSERT ON postbus.outbox_usual
`,
		}},
	}, {
		Name:      "wake-up-without-a-slot",
		Promise:   "G10",
		Mistake:   "a channel to wake somebody needs no buffer",
		Seen:      "now and then a poll stands still until its time is over",
		Scenarios: []string{"quiet"},
		Edits: []Edit{{
			File: "internal/dispatch/subscribe.go",
			Old:  "wake: make(chan struct{}, 1)",
			New:  "wake: make(chan struct{})",
		}},
	}}
}
