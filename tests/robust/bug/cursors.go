package bug

// cursors are mistakes about what a reader has been given and what it is told of that.
func cursors() []Bug {
	return []Bug{{
		Name:      "last-passes-what-max-cut",
		Promise:   "G3",
		Mistake:   "last is where the bus is, whatever this response had room for",
		Seen:      "a poll with a small max, or a busy stream, skips what did not fit into one response",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old:  "			if !boundary && len(s.marked) == 0 {\n",
			New:  "			if !boundary {\n",
		}},
	}, {
		Name:      "last-passes-what-is-pending",
		Promise:   "G3",
		Mistake:   "the farewell of a stream names the newest id, although something waits to be sent",
		Seen:      "who goes on elsewhere after a node was drained misses messages",
		Scenarios: []string{"drain"},
		Edits: []Edit{{
			File: "internal/dispatch/subscription.go",
			Old: `	if len(s.marked) > 0 || s.given < s.until || s.ahead != nil {
		return s.given
	}
`,
		}},
	}, {
		Name:      "last-is-the-old-one",
		Promise:   "G3",
		Mistake:   "the cursor of a page is taken before the page is read",
		Seen:      "who goes on after a page from the table gets messages twice",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/subscription.go",
			Old:  "		if len(b.Notifications) > 0 {\n			b.Last = s.given\n",
			New:  "		if len(b.Notifications) > 0 {\n			b.Last = req.After\n",
		}},
	}, {
		Name:      "cursor-ahead-is-cut",
		Promise:   "G3",
		Mistake:   "a cursor above what this node knows must be wrong: make it what is known",
		Seen:      "who goes on at a node that lags a little gets messages twice",
		Scenarios: []string{"network"},
		Edits: []Edit{{
			File: "internal/dispatch/subscribe.go",
			Old:  "		s.given = *after\n",
			New:  "		s.given = min(*after, d.pos)\n",
		}},
	}, {
		Name:      "one-mark-for-all",
		Promise:   "G3",
		Mistake:   "a reader that is awake already need not be told of a second channel",
		Seen:      "readers of several channels miss messages under load",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/subscription.go",
			Old:  "	if m.marked {\n",
			New:  "	if m.marked || len(m.sub.marked) > 0 {\n",
		}},
	}}
}
