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
	}, {
		Name:      "event-id-is-the-last",
		Promise:   "G3",
		Mistake:   "last is what to go on with, so it is the id of every event of a response",
		Seen:      "an EventSource that breaks off within a response misses the rest of it",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "service/sse.go",
			Old:  "		dst = appendID(dst, n.ID)\n",
			New:  "		dst = appendID(dst, b.Last)\n",
		}},
	}, {
		Name:      "url-before-last-event-id",
		Promise:   "G3",
		Mistake:   "Last-Event-ID is for who does not say after",
		Seen:      "an EventSource that comes back gets everything since its page was opened again",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "service/sse.go",
			Old:  "	if resumed != nil {",
			New:  "	if resumed != nil && walking.after == nil {",
		}},
	}, {
		Name:      "channels-change-from-now",
		Promise:   "G3",
		Mistake:   "who changes the channels of a socket without after wants what comes from now on, as anybody without after",
		Seen:      "a WebSocket whose channels change misses what was on its way to it",
		Scenarios: []string{"window"},
		Edits: []Edit{{
			File: "service/websocket_socket.go",
			Old:  "	if k.open != nil && after == nil {\n",
			New:  "	if k.open != nil && after == nil && f.removes {\n",
		}},
	}}
}
