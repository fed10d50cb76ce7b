package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postbus/postbus/service/odoo"
)

// A config is what serve and dev are told by flags and variables.
type config struct {
	databaseURL, listenURL        string
	httpAddr, grpcAddr, adminAddr string
	retention, keyRetention       time.Duration
	corsOrigins, allowedHosts     []string
	insecure                      bool
	drainTimeout, pollTimeout     time.Duration
	maxBody, windowBytes          int
	maxChannels, memberships      int
	maxReaders                    int
	pageReaders, pageQueue        int
	queueMessages, queueBytes     int
	maxConnections, maxRequests   int
	maxRequestBytes               int
	maxHeaderBytes                int
	receiveTimeout                time.Duration
	poolSize                      int
	odoo                          odoo.Options
	logLevel, logFormat           string
}

// The range of --max-body: below it postbus.send does not look the limit up, and above it
// a message would not fit into what gRPC clients accept by default.
const (
	minMaxBody = 64 << 10
	maxMaxBody = 3 << 20
)

// register declares the flags of serve and dev, in groups for --help.
func (c *config) register(cmd *cobra.Command) {
	where := pflag.NewFlagSet("Where it serves", pflag.ContinueOnError)
	where.StringVar(&c.httpAddr, "http-addr", "127.0.0.1:8072", "where JSON is served (Odoo's longpolling port)")
	where.StringVar(&c.grpcAddr, "grpc-addr", "127.0.0.1:8073", "where gRPC is served")
	where.StringVar(&c.adminAddr, "admin-addr", "127.0.0.1:8074", "where /metrics, /livez, /readyz and /debug/pprof are served; empty: nowhere")
	where.StringSliceVar(&c.corsOrigins, "cors-origins", nil, "origins of web pages that may use the JSON side, or *")
	where.StringSliceVar(&c.allowedHosts, "allowed-hosts", nil, "names, beside loopback's, by which this server may be called (the Host header), or *")
	where.BoolVar(&c.insecure, "insecure", false, "allow addresses that are not loopback, although there is no authentication")

	times := pflag.NewFlagSet("How long", pflag.ContinueOnError)
	times.DurationVar(&c.retention, "retention", 24*time.Hour, "how long a message is kept, 1s or more")
	times.DurationVar(&c.keyRetention, "key-retention", 24*time.Hour, "how long an idempotency key is remembered, 1s or more")
	times.DurationVar(&c.pollTimeout, "poll-timeout", 25*time.Second, "how long a poll without a timeout waits, 1s to 50s")
	times.DurationVar(&c.receiveTimeout, "receive-timeout", 30*time.Second, "how long a request may take to come, 1s to 10m; its headers, 10s at most")
	times.DurationVar(&c.drainTimeout, "drain-timeout", 10*time.Second, "how long a stop may take")

	sending := pflag.NewFlagSet("Bounds of sending", pflag.ContinueOnError)
	sending.IntVar(&c.maxBody, "max-body", 1<<20, "bytes of one message's payload, 65536 to 3145728")
	sending.IntVar(&c.queueMessages, "send-queue-messages", 100_000, "messages that may wait for their commit")
	sending.IntVar(&c.queueBytes, "send-queue-bytes", 256<<20, "bytes that may wait for their commit")

	reading := pflag.NewFlagSet("Bounds of reading", pflag.ContinueOnError)
	reading.IntVar(&c.maxReaders, "max-readers", 50_000, "streams and polls open at once")
	reading.IntVar(&c.maxChannels, "max-channels", 1_000, "channels of one reader, 1 to 1000")
	reading.IntVar(&c.memberships, "max-memberships", 2_000_000, "channels of all readers together, each reader's counted")
	reading.IntVar(&c.pageReaders, "page-readers", 8, "reads of the table at once for readers that catch up")
	reading.IntVar(&c.pageQueue, "page-queue", 10_000, "readers that may wait for one of these reads")
	reading.IntVar(&c.windowBytes, "window-bytes", 64<<20, "bytes of the newest messages kept in memory, 1048576 or more")

	network := pflag.NewFlagSet("Bounds of the network", pflag.ContinueOnError)
	network.IntVar(&c.maxConnections, "max-connections", 50_000, "connections of each of --http-addr and --grpc-addr; fewer if ulimit -n says so")
	network.IntVar(&c.maxRequests, "max-requests", 20_000, "requests being received, and sends being answered, at once")
	network.IntVar(&c.maxRequestBytes, "max-request-bytes", 256<<20, "bytes of the requests being received at once, 16777216 or more")
	network.IntVar(&c.maxHeaderBytes, "max-header-bytes", 64<<10, "bytes of one request's headers, 4096 to 1048576")
	network.IntVar(&c.poolSize, "pool-size", 16, "connections to the database beside the one that listens, 4 or more")

	beside := pflag.NewFlagSet("Odoo's protocol", pflag.ContinueOnError)
	beside.IntVar(&c.odoo.Version, "odoo-version", odoo.DefaultVersion, "the Odoo whose clients are served, 13 to 18: what answers look like to them")
	beside.StringVar(&c.odoo.WorkerVersion, "odoo-worker-version", "", "what clients of /websocket may say that they are, such as 18.0-7, several with commas between, or any; empty: whatever is of --odoo-version")
	beside.StringVar(&c.odoo.Database, "odoo-database", "postbus", "the name that answers give for Odoo's database")
	beside.BoolVar(&c.odoo.Send, "odoo-send", false, "serve /longpolling/send, by which whoever reaches it may send")

	log := pflag.NewFlagSet("The log", pflag.ContinueOnError)
	log.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	log.StringVar(&c.logFormat, "log-format", "text", "text or json")

	inGroups(cmd, where, times, sending, reading, network, beside, log)
}

