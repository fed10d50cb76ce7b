package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
	"github.com/postbus/postbus/internal/groupcommit"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/service"
)

// A node is the process's parts, in the order in which they start.
type node struct {
	config config
	log    *slog.Logger

	db         *postgres.DB
	dispatcher *dispatch.Dispatcher
	writer     *groupcommit.Writer
	service    *service.Service
	grpc       *grpc.Server
	http       *http.Server
	adminHTTP  *http.Server

	draining atomic.Bool
}

const (
	startTimeout   = 30 * time.Second // for the first connection to the database and the migration
	migrateTimeout = 10 * time.Minute // for the migration alone
)

// gcPercent is GOGC unless that is set. Twice Go's default takes a fifth of a busy node's
// CPU time from the collector, for a third more memory: 240 MB instead of 170 at 120,000
// messages a second.
const gcPercent = 200

// runNode serves until ctx ends, then drains. It returns nil after an orderly end.
//
// Start: migrate, pool, dispatcher, writer, gRPC, HTTP, healthy. Stop: not healthy,
// dispatcher (streams get their last, polls answer), HTTP, WebSockets and gRPC, writer
// (accepted sends are answered), pool.
func runNode(ctx context.Context, c config, log *slog.Logger) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	n := &node{config: c, log: log}
	if err := n.openDatabase(ctx); err != nil {
		return err
	}
	defer n.db.Close()
	listeners, err := n.listen()
	if err != nil {
		return err
	}
	if err := n.build(); err != nil {
		return err
	}

	// Each part has a context of its own: they end one after the other.
	var parts parts
	stopDispatcher := parts.run("dispatcher", n.dispatcher.Run)
	stopWriter := parts.run("writer", n.writer.Run)
	stopRetention := parts.run("retention", n.db.Trim)
	stopHealth := parts.run("health", n.watchHealth)
	parts.serve("grpc", func() error { return n.grpc.Serve(n.service.GRPCListener(listeners.grpc)) })
	parts.serve("http", func() error { return n.http.Serve(n.service.HTTPListener(listeners.http)) })
	if listeners.admin != nil {
		parts.serve("admin", func() error { return n.adminHTTP.Serve(listeners.admin) })
	}
	log.InfoContext(ctx, "serving", listeners.addresses()...)

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-parts.failed():
	}

	log.Info("draining", "timeout", c.drainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.drainTimeout)
	defer cancel()
	n.draining.Store(true)
	n.service.Drain()
	stopHealth()
	n.dispatcher.Drain()
	n.stopServers(deadline)
	stopWriter()
	stopRetention()
	stopDispatcher()
	if err := parts.wait(deadline); err != nil {
		return errors.Join(failed, fmt.Errorf("stop within %s: %w", c.drainTimeout, err))
	}
	return failed
}

func (n *node) openDatabase(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := postgres.Open(bounded, postgres.Options{
		URL:          n.config.databaseURL,
		ListenURL:    n.config.listenURL,
		PoolSize:     n.config.poolSize,
		Retention:    n.config.retention,
		KeyRetention: n.config.keyRetention,
		MaxBody:      n.config.maxBody,
		Logger:       n.log,
	})
	if err != nil {
		return err
	}
	n.db = db
	return nil
}

