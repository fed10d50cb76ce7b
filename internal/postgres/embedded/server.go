//go:build unix

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// startPatience bounds a start, the recovery after a kill among it.
const startPatience = 2 * time.Minute

// A Server is a running PostgreSQL that belongs to this process. Stop it when done; the
// kernel does it on Linux if the process is killed. Stop, StopFast, StopImmediate,
// Restart, Freeze and Thaw are called one at a time; the rest from anywhere.
type Server struct {
	options  Options
	account  account
	binaries binaries
	cluster  string
	port     int
	password string
	lock     *os.File // nil once the folder was given back
	log      io.Writer
	ownLog   io.Closer // nil: the caller's
	now      atomic.Pointer[process]
}

// Start starts a PostgreSQL and returns when it accepts connections
// (TestDataSurviveARestart). A second Server on the same data folder gets ErrInUse.
func Start(ctx context.Context, options Options) (*Server, error) {
	return start(ctx, options, finder{
		onPath:  true,
		folders: installFolders,
		roads:   downloadRoads(),
	})
}

func start(ctx context.Context, options Options, find finder) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{options: options}
	if err := s.prepare(ctx, find); err != nil {
		return nil, errors.Join(err, s.release())
	}
	if err := s.Restart(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// prepare takes the data folder and makes the cluster ready to be started.
func (s *Server) prepare(ctx context.Context, find finder) error {
	if err := s.takeFolder(); err != nil {
		return err
	}
	major, err := clusterMajor(s.options.DataDir, s.cluster)
	if err != nil {
		return err
	}
	find.cache, find.logger = s.options.CacheDir, s.options.Logger
	s.binaries, err = find.find(ctx, s.options.BinDir, major)
	if err != nil {
		return err
	}
	if err := errors.Join(s.account.canEnter(s.binaries.folder), s.checkMajor(major)); err != nil {
		return err
	}
	if major == 0 {
		if err := s.makeCluster(ctx); err != nil {
			return fmt.Errorf("make a PostgreSQL cluster in %s: %w", s.options.DataDir, err)
		}
	}
	if err := s.endLeftover(ctx); err != nil {
		return err
	}
	s.password, err = s.readPassword()
	return err
}

// takeFolder makes and locks the data folder, and opens the log in it.
func (s *Server) takeFolder() error {
	folder, err := filepath.Abs(s.options.DataDir)
	if err != nil {
		return err
	}
	if err := makeFolder(folder); err != nil {
		return err
	}
	if s.options.DataDir, err = filepath.EvalSymlinks(folder); err != nil {
		return err
	}
	s.cluster = filepath.Join(s.options.DataDir, "cluster")
	if s.account, err = serverAccount(s.cluster); err != nil {
		return err
	}
	if err := s.account.canEnter(s.options.DataDir); err != nil {
		return err
	}
	if s.lock, err = lockFolder(s.options.DataDir); err != nil {
		return err
	}
	s.log = s.options.Log
	if s.log == nil {
		file, err := openLog(filepath.Join(s.options.DataDir, "server.log"))
		if err != nil {
			return err
		}
		s.log, s.ownLog = file, file
	}
	return nil
}

// release gives back what takeFolder took; the server must have ended. The lock goes
// last, when nothing is left to fight about.
func (s *Server) release() error {
	if s.lock == nil {
		return nil
	}
	var errs []error
	if s.ownLog != nil {
		errs = append(errs, s.ownLog.Close())
	}
	if s.options.Ephemeral {
		errs = append(errs, os.RemoveAll(s.options.DataDir))
	}
	errs = append(errs, s.lock.Close())
	s.lock, s.ownLog = nil, nil
	return errors.Join(errs...)
}

// Restart ends the server, if it still runs, and starts it again on the same port and
// data. Done and PID are the new one's then.
func (s *Server) Restart(ctx context.Context) error {
	if s.lock == nil {
		return errors.New("restart: the server was stopped for good")
	}
	if err := s.StopFast(ctx); err != nil {
		return err
	}
	const attempts = 100 // 20 s
	for attempt := 1; ; attempt++ {
		err := s.launch(ctx)
		if err == nil || attempt == attempts || !s.another(err) {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// another reports whether one more attempt may help: another process may have taken the
// port since it was found free, and a killed postmaster's children need a moment to go.
func (s *Server) another(err error) bool {
	var early *earlyEnd
	if !errors.As(err, &early) {
		return false
	}
	if s.options.Port == 0 && s.now.Load() == nil && bytes.Contains(early.log, []byte("could not bind")) {
		s.port = 0
		return true
	}
	return bytes.Contains(early.log, []byte("pre-existing shared memory block"))
}

// An earlyEnd is a postmaster that ended before it was ready.
type earlyEnd struct {
	err error
	log []byte
}

func (e *earlyEnd) Error() string {
	return fmt.Sprintf("PostgreSQL did not start: %v%s", e.err, said(e.log))
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	if err := s.choosePort(); err != nil {
		return err
	}
	if err := s.writeSettings(); err != nil {
		return err
	}
	cmd := s.program(context.WithoutCancel(ctx), "postgres", "-D", s.cluster)
	p, err := startProcess(cmd, &tail{next: s.log})
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	ready := func() (bool, error) {
		select {
		case <-p.exited:
			return false, &earlyEnd{p.err, p.log.text()}
		default:
		}
		file, err := readPidFile(s.cluster)
		return err == nil && file.pid == cmd.Process.Pid && file.ready, nil
	}
	if err := poll(ctx, startPatience, ready); err != nil {
		if errors.Is(err, errPatience) {
			err = fmt.Errorf("PostgreSQL was not ready within %s%s", startPatience, said(p.log.text()))
		}
		return errors.Join(err, p.end(ctx, endImmediate, endKill))
	}
	s.now.Store(p)
	return nil
}

// choosePort finds a free port, once: it is the same for the server's whole life.
func (s *Server) choosePort() error {
	if s.port != 0 {
		return nil
	}
	if s.port = s.options.Port; s.port != 0 {
		return nil
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	return listener.Close()
}