// fromEnvironment sets the flags that the command line does not name from their
// variables: POSTBUS_HTTP_ADDR for --http-addr.
func fromEnvironment(f *pflag.FlagSet) error {
	var first error
	f.VisitAll(func(flag *pflag.Flag) {
		name := "POSTBUS_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || flag.Changed || first != nil || flag.Name == "help" {
			return
		}
		if err := f.Set(flag.Name, value); err != nil {
			first = misuse("%s=%q: %v", name, value, err)
		}
	})
	return first
}

// check returns the first flag that cannot be obeyed.
func (c *config) check() error {
	ranges := []struct {
		flag      string
		value     int64
		low, high int64
	}{
		{"max-body", int64(c.maxBody), minMaxBody, maxMaxBody},
		{"max-readers", int64(c.maxReaders), 1, 1 << 30},
		{"window-bytes", int64(c.windowBytes), 1 << 20, 1 << 40},
		{"max-channels", int64(c.maxChannels), 1, 1000},
		{"max-memberships", int64(c.memberships), 1000, 1 << 30},
		{"page-readers", int64(c.pageReaders), 1, 1000},
		{"page-queue", int64(c.pageQueue), 1, 1 << 30},
		{"max-connections", int64(c.maxConnections), 1, 1 << 30},
		{"max-requests", int64(c.maxRequests), 1, 1 << 30},
		{"max-request-bytes", int64(c.maxRequestBytes), 16 << 20, 1 << 40},
		{"max-header-bytes", int64(c.maxHeaderBytes), 4 << 10, 1 << 20},
		{"send-queue-messages", int64(c.queueMessages), 1000, 1 << 30},
		{"send-queue-bytes", int64(c.queueBytes), 4 << 20, 1 << 40},
		{"pool-size", int64(c.poolSize), 4, 1000},
		{"odoo-version", int64(c.odoo.Version), odoo.OldestVersion, odoo.NewestVersion},
	}
	for _, r := range ranges {
		if r.value < r.low || r.value > r.high {
			return misuse("--%s: %d, must be %d to %d", r.flag, r.value, r.low, r.high)
		}
	}
	durations := []struct {
		flag      string
		value     time.Duration
		low, high time.Duration
	}{
		{"retention", c.retention, time.Second, 100 * 365 * 24 * time.Hour},
		{"key-retention", c.keyRetention, time.Second, 100 * 365 * 24 * time.Hour},
		{"drain-timeout", c.drainTimeout, 0, time.Hour},
		{"poll-timeout", c.pollTimeout, time.Second, 50 * time.Second},
		{"receive-timeout", c.receiveTimeout, time.Second, 10 * time.Minute},
	}
	for _, d := range durations {
		if d.value < d.low || d.value > d.high {
			return misuse("--%s: %s, must be %s to %s", d.flag, d.value, d.low, d.high)
		}
	}
	if _, err := c.logger(); err != nil {
		return err
	}
	for flag, url := range map[string]string{"database-url": c.databaseURL, "listen-url": c.listenURL} {
		if err := checkURL(flag, url); err != nil {
			return err
		}
	}
	for flag, addr := range map[string]string{"http-addr": c.httpAddr, "grpc-addr": c.grpcAddr, "admin-addr": c.adminAddr} {
		if err := c.checkAddr(flag, addr); err != nil {
			return err
		}
	}
	return nil
}

// checkAddr refuses an address that is not loopback's, unless that is asked for: there
// is no authentication yet.
func (c *config) checkAddr(flag, addr string) error {
	if addr == "" && flag == "admin-addr" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return misuse("--%s: %q is not HOST:PORT", flag, addr)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() || c.insecure {
		return nil
	}
	return misuse("--%s: %s is not a loopback address; there is no authentication, so say --insecure if anyone who reaches it may send and read", flag, addr)
}

func (c *config) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, misuse("--log-level: %q, must be debug, info, warn or error", c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, misuse("--log-format: %q, must be text or json", c.logFormat)
}

// A misuseError is a command that cannot be obeyed as it stands: exit code 2.
type misuseError struct{ error }

func misuse(format string, args ...any) error {
	return misuseError{fmt.Errorf(format, args...)}
}
