package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/bus"
)

// patience is after how long a frozen connection's statements fail.
const patience = 2 * time.Second

// heldFar is how far above After what is held is left out.
const heldFar = 40

// readRows is where a read of the tail is cut, so that tests meet the cut.
const readRows = 50

// A modelTail is a connection to the model that can be killed, frozen (nothing is
// answered any more) or made deaf (it answers, but hears no bell).
type modelTail struct {
	m      *model
	bell   chan struct{} // capacity 1
	killed chan struct{}
	once   sync.Once

	// Under the model's lock.
	armed, deaf, frozen bool
}

// OpenTail implements Store.
func (m *model) OpenTail(_ context.Context, pos bus.ID) (Tail, Position, error) {
	time.Sleep(m.delay)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, Position{}, errModel
	}
	if pos > m.given {
		m.violations = append(m.violations, fmt.Sprintf("opened at %d, above what was ever given: %d", pos, m.given))
	}
	m.opened++
	t := &modelTail{m: m, bell: make(chan struct{}, 1), killed: make(chan struct{})}
	m.tails[t] = struct{}{}
	p := Position{Floor: m.floor, TrimmedTo: m.trimmedTo, Histories: m.histories}
	if len(m.rows) > 0 {
		p.Head = m.rows[len(m.rows)-1].ID
	}
	return t, p, nil
}

// eachTail changes all open connections, under the model's lock.
func (m *model) eachTail(change func(*modelTail)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t := range m.tails {
		change(t)
	}
}

func (t *modelTail) kill() { t.once.Do(func() { close(t.killed) }) }

func (t *modelTail) hear() {
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

// statement is one statement: its snapshot is the moment at which look runs.
func (t *modelTail) statement(ctx context.Context, call string, look func()) error {
	t.m.mu.Lock()
	before, frozen := t.m.beforeCall, t.frozen
	t.m.mu.Unlock()
	if before != nil {
		before(call)
	}
	if frozen {
		return t.fail(ctx, patience)
	}
	time.Sleep(t.m.delay)
	select {
	case <-t.killed:
		return errModel
	default:
	}
	t.m.mu.Lock()
	look()
	t.m.mu.Unlock()
	time.Sleep(t.m.delay)
	return ctx.Err()
}

func (t *modelTail) fail(ctx context.Context, after time.Duration) error {
	select {
	case <-time.After(after):
	case <-t.killed:
	case <-ctx.Done():
	}
	return errModel
}

func (t *modelTail) Read(ctx context.Context, req TailRequest) (rows Rows, err error) {
	err = t.statement(ctx, "Read", func() {
		t.m.reads++
		t.m.assertSettledLocked("read", req.After)
		for _, n := range t.m.rows {
			if n.ID <= req.After || req.holds(n.ID) {
				continue
			}
			if rows.Full = rows.count() == readRows; rows.Full {
				break
			}
			if req.Channels != nil && t.m.hollow != nil && t.m.hollow() && !slices.Contains(req.Channels, n.Channel) {
				rows.Hollow = append(rows.Hollow, n.ID)
				t.m.hollows++
				continue
			}
			rows.Notifications = append(rows.Notifications, n)
			t.m.sent[n.ID]++
		}
		if rows.count() > 0 {
			rows.TrimmedTo = t.m.trimmedTo
		}
	})
	return rows, err
}

// holds says whether id is left out of what is read.
func (r TailRequest) holds(id bus.ID) bool {
	_, held := slices.BinarySearchFunc(r.Held, id, byID)
	return held && id <= r.After+heldFar
}

func (t *modelTail) Holders(ctx context.Context) (holders []Holder, err error) {
	err = t.statement(ctx, "Holders", func() {
		for x := range t.m.open {
			h := Holder{Transaction: x.name, Recovered: x.recover, PID: 7}
			if x.prepared {
				h.PID = 0
			}
			holders = append(holders, h)
		}
	})
	return holders, err
}

func (t *modelTail) CanSleep() bool { return !t.m.pooled }

func (t *modelTail) Arm(ctx context.Context) error {
	return t.statement(ctx, "Arm", func() { t.armed = true })
}

func (t *modelTail) Disarm(ctx context.Context) error {
	return t.statement(ctx, "Disarm", func() { t.armed = false })
}

func (t *modelTail) Wait(ctx context.Context, timeout time.Duration) (rang bool, err error) {
	if err := t.statement(ctx, "Wait", func() {}); err != nil {
		return false, err
	}
	select {
	case <-t.bell:
		return true, nil
	case <-time.After(timeout):
		return false, nil
	case <-t.killed:
		return false, errModel
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (t *modelTail) Check(ctx context.Context) error {
	var deaf bool
	if err := t.statement(ctx, "Check", func() { t.m.checks++; deaf = t.deaf }); err != nil {
		return err
	}
	if deaf {
		return t.fail(ctx, patience)
	}
	return nil
}

func (t *modelTail) SaveFloor(ctx context.Context, pos bus.ID) error {
	return t.statement(ctx, "SaveFloor", func() {
		t.m.assertSettledLocked("floor", pos)
		t.m.floor = max(t.m.floor, pos)
	})
}

func (t *modelTail) Close() {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	delete(t.m.tails, t)
	t.kill()
}
