package bug

// riding are mistakes about streams that are given their messages by a courier.
func riding() []Bug {
	return []Bug{{
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
