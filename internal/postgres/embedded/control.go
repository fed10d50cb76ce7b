//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"
)

// URL returns the address of the server's database, for pgx. It holds the password.
func (s *Server) URL() string { return s.DatabaseURL(database) }

// DatabaseURL is URL for another database of the server.
func (s *Server) DatabaseURL(name string) string {
	address := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + name,
		RawQuery: "sslmode=disable",
	}
	return address.String()
}

// BinDir returns the folder of the server's programs.
func (s *Server) BinDir() string { return s.binaries.folder }

// DataDir returns the data folder's absolute path.
func (s *Server) DataDir() string { return s.options.DataDir }

// Version returns PostgreSQL's version, such as "15.18".
func (s *Server) Version() string { return s.binaries.version }

// Downloaded reports whether the programs are ones that a Start, this or an earlier one,
// has downloaded.
func (s *Server) Downloaded() bool { return s.binaries.downloaded }

// PID returns the postmaster's process number, also after it has ended.
func (s *Server) PID() int { return s.now.Load().cmd.Process.Pid }

// Done returns a channel that is closed when the server dies without being asked to.
// Each Restart makes a new one.
func (s *Server) Done() <-chan struct{} { return s.now.Load().died }

// Err says how the server died, with its log's last lines, once Done is closed.
func (s *Server) Err() error {
	p := s.now.Load()
	select {
	case <-p.died:
		return fmt.Errorf("PostgreSQL ended by itself (%s)%s", p.cmd.ProcessState, said(p.log.text()))
	default:
		return nil
	}
}

// Stop ends the server for good, fast and if that takes too long at once, and gives back
// the data folder. It returns when no process is left, within a minute in any case; an
// end of ctx only makes it hurry.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.StopFast(ctx); err != nil {
		return err
	}
	return s.release()
}

// StopFast ends the server as Stop does, but keeps the data folder for Restart.
func (s *Server) StopFast(ctx context.Context) error {
	return s.end(ctx, endFast, endImmediate, endKill)
}

// StopImmediate ends the server without a checkpoint, as a crash would; Restart recovers.
func (s *Server) StopImmediate(ctx context.Context) error {
	return s.end(ctx, endImmediate, endKill)
}

func (s *Server) end(ctx context.Context, steps ...endStep) error {
	p := s.now.Load()
	if p == nil {
		return nil
	}
	select {
	case <-p.exited:
		return nil
	default:
	}
	p.asked.Store(true)
	if err := p.each(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err // a frozen server would hear nothing
	}
	return p.end(ctx, steps...)
}

// Freeze stops all of the server's processes in their tracks: connections stay open and
// nothing answers, as when a machine hangs.
func (s *Server) Freeze() error { return s.now.Load().each(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.now.Load().each(syscall.SIGCONT) }
