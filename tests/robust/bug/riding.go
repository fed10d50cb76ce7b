package bug

// riding are mistakes about streams that are given their messages by a courier.
func riding() []Bug {
	return []Bug{{
		Name:      "courier-takes-the-wrong-tray",
		Promise:   "G3",
		Mistake:   "as many messages as the one before got, so the same ones",
		Seen:      "streams that stand beside others get their messages and miss their own",
		Scenarios: []string{"calm"},
		Edits: []Edit{{
			File: "internal/dispatch/ride.go",
			Old:  "len(pending) != t.count || pending[0] != t.first ||",
			New:  "len(pending) != t.count ||",
		}},
	}, {
		Name:      "courier-rings-once",
		Promise:   "G10",
		Mistake:   "who is being served has been rung already",
		Seen:      "a message that comes while its stream is being written waits for the next one",
		Scenarios: []string{"quiet"},
		Edits: []Edit{{
			File: "internal/dispatch/round.go",
			Old:  "			s.again = true\n",
			New:  "",
		}},
	}}
}
