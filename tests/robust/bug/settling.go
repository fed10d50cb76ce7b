package bug

// settling are mistakes about which ids may be delivered: what the tail's reader and its
// tracker decide.
func settling() []Bug {
	return []Bug{{
		Name:      "naive-cursor",
		Promise:   "G2",
		Mistake:   "ids come from a sequence, so whatever is visible above the last one is next",
		Seen:      "under load, a message that commits a moment later than a higher id is never delivered",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/follow.go",
			Old: `		if id > pos+1 && id-1 > floor {
			break
		}
`,
		}},
	}, {
		Name:      "no-read-after-the-holders",
		Promise:   "G2",
		Mistake:   "the rows were read a moment ago, why read them again once nobody holds the gap open",
		Seen:      "now and then a message that committed between two statements is never delivered",
		Scenarios: []string{"network", "busy"},
		Edits: []Edit{{
			File: "internal/dispatch/follow.go",
			Old:  "	tracker tracker\n	target ",
			New: `	tracker tracker
	shown   Rows
	again   bool
	target `,
		}, {
			File: "internal/dispatch/follow.go",
			Old:  "	read, err := f.tail.Read(ctx, req)\n",
			New: `	read := f.shown
	if !f.again {
		read, err = f.tail.Read(ctx, req)
	}
	f.shown, f.again = read, false
`,
		}, {
			File: "internal/dispatch/follow.go",
			Old:  "	again, _, known, err := f.readOnce(ctx)\n",
			New:  "	f.again = true\n	again, _, known, err := f.readOnce(ctx)\n",
		}},
	}, {
		Name:      "holders-before-the-rows",
		Promise:   "G2",
		Mistake:   "the more ids are known the better, so look once more, a moment later, before judging by the holders",
		Seen:      "now and then a message whose transaction began between two statements is never delivered",
		Scenarios: []string{"busy"},
		Edits: []Edit{{
			File: "internal/dispatch/follow.go",
			Old:  "	f.tracker.observe(holders, known, pos)\n",
			New: `	if err := rest(ctx, shortPoll); err != nil {
		return err
	}
	more, err := f.tail.Read(ctx, TailRequest{After: pos})
	if err != nil {
		return err
	}
	if rows := more.Notifications; len(rows) > 0 {
		known = max(known, rows[len(rows)-1].ID)
	}
	f.tracker.observe(holders, known, pos)
`,
		}},
	}, {
		Name:      "tracker-one-probe-late",
		Promise:   "G2",
		Mistake:   "a holder that is new in this probe has its ids above all that is known now, not then",
		Seen:      "messages of transactions that take a while to commit are never delivered",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/tracker.go",
			Old:  "			bound = t.known\n",
			New:  "			bound = known\n",
		}},
	}, {
		Name:      "tracker-trusts-its-first-probe",
		Promise:   "G5",
		Mistake:   "who is seen for the first time has only just begun, also on a new connection",
		Seen:      "what was prepared before a node started or reconnected is never delivered",
		Scenarios: []string{"kill-sessions"},
		Edits: []Edit{{
			File: "internal/dispatch/tracker.go",
			Old: `		case h.Recovered || !t.probed:
			bound = pos
`,
			New: `		case h.Recovered || !t.probed:
			bound = known
`,
		}},
	}, {
		Name:      "tracker-outlives-its-connection",
		Promise:   "G5",
		Mistake:   "what was learnt of the holders is too good to throw away at a reconnect",
		Seen:      "what was prepared before the database restarted, and commits after it, is never delivered",
		Scenarios: []string{"restart-database"},
		Edits: []Edit{{
			File: "internal/dispatch/dispatch.go",
			Old:  "	readies sync.Once\n",
			New:  "	readies sync.Once\n	learnt  tracker\n",
		}, {
			File: "internal/dispatch/follow.go",
			Old:  "	f.tracker.floor = start.Floor\n",
			New: `	f.tracker = d.learnt
	f.tracker.floor = max(f.tracker.floor, start.Floor)
	defer func() { d.learnt = f.tracker }()
`,
		}, {
			File: "internal/dispatch/tracker.go",
			Old:  "		case h.Recovered || !t.probed:\n",
			New:  "		case !t.probed:\n",
		}},
	}, {
		Name:      "floor-is-the-head",
		Promise:   "G5",
		Mistake:   "to begin where we were, record the highest id seen",
		Seen:      "readers in SQL, and everyone after a restart, miss what was still open when the floor was recorded",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/follow.go",
			Old:  "	pos := f.at()\n	if pos <= f.saved ||",
			New:  "	f.mu.RLock()\n	pos := f.head\n	f.mu.RUnlock()\n	if pos <= f.saved ||",
		}},
	}, {
		Name:      "on-from-now-after-a-reconnect",
		Promise:   "G3",
		Mistake:   "LISTEN begins anew, so begin at what is newest",
		Seen:      "open streams silently miss what was sent while the node's connection was away",
		Scenarios: []string{"kill-sessions"},
		Edits: []Edit{{
			File: "internal/dispatch/histories.go",
			Old:  "	survived := d.pos\n",
			New:  "	d.pos = max(d.pos, p.Head)\n	d.early.drop(d.pos)\n	survived := d.pos\n",
		}},
	}, {
		Name:      "held-is-a-span",
		Promise:   "G2",
		Mistake:   "what this node has stored itself is one run of ids, so tell the first and the last",
		Seen:      "under load, messages of others with ids between those of this node's own are never delivered",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/postgres/tail_read.go",
			Old:  "		bits[at/8] |= 1 << (at % 8)\n",
			New: `		for between := int(held[0].ID - after - 1); between <= at; between++ {
			bits[between/8] |= 1 << (between % 8)
		}
`,
		}},
	}, {
		Name:      "offer-over-a-gap",
		Promise:   "G2",
		Mistake:   "what this node has committed itself is committed: hand it out at once",
		Seen:      "with a second sender at work, its messages are skipped by the readers of this node",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/offer.go",
			Old: `		case n.ID == d.pos+1:
			d.appendLocked(n)
		case n.ID > d.pos:
			d.early.keep(n, d.opts.WindowBytes)
`,
			New: `		case n.ID > d.pos:
			d.appendLocked(n)
`,
		}},
	}}
}
