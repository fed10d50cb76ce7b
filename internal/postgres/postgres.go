// Package postgres turns the domain into SQL and back: it stores batches, reads the tail and pages of the log, keeps the
// schema, and removes what has outlived the retention. It is the only hand-written neighbour of pgx: nothing above it sees
// pgx or an SQLSTATE.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/internal/bus"
)

// Options configure a DB; zero values are the defaults.
type Options struct {
	URL       string // required: where to store and to read; may lead through a pooler
	ListenURL string // a direct connection to the same database, for the tail; default URL

	PoolSize int // connections beside the tail's; default 12: 8 pages, 2 batches, 2 for the rest

	Retention    time.Duration // of messages; default 24 h
	KeyRetention time.Duration // of idempotency keys; default 24 h
	MaxBody      int           // bytes of a payload, 64 KiB to 256 MiB; default 1 MiB

	Logger *slog.Logger // default: discards
}

func (o Options) withDefaults() (Options, error) {
	if o.ListenURL == "" {
		o.ListenURL = o.URL
	}
	if o.PoolSize <= 0 {
		o.PoolSize = 12
	}
	if o.Retention <= 0 {
		o.Retention = 24 * time.Hour
	}
	if o.KeyRetention <= 0 {
		o.KeyRetention = 24 * time.Hour
	}
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxBody < minMaxBody || o.MaxBody > maxMaxBody {
		return o, fmt.Errorf("largest payload: %d bytes, %d to %d", o.MaxBody, minMaxBody, maxMaxBody)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// The range of Options.MaxBody. postbus.send looks the limit up only for payloads above the minimum.
const (
	minMaxBody = 64 << 10
	maxMaxBody = 256 << 20
)

// Deadlines of one operation.
const (
	readTimeout  = 4 * time.Second
	checkTimeout = 2 * time.Second
)

// A DB is the database of a node. It implements groupcommit.Store and dispatch.Store; its methods may be called from any
// goroutine.
type DB struct {
	opts    Options
	pool    *pgxpool.Pool
	queries *db.Queries
	warned  atomic.Bool // of a pooler in the tail's way
	memory  memory
}

// Open brings the schema up to date if the role may (Migrate), records the limits if no node has yet, and opens the
// connections. It reports limits that differ from the recorded ones, which SQL senders meet, in the log.
func Open(ctx context.Context, o Options) (*DB, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, err := Migrate(ctx, o.URL, MigrateOptions{Logger: o.Logger}); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.MaxConns = int32(o.PoolSize)
	config.MinIdleConns = 0
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = 30 * time.Second
	configure(config.ConnConfig)
	pooled, err := behindPooler(ctx, config.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	d := &DB{opts: o}
	if pooled {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	} else {
		config.AfterConnect = d.admit
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	d.pool, d.queries = pool, db.New(pool)
	if err := d.recordSettings(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return d, nil
}

// admit makes a new connection of the pool ready.
func (d *DB) admit(ctx context.Context, conn *pgx.Conn) error {
	if err := setUp(ctx, conn, poolSettings); err != nil {
		return err
	}
	return d.memory.prove(ctx, db.New(conn), 0)
}

// Close ends every connection that is not the tail's. It waits for statements under way.
func (d *DB) Close() { d.pool.Close() }

// LastGiven returns the highest id that the primary's sequence ever gave.
func (d *DB) LastGiven(ctx context.Context) (bus.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	row, err := d.queries.LastGiven(ctx)
	if err == nil && row.InRecovery {
		err = errInRecovery
	}
	if err != nil {
		return 0, unavailable("read the sequence", err)
	}
	return bus.ID(row.LastGiven), nil
}

var errInRecovery = errors.New("the server is in recovery: a standby, or not yet promoted")

// configure sets what a connection needs before it begins. The parameters are among those that PgBouncer takes from a
// client and keeps for it; any other it would refuse (TestNodeBehindPgBouncerDeliversEverything). A standby is refused, or
// the URL's next host tried: a page read from one that lags would be short in silence.
func configure(c *pgx.ConnConfig) {
	c.ValidateConnect = refuseStandby
	c.RuntimeParams["application_name"] = "postbus"
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.RuntimeParams["datestyle"] = "ISO, MDY" // as the server answers it: PgBouncer compares
	c.RuntimeParams["standard_conforming_strings"] = "on"
	c.RuntimeParams["timezone"] = "UTC"
	if c.ConnectTimeout == 0 || c.ConnectTimeout > readTimeout {
		c.ConnectTimeout = readTimeout
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c.DialFunc = dialer.DialContext
}

func refuseStandby(ctx context.Context, conn *pgconn.PgConn) error {
	err := pgconn.ValidateConnectTargetSessionAttrsPrimary(ctx, conn)
	if errors.Is(err, pgconn.ErrStandbyConnection) {
		return errInRecovery
	}
	return err
}

// behindPooler says whether a pooler stands between.
func behindPooler(ctx context.Context, config *pgx.ConnConfig) (bool, error) {
	c := config.Copy()
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	return isPooled(ctx, conn)
}

// isPooled says whether the process that answers is not the one that the connection began with: then a pooler hands
// server processes out. It may do so by the session, which cannot be told from here.
func isPooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return false, err
	}
	if pid == conn.PgConn().PID() {
		return false, nil
	}
	return true, checkDefaults(ctx, conn)
}

// checkDefaults refuses defaults that change what is stored or read: behind a pooler a session cannot have its own, and
// statements that are not prepared answer in text (TestNoSettingOfTheRoleAltersMessages).
func checkDefaults(ctx context.Context, conn *pgx.Conn) error {
	for _, setting := range []struct {
		name string
		good []string
	}{
		{"default_transaction_isolation", []string{"read committed"}},
		{"bytea_output", []string{"hex"}},
		{"extra_float_digits", []string{"1", "2", "3"}},
	} {
		var value string
		if err := conn.QueryRow(ctx, "SHOW "+setting.name).Scan(&value); err != nil {
			return err
		}
		if !slices.Contains(setting.good, value) {
			return fmt.Errorf("%[1]s is %[2]q behind a pooler, where postbus cannot set its own: ALTER ROLE … SET %[1]s = '%[3]s'", setting.name, value, setting.good[0])
		}
	}
	return nil
}

// Settings of a session of its own. A transaction never waits long, whatever the role's defaults say.
//
// Each statement is planned once in a session: to plan it for its parameters costs several times what it takes to run, and on a large
// table PostgreSQL would do so every time. A plan that does not know them may think that a range is large: it is left no way
// but the indexes that each query names (TestStatementsArePlannedOnce).
const (
	commonSettings = `
		SET default_transaction_isolation = 'read committed';
		SET default_transaction_read_only = off;
		SET default_transaction_deferrable = off;
		SET idle_in_transaction_session_timeout = '10s';
		SET plan_cache_mode = force_generic_plan; SET jit = off;
		SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
		SET search_path = pg_catalog, pg_temp;
		SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
		SET tcp_user_timeout = '10s';`
	poolSettings = commonSettings + `
		SET statement_timeout = '9s'; SET lock_timeout = '2s';`
	tailSettings = commonSettings + `
		SET statement_timeout = '4s'; SET lock_timeout = '2s'; SET idle_session_timeout = '10s';`
)

func setUp(ctx context.Context, conn *pgx.Conn, settings string) error {
	if _, err := conn.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return fmt.Errorf("set up the session: %w", err)
	}
	return nil
}