// build makes the parts; nothing runs yet.
func (n *node) build() (err error) {
	c := n.config
	limits := bus.DefaultLimits()
	limits.MaxBody, limits.MaxChannels = c.maxBody, c.maxChannels
	n.dispatcher = dispatch.New(dispatch.Options{
		Store: n.db, Logger: n.log, WindowBytes: c.windowBytes, PageReaders: c.pageReaders,
		PageQueue: c.pageQueue, Memberships: c.memberships,
	})
	n.writer = groupcommit.New(groupcommit.Options{
		Store: n.db, Stored: n.dispatcher.Offer, QueueMessages: c.queueMessages, QueueBytes: c.queueBytes,
	})
	c.odoo.Retention = c.retention
	n.service, err = service.New(service.Options{
		Dispatcher: n.dispatcher, Writer: n.writer, Recent: n.db, Logger: n.log,
		Limits: limits, PollTimeout: c.pollTimeout, MaxReaders: c.maxReaders,
		MaxConnections: c.maxConnections, MaxGuests: n.maxGuests(), MaxRequests: c.maxRequests, MaxRequestBytes: c.maxRequestBytes,
		MaxHeaderBytes: c.maxHeaderBytes, ReceiveTimeout: c.receiveTimeout,
		CORSOrigins: c.corsOrigins, AllowedHosts: c.allowedHosts, Odoo: c.odoo,
	})
	if err != nil {
		return err
	}
	n.grpc = n.service.GRPCServer()
	n.http = n.service.HTTPServer()
	n.adminHTTP = &http.Server{Handler: n.admin(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	return nil
}

// maxGuests returns how many connections both listeners may have, or what the process's
// descriptors leave of them: without one a connection would wait in silence.
func (n *node) maxGuests() int {
	const others = 300 // the porches, the admin's, files
	most := 2 * n.config.maxConnections
	limit, known := descriptors()
	if left := limit - others - int64(n.config.poolSize); known && left < int64(most) {
		most = int(max(left, 1))
		n.log.Info("fewer connections than --max-connections allows: ulimit -n", "descriptors", limit, "connections", most)
	}
	return most
}

type listeners struct{ http, grpc, admin net.Listener }

// addresses returns where they really listen, which for port 0 no flag says, as a log's
// attributes.
func (l listeners) addresses() (attributes []any) {
	for _, named := range []struct {
		name     string
		listener net.Listener
	}{{"http", l.http}, {"grpc", l.grpc}, {"admin", l.admin}} {
		if named.listener != nil {
			attributes = append(attributes, named.name, named.listener.Addr().String())
		}
	}
	return attributes
}

// listen opens the listeners, all or none.
func (n *node) listen() (l listeners, err error) {
	open := func(flag, addr string) net.Listener {
		if err != nil || addr == "" {
			return nil
		}
		var opened net.Listener
		if opened, err = net.Listen("tcp", addr); err != nil {
			err = fmt.Errorf("--%s: %w", flag, err)
		}
		return opened
	}
	l.http = open("http-addr", n.config.httpAddr)
	l.grpc = open("grpc-addr", n.config.grpcAddr)
	l.admin = open("admin-addr", n.config.adminAddr)
	if err != nil {
		for _, opened := range []net.Listener{l.http, l.grpc, l.admin} {
			if opened != nil {
				opened.Close()
			}
		}
	}
	return l, err
}

// watchHealth keeps grpc.health.v1 at what /readyz says.
func (n *node) watchHealth(ctx context.Context) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, _ := n.ready()
		n.service.SetHealthy(ok)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// stopServers lets every request end, until the deadline.
func (n *node) stopServers(deadline context.Context) {
	if err := n.http.Shutdown(deadline); err != nil {
		n.http.Close()
	}
	sockets := make(chan struct{})
	go func() {
		_ = n.service.WaitSockets(deadline) // the deadline is no news
		close(sockets)
	}()
	graceful := make(chan struct{})
	go func() { n.grpc.GracefulStop(); close(graceful) }()
	select {
	case <-graceful:
	case <-deadline.Done():
		n.grpc.Stop()
		<-graceful
	}
	<-sockets
	n.adminHTTP.Close()
}

// parts runs what a process consists of and waits for it.
type parts struct {
	group sync.WaitGroup
	once  sync.Once
	first chan error
}

// failed has the first error of a part that should not have ended.
func (p *parts) failed() chan error {
	p.once.Do(func() { p.first = make(chan error, 16) })
	return p.first
}

// run starts a part that ends with its context, and returns what ends it.
func (p *parts) run(name string, part func(context.Context) error) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(context.Background())
	p.serve(name, func() error { return part(ctx) })
	return stop
}

// serve starts a part that something else ends.
func (p *parts) serve(name string, part func() error) {
	failed := p.failed()
	p.group.Go(func() {
		err := part()
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// wait waits for all parts, until the deadline.
func (p *parts) wait(deadline context.Context) error {
	ended := make(chan struct{})
	go func() { p.group.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-deadline.Done():
		return deadline.Err()
	}
}
