package bug

// window are mistakes about what is in memory and what must come from the table.
func window() []Bug {
	return []Bug{{
		Name:      "window-edge",
		Promise:   "G3",
		Mistake:   "off by one: < where <= is meant, at the edge of what the window still has",
		Seen:      "a reader that is just a little too slow misses exactly one message",
		Scenarios: []string{"window"},
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old:  "s.markedFrom <= d.window.evicted",
			New:  "s.markedFrom < d.window.evicted",
		}, {
			File: "internal/dispatch/ride.go",
			Old:  "s.markedFrom <= s.d.window.evicted",
			New:  "s.markedFrom < s.d.window.evicted",
		}, {
			File: "internal/dispatch/subscribe.go",
			Old:  "	inWindow := s.given >= d.window.evicted\n",
			New:  "	inWindow := s.given+1 >= d.window.evicted\n",
		}},
	}, {
		Name:      "slow-readers-skip",
		Promise:   "G8",
		Mistake:   "the ring buffer has moved on: go on with the oldest that it has",
		Seen:      "a reader that stalls for a while silently misses messages",
		Scenarios: []string{"window"},
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old:  "		s.until = d.pos // the window has moved on: the table has it\n",
			New:  "		s.given = d.window.evicted\n",
		}},
	}, {
		Name:      "page-until",
		Promise:   "G3",
		Mistake:   "off by one: < where <= is meant, at the seam of table and window",
		Seen:      "who catches up from the table misses the one message that was newest then",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "db/page.sql.go",
			Old:  "(b.channel, b.id) <= (c.channel, $1::bigint)\n",
			New:  "(b.channel, b.id) < (c.channel, $1::bigint)\n",
		}},
	}, {
		Name:      "page-cut",
		Promise:   "G3",
		Mistake:   "a page that is cut by its bytes is taken for a complete one",
		Seen:      "who catches up over large messages misses those behind the cut",
		Scenarios: []string{"window"},
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old:  "			scanned = b.Notifications[len(b.Notifications)-1].ID\n			break // ",
			New:  "			break // ",
		}},
	}, {
		Name:      "trimmed-is-silent",
		Promise:   "G4",
		Mistake:   "what retention has taken is gone, so just go on with what there is",
		Seen:      "a reader that comes back late does not learn that it has missed something",
		Scenarios: []string{"retention"},
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old: `		if s.given > 0 || !s.oldest {
			b.Gap = b.Gap.Widen(&bus.Gap{Reason: bus.Trimmed, After: s.given, Until: page.TrimmedTo})
		}
`,
		}},
	}, {
		Name:    "history-is-silent",
		Promise: "G4",
		Mistake: "a new history's ids are higher, so the cursor just goes on",
		Seen:    "after a restore no reader learns that it holds messages which no longer exist",
		Test:    "TestRestoreTellsWhatItLost",
		Edits: []Edit{{
			File: "internal/dispatch/collect.go",
			Old:  "	b.Gap = b.Gap.Widen(&bus.Gap{Reason: bus.History, After: past.Survived, Until: past.Until})\n",
		}},
	}, {
		Name:    "late-reader-in-the-window",
		Promise: "G3",
		Mistake: "what is newer than the window's end is in the window, also for a channel that nobody read",
		Seen:    "who begins to read a channel on a node where nobody did misses what others sent to it",
		Test:    "TestLateReaderOfAChannelThatNobodyReadGetsEverything",
		Edits: []Edit{{
			File: "internal/dispatch/subscribe.go",
			Old:  "		inWindow = inWindow && s.given >= m.topic.lacks\n",
		}},
	}}
}
