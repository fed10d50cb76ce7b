package tests

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/postgres/embedded"
)

// A stage is a program that scripts of Node's kill, stop and start as they need.
type stage struct {
	server *embedded.Server // the scripts may stop it; nil: they may not
	url    string           // of the database
	flags  []string         // of serve
}

// An order is what the scripts want to happen to the program.
type order struct {
	what   string
	answer chan string
}

// play starts the program and runs the scripts, which find at POSTBUS_CONTROL whom to ask.
func (st *stage) play(t *testing.T, scripts *exec.Cmd) {
	t.Helper()
	orders := make(chan order)
	l := listen(t)
	over := make(chan struct{})
	control := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := order{strings.TrimPrefix(r.URL.Path, "/"), make(chan string, 1)}
		select {
		case orders <- o:
		case <-over:
		}
		select {
		case answer := <-o.answer:
			_, _ = io.WriteString(w, answer)
		case <-over:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		check(t, control.Serve(l))
	}()
	t.Cleanup(func() {
		close(over)
		control.Close()
		<-served
	})

	s := serve(t, st.url, st.flags...)
	scripts.Env = append(scripts.Env, "POSTBUS_CONTROL=http://"+l.Addr().String())
	run := begin(t, scripts)
	bound := time.After(enough)
	for {
		select {
		case <-run.Exited:
			passed(t, run)
			return
		case <-bound:
			t.Fatalf("the scripts go on and on\n%s", run.Stdout.String())
		case o := <-orders:
			s = st.obey(t, o, s)
		}
	}
}

// obey does what o wants, answers it, and returns the program that serves then.
func (st *stage) obey(t *testing.T, o order, s *served) *served {
	t.Helper()
	answer := ""
	switch {
	case o.what == "address":
		answer = strings.TrimPrefix(s.httpURL, "http://")
	case o.what == "kill":
		s.signal(t, syscall.SIGKILL)
		s.code(t)
	case o.what == "stop":
		s.signal(t, syscall.SIGTERM)
		answer = strconv.Itoa(s.code(t))
	case o.what == "start":
		s = serve(t, st.url, st.flags...)
		answer = strings.TrimPrefix(s.httpURL, "http://")
	case o.what == "database/stop" && st.server != nil:
		must(t, st.server.StopImmediate(t.Context()))
	case o.what == "database/start" && st.server != nil:
		must(t, st.server.Restart(t.Context()))
	case strings.HasPrefix(o.what, "commit/"): // commit/CHANNEL/1,2,3: so many messages by SQL, which needs no program
		channel, payloads, _ := strings.Cut(strings.TrimPrefix(o.what, "commit/"), "/")
		commit(t, st.url, channel, strings.Split(payloads, ",")...)
	default:
		t.Fatalf("nobody knows how to %q", o.what)
	}
	o.answer <- answer
	return s
}

// commit sends JSON payloads in a transaction of their own.
func commit(t *testing.T, url, channel string, payloads ...string) {
	t.Helper()
	conn, err := pgx.Connect(short(t), url)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(short(t), "SELECT postbus.send($1, payload) FROM unnest($2::text[]) WITH ORDINALITY AS u (payload, n) ORDER BY n", channel, payloads)
	must(t, err)
}
