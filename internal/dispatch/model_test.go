package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// A model is a Store in memory, with what the dispatcher's exactness rests on: ids
// taken before their commit, in any order of commit; a lock that shows from before
// the first id until after visibility; a snapshot for each statement; a bell that a
// sender looks at after its insert. And with everything that goes wrong.
type model struct {
	delay time.Duration // before and after each statement's snapshot

	mu         sync.Mutex
	given      bus.ID              // by the sequence
	rows       []*bus.Notification // visible, ids ascending
	open       map[*transaction]struct{}
	names      int
	floor      bus.ID
	trimmedTo  bus.ID
	histories  []bus.Past
	tails      map[*modelTail]struct{}
	pooled     bool          // connections have no session of their own
	down       bool          // no connection can be had
	lag        time.Duration // of the database's clock
	violations []string

	// What tests set to be asked before each page and each statement of a tail.
	beforePage func(ctx context.Context, req PageRequest) error
	beforeCall func(call string)
	hollow     func() bool // whether a row that need not be sent is left out; under mu

	pages, reading, mostReading int
	opened, reads, checks       int
	sent                        map[bus.ID]int // rows, by reads of the tail
	hollows                     int            // rows that they left out
}

func newModel() *model {
	return &model{
		delay: 20 * time.Microsecond,
		open:  make(map[*transaction]struct{}),
		tails: make(map[*modelTail]struct{}),
		sent:  make(map[bus.ID]int),
	}
}

var errModel = errors.New("the model fails as asked")

func (m *model) violated() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.violations
}

// A transaction is one sender's.
type transaction struct {
	m        *model
	name     string
	rows     []*bus.Notification
	sees     bool // a sleeper, when it looked at the bell
	prepared bool
	recover  bool
	lost     bool
}

// begin returns a transaction that holds nothing yet.
func (m *model) begin() *transaction { return &transaction{m: m} }

// lock takes the lock that every INSERT takes before its ids.
func (x *transaction) lock() *transaction {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if x.name == "" {
		x.m.names++
		x.name = "3/" + strconv.Itoa(x.m.names)
		x.m.open[x] = struct{}{}
	}
	return x
}

// insert takes an id for n.
func (x *transaction) insert(n *bus.Notification) bus.ID {
	x.lock()
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	x.m.given++
	n.ID = x.m.given
	x.rows = append(x.rows, n)
	return n.ID
}

// look looks at the bell.
func (x *transaction) look() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	for t := range x.m.tails {
		x.sees = x.sees || t.armed
	}
}

// prepare prepares the transaction: it outlives its session.
func (x *transaction) prepare(prepared bool) {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	x.prepared = prepared
}

// publish makes the rows visible; the lock is still held.
func (x *transaction) publish() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if x.lost {
		return
	}
	for _, n := range x.rows {
		i, _ := slices.BinarySearchFunc(x.m.rows, n.ID, func(n *bus.Notification, id bus.ID) int { return cmp.Compare(n.ID, id) })
		x.m.rows = slices.Insert(x.m.rows, i, n)
	}
}

// release lets go of the lock and rings if the transaction saw a sleeper.
func (x *transaction) release() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	delete(x.m.open, x)
	if !x.sees || x.lost {
		return
	}
	for t := range x.m.tails {
		if !t.deaf && !t.frozen {
			t.hear()
		}
	}
}

func (x *transaction) commit() {
	x.publish()
	x.release()
}

func (x *transaction) rollback() {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	delete(x.m.open, x)
}

// send commits one message on each of channels and returns their notifications; none
// if a restart was faster.
func (m *model) send(channels ...string) []*bus.Notification {
	x := m.begin()
	for _, c := range channels {
		x.insert(&bus.Notification{Channel: c, JSON: "1"})
	}
	x.look()
	x.commit()
	m.mu.Lock()
	defer m.mu.Unlock()
	if x.lost {
		return nil
	}
	return x.rows
}

// trim takes out what retention would take, up to id.
func (m *model) trim(id bus.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = slices.DeleteFunc(m.rows, func(n *bus.Notification) bool { return n.ID <= id })
	m.trimmedTo = id
}

// failover goes on from a copy of the log that has nothing above survived. Prepared
// transactions survive under new names.
func (m *model) failover(survived bus.ID) bus.Past {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = slices.DeleteFunc(m.rows, func(n *bus.Notification) bool { return n.ID > survived })
	m.floor = min(m.floor, survived)
	m.restartLocked()
	past := bus.Past{Survived: survived, Until: bus.ID(len(m.histories)+1) << 32}
	m.histories = append(slices.Clone(m.histories), past)
	m.given = past.Until
	return past
}

// revive brings back a transaction whose COMMIT PREPARED a failover has lost.
func (m *model) revive(x *transaction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x.prepared, x.recover = true, true
	m.open[x] = struct{}{}
}

// restart ends all connections and all transactions but the prepared ones.
func (m *model) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restartLocked()
}

func (m *model) restartLocked() {
	for t := range m.tails {
		t.kill()
	}
	for x := range m.open {
		if x.prepared {
			m.names++
			x.name, x.recover = "-1/"+strconv.Itoa(m.names), true
		} else {
			x.lost = true
			delete(m.open, x)
		}
	}
}

// assertSettledLocked notes a violation if an id up to pos may still be committed.
func (m *model) assertSettledLocked(what string, pos bus.ID) {
	for x := range m.open {
		for _, n := range x.rows {
			visible := slices.ContainsFunc(m.rows, func(r *bus.Notification) bool { return r == n })
			if n.ID <= pos && !visible {
				m.violations = append(m.violations, fmt.Sprintf("%s: %d is taken for settled, but %d may still commit", what, pos, n.ID))
			}
		}
	}
}

// ReadPage implements Store.
func (m *model) ReadPage(ctx context.Context, req PageRequest) (Page, error) {
	m.mu.Lock()
	m.pages++
	m.reading++
	m.mostReading = max(m.mostReading, m.reading)
	before := m.beforePage
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.reading--
		m.mu.Unlock()
	}()
	if before != nil {
		if err := before(ctx, req); err != nil {
			return Page{}, err
		}
	}
	time.Sleep(m.delay)
	page := m.page(req)
	time.Sleep(m.delay)
	return page, ctx.Err()
}

func (m *model) page(req PageRequest) Page {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.assertSettledLocked("page", req.Until)
	page := Page{Scanned: req.Until, TrimmedTo: m.trimmedTo}
	bytes, now := 0, time.Now().Add(-m.lag)
	for _, n := range m.rows {
		if n.ID <= req.After || n.ID > req.Until || n.Expired(now) || !slices.Contains(req.Channels, n.Channel) {
			continue
		}
		page.Notifications = append(page.Notifications, n)
		if bytes += n.Size(); bytes >= req.MaxBytes || len(page.Notifications) == req.Max {
			page.Scanned = n.ID
			break
		}
	}
	return page
}

// LastGiven implements Store.
func (m *model) LastGiven(context.Context) (bus.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return 0, errModel
	}
	return m.given, nil
}

// counted returns what the dispatchers have asked so far.
func (m *model) counted() (reads, checks, pages int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.checks, m.pages
}
