package service

import (
	"context"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/service/odoo"
)

// An odooCore is the Service as Odoo's protocol sees it. Its polls and streams are the
// service's own, behind adapters of their own and not behind an envelope around the JSON
// routes: their cursor knows "the last 50 seconds", and their answers have another shape.
type odooCore struct{ *Service }

// odooNobody is what a client without channels reads: nobody can send to a reserved
// channel, and so it waits as Odoo's own server has it wait, drained and counted
// like every other.
var odooNobody = []string{bus.ReservedChannels + "nobody"}

func (s *Service) newOdoo() (*odoo.Handler, error) {
	o := s.opts.Odoo
	o.Core, o.Logger = odooCore{s}, s.log
	return odoo.New(o)
}

// Receive implements odoo.Core.
func (c odooCore) Receive(w http.ResponseWriter, r *http.Request) (body []byte, done func(), err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != jsonType && kind != "application/json-rpc" {
		return nil, nil, &fault{code: codes.InvalidArgument, reason: ReasonUnsupportedMediaType,
			message: "Content-Type must be application/json or application/json-rpc"}
	}
	in, err := c.receive(w, r)
	if err != nil {
		return nil, nil, err
	}
	if body, err = in.body(w, r); err != nil {
		in.release()
		return nil, nil, err
	}
	return body, in.release, nil
}

// CheckChannels implements odoo.Core.
func (c odooCore) CheckChannels(channels []string) error {
	if len(channels) == 0 {
		return nil
	}
	if vs := c.limits.CheckChannels("channels", channels); len(vs) > 0 {
		return &bus.InvalidError{Reason: bus.InvalidField, Violations: vs}
	}
	return nil
}

func orNobody(channels []string) []string {
	if len(channels) == 0 {
		return odooNobody
	}
	return unique(channels)
}

// Poll implements odoo.Core.
func (c odooCore) Poll(ctx context.Context, p odoo.Poll) (dispatch.Batch, error) {
	return c.poll(ctx, readingOfOdoo(p), enoughForOdoo(p))
}

func readingOfOdoo(p odoo.Poll) reading {
	return reading{channels: orNobody(p.Channels), after: p.After, max: maxPollMax, wait: p.Wait}
}

func enoughForOdoo(p odoo.Poll) func(dispatch.Batch) bool {
	return func(b dispatch.Batch) bool { return len(b.Notifications) > 0 || p.Gap && b.Gap != nil }
}

// Open implements odoo.Core.
func (c odooCore) Open(ctx context.Context, p odoo.Poll) (odoo.Polling, error) {
	opened, err := c.openPoll(ctx, readingOfOdoo(p), enoughForOdoo(p))
	if err != nil {
		return nil, err
	}
	return odooPolling{opened}, nil
}

type odooPolling struct{ *polling }

// Await implements odoo.Polling.
func (p odooPolling) Await(ctx context.Context) error { return p.await(ctx) }

// Batch implements odoo.Polling.
func (p odooPolling) Batch() dispatch.Batch { return p.batch }

// Enter implements odoo.Core.
func (c odooCore) Enter() (leave func(), err error) {
	if err := c.enter(&c.counts.streams); err != nil {
		return nil, err
	}
	return func() { c.leave(&c.counts.streams) }, nil
}

// Walk implements odoo.Core.
func (c odooCore) Walk(ctx context.Context, w odoo.Walk) error {
	to := way{give: w.Give, peer: rand.Uint64()} // each has a connection of its own
	if w.Carry != nil {
		to.carry = func(b *dispatch.Batch) error { return w.Carry(b, &b.Forms[formOdoo]) }
	}
	open, err := c.openAdmitted(ctx, walking{channels: orNobody(w.Channels), after: w.After, heartbeat: w.Heartbeat}, to)
	if open == nil {
		return err
	}
	defer open.sub.Close()
	if err != nil {
		return err
	}
	return open.run(ctx)
}

// IDBefore implements odoo.Core.
func (c odooCore) IDBefore(ctx context.Context, age time.Duration) (bus.ID, error) {
	if c.opts.Recent == nil {
		return 0, fmt.Errorf("no cursor by age: %w", bus.ErrUnavailable)
	}
	return c.opts.Recent.IDBefore(ctx, age)
}

// Send implements odoo.Core.
func (c odooCore) Send(ctx context.Context, messages []bus.Message) ([]bus.Receipt, error) {
	if invalid := c.limits.CheckSend(messages); invalid != nil {
		return nil, invalid
	}
	return c.send(ctx, messages)
}

// Fault implements odoo.Core.
func (c odooCore) Fault(ctx context.Context, method string, err error) (reason, message string) {
	f := inJSONNames(c.refuse(ctx, method, err))
	return f.reason, f.message
}

// Refuse implements odoo.Core.
func (c odooCore) Refuse(w http.ResponseWriter, r *http.Request, err error) { c.refuseHTTP(w, r, err) }

// Draining implements odoo.Core.
func (c odooCore) Draining() <-chan struct{} { return c.draining.Done() }

// TakeRoom implements odoo.Core.
func (c odooCore) TakeRoom(bytes int64) bool { return c.requestBytes.take(bytes) }

// GiveRoom implements odoo.Core.
func (c odooCore) GiveRoom(bytes int64) { c.requestBytes.give(bytes) }
