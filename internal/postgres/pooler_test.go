package postgres

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// pooler is what a transaction pooler is to its clients as far as Postbus looks: it names a process that is not the one
// that answers, and takes no session settings at the start.
func pooler(t *testing.T, database string) string {
	t.Helper()
	target, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	address := target.Host
	t.Cleanup(group.Wait)
	t.Cleanup(func() { listener.Close() })
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				return
			}
			group.Go(func() { io.Copy(server, client); server.Close(); client.Close() })
			group.Go(func() { rename(client, server); server.Close(); client.Close() })
		}
	})
	query := target.Query()
	query.Set("sslmode", "disable")
	target.Host, target.RawQuery = listener.Addr().String(), query.Encode()
	return target.String()
}

// rename copies the server's messages and changes the process in BackendKeyData.
func rename(client io.Writer, server io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if head[0] == 'K' {
			body[0] ^= 1
		}
		if _, err := client.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func TestBehindAPoolerItPolls(t *testing.T) {
	direct := pgtest.Database(t)
	d, err := Open(t.Context(), Options{URL: pooler(t, direct)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	appendAll(t, d, []bus.Message{{Channel: "a", Binary: []byte{1}, Headers: map[string]string{"h": "v"}}, keyed(2, "k")}, []bus.Message{keyed(3, "k")})
	tail, start := openTail(t, d, 0)
	if tail.CanSleep() || start.Head != 2 {
		t.Errorf("can sleep: %t, start %+v", tail.CanSleep(), start)
	}
	rows, _, err := tail.Read(t.Context(), 0)
	if err != nil || ids(rows) != "1 2" || rows[0].Headers["h"] != "v" {
		t.Errorf("read %s, %v", ids(rows), err)
	}
	if _, err := tail.Holders(t.Context()); err != nil {
		t.Error(err)
	}
	if err := tail.SaveFloor(t.Context(), 2); err != nil {
		t.Error(err)
	}
	conn := connect(t, direct)
	if n := value[int](t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"); n != 0 {
		t.Errorf("%d advisory locks are held", n)
	}
	exec(t, conn, "ALTER DATABASE "+conn.Config().Database+" SET default_transaction_isolation = 'serializable'")
	if _, err := Open(t.Context(), Options{URL: pooler(t, direct)}); err == nil || !strings.Contains(err.Error(), "default_transaction_isolation") {
		t.Errorf("SERIALIZABLE behind a pooler: %v", err)
	}
	own, err := Open(t.Context(), Options{URL: direct}) // sets its own
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
}
