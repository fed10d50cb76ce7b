package postgres

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/db"
	"github.com/postbus/postbus/db/migrations"
	"github.com/postbus/postbus/internal/bus"
)

// ProgramVersion is what a schema's recorded minimum is compared with. It grows when a program can work with a schema that
// earlier ones cannot.
const ProgramVersion = 1

// Roles are the names of the roles that get the schema's rights; an empty one has its default.
type Roles struct {
	Sender string // postbus.send and the like; default postbus_sender
	Reader string // postbus.poll; default postbus_reader
	Node   string // what serve needs; default postbus_node
}

// MigrateOptions configure Migrate.
type MigrateOptions struct {
	// Roles get their grants when a migration is applied, and also when it is not if any is named here.
	Roles  Roles
	Logger *slog.Logger // for the database's notices; default: discards
}

// Migrate brings the schema of the database up to date, in one transaction, and returns its version. Several at once
// wait for each other. It fails on a schema whose recorded minimum is above ProgramVersion; a schema that is merely newer is
// left as it is. A role that owns nothing may call it when there is nothing to do.
func Migrate(ctx context.Context, url string, o MigrateOptions) (version int, err error) {
	regrant := o.Roles != Roles{}
	o.Roles.Sender = cmp.Or(o.Roles.Sender, "postbus_sender")
	o.Roles.Reader = cmp.Or(o.Roles.Reader, "postbus_reader")
	o.Roles.Node = cmp.Or(o.Roles.Node, "postbus_node")
	conn, err := connectOwner(ctx, url, o.Logger)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		m := &migration{tx: tx, roles: o.Roles, regrant: regrant}
		version, err = m.run(ctx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return version, nil
}

// NewHistory begins a new history of ids and returns its first.
func NewHistory(ctx context.Context, url string) (bus.ID, error) {
	conn, err := connectOwner(ctx, url, nil)
	if err != nil {
		return 0, fmt.Errorf("begin a new history: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	first, err := db.New(conn).BeginHistory(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("begin a new history: %w", err)
	}
	return bus.ID(first), nil
}

// connectOwner connects in a way that a pooler does not disturb.
func connectOwner(ctx context.Context, url string, logger *slog.Logger) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	configure(config)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if logger != nil {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			logger.Info("the database notes", "notice", n.Message)
		}
	}
	return pgx.ConnectConfig(ctx, config)
}

// A migration is one run.
type migration struct {
	tx      pgx.Tx
	roles   Roles
	regrant bool
}

func (m *migration) run(ctx context.Context) (int, error) {
	if err := m.checkServer(ctx); err != nil {
		return 0, err
	}
	// Waits for other runs; ends with the transaction.
	if _, err := m.tx.Exec(ctx, "SELECT pg_advisory_xact_lock(1346532723, -3)"); err != nil {
		return 0, fmt.Errorf("wait for other migrations: %w", err)
	}
	applied, err := m.applied(ctx)
	if err != nil {
		return 0, err
	}
	files, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return 0, err
	}
	version := 0
	if len(applied) > 0 {
		version = slices.Max(applied)
	}
	for _, name := range files { // Glob sorts
		number, err := strconv.Atoi(name[:4])
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", name, err)
		}
		if slices.Contains(applied, number) {
			continue
		}
		if err := m.apply(ctx, name, number); err != nil {
			return 0, fmt.Errorf("migration %s: %w", name, err)
		}
		version, m.regrant = max(version, number), true
	}
	if m.regrant {
		_, err := m.tx.Exec(ctx, "SELECT postbus.grant_roles($1::text, $2::text, $3::text)", m.roles.Sender, m.roles.Reader, m.roles.Node)
		if err != nil {
			return 0, fmt.Errorf("grant the roles' rights: %w", err)
		}
	}
	return version, nil
}

// checkServer refuses what Postbus cannot run on.
func (m *migration) checkServer(ctx context.Context) error {
	var number int
	var encoding, version string
	var recovery bool
	err := m.tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
		current_setting('server_encoding'), pg_is_in_recovery()`).Scan(&number, &version, &encoding, &recovery)
	switch {
	case err != nil:
		return err
	case recovery:
		return errInRecovery
	case number < 140000:
		return fmt.Errorf("PostgreSQL %s, at least 14", version)
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, must be UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// applied returns the versions that the database has, after a look whether this program may use it.
func (m *migration) applied(ctx context.Context) ([]int, error) {
	var exists bool
	if err := m.tx.QueryRow(ctx, "SELECT to_regclass('postbus.migrations') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return nil, err
	}
	rows, err := m.tx.Query(ctx, "SELECT version FROM postbus.migrations ORDER BY version")
	if err != nil {
		return nil, err
	}
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(versions) == 0 {
		return nil, err
	}
	var minimum int
	if err := m.tx.QueryRow(ctx, "SELECT min_program FROM postbus.settings WHERE one").Scan(&minimum); err != nil {
		return nil, err
	}
	if minimum > ProgramVersion {
		return nil, fmt.Errorf("the schema (version %d) needs a program of number %d or above, this is %d: install a newer postbus", versions[len(versions)-1], minimum, ProgramVersion)
	}
	return versions, nil
}

func (m *migration) apply(ctx context.Context, name string, number int) error {
	text, err := fs.ReadFile(migrations.Files, name)
	if err != nil {
		return err
	}
	if _, err := m.tx.Conn().PgConn().Exec(ctx, string(text)).ReadAll(); err != nil {
		return err
	}
	_, err = m.tx.Exec(ctx, "INSERT INTO postbus.migrations (version) VALUES ($1)", number)
	return err
}
