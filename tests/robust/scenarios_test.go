package robust

import "time"

// A scenario is a kind of traffic and what goes wrong meanwhile.
type scenario struct {
	name    string
	short   bool // also run when no time is given
	nodes   int
	flags   []string // of the nodes
	traffic traffic
	faults  []fault
	wakes   bool // one waker sends, nobody else
	slow    int  // the most milliseconds of an INSERT
	disk    int  // MiB that the database has; 0: no bound
}

// usual is a bit of everything.
var usual = traffic{
	rpc: 4, sql: 5, channels: 5, keyed: 40, mortal: 5, large: 3, bulk: 70_000, poisoned: 2, early: 10, prepared: 8,
	held: 1500 * time.Millisecond, rhythm: 120 * time.Millisecond, away: 400 * time.Millisecond,
}

// with changes a copy of t.
func (t traffic) with(change func(*traffic)) traffic {
	change(&t)
	return t
}

// scenarios are all there are.
var scenarios = []scenario{
	{name: "calm", short: true, nodes: 2, traffic: usual},
	{name: "wake", nodes: 2, traffic: traffic{channels: 2}, wakes: true, slow: 4},
	{name: "busy", nodes: 2, traffic: usual.with(func(t *traffic) { t.rpc, t.sql, t.rhythm = 12, 6, 10*time.Millisecond })},
	{name: "kill-sessions", short: true, nodes: 2, traffic: usual, faults: []fault{killListeners, killSessions}},
	{name: "kill-node", nodes: 3, traffic: usual, faults: []fault{killNode, killNode, drainNode}},
	{name: "drain", nodes: 2, faults: []fault{drainNode}, // with something pending for everyone
		traffic: usual.with(func(t *traffic) { t.rpc, t.rhythm = 10, 15*time.Millisecond })},
	{name: "restart-database", nodes: 2, faults: []fault{stopDatabase, crashDatabase, restartPrepared, restartPrepared},
		traffic: usual.with(func(t *traffic) { t.prepared, t.early = 12, 25 })},
	{name: "freeze", nodes: 2, traffic: usual, faults: []fault{freezeDatabase}},
	{name: "network", short: true, nodes: 2, faults: []fault{cutNetwork, loseAnswers, loseAnswers, slowNetwork, stickNetwork},
		traffic: usual.with(func(t *traffic) { t.keyed = 90 })},
	{name: "slow-and-cut", nodes: 2, faults: []fault{cutSlowNetwork},
		traffic: usual.with(func(t *traffic) { t.rpc, t.rhythm = 8, 40*time.Millisecond })},
	{name: "retention", nodes: 2, flags: []string{"--retention", "2s"}, faults: []fault{killListeners, drainNode},
		traffic: usual.with(func(t *traffic) { t.away = 6 * time.Second })},
	{name: "window", nodes: 2, faults: []fault{cutForLong}, // messages so large that few fit into it
		traffic: usual.with(func(t *traffic) {
			t.rpc, t.sql, t.large, t.bulk, t.stalling = 2, 1, 100, 300_000, 5
			t.rhythm = 400 * time.Millisecond
		})},
	{name: "disk-full", nodes: 2, disk: 300, faults: []fault{fillDisk},
		traffic: usual.with(func(t *traffic) { t.large = 20 })},
	{name: "everything", nodes: 2, traffic: usual,
		faults: []fault{killListeners, killSessions, killNode, drainNode, stopDatabase, crashDatabase, freezeDatabase, cutNetwork, loseAnswers, slowNetwork, stickNetwork}},
}
