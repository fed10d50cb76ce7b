package postgres

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
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
	rows, _, err := readTail(t, tail, 0)
	if err != nil || ids(rows) != "1 2" || rows[0].Headers["h"] != "v" {
		t.Errorf("read %s, %v", ids(rows), err)
	}
	if read, err := tail.Read(t.Context(), dispatch.TailRequest{Held: rows[:1]}); err != nil || ids(read.Notifications) != "2" {
		t.Errorf("read %s, %v; 1 is held", ids(read.Notifications), err)
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
}

// Directly and behind a pooler; there some settings cannot be lived with, and are named.
func TestNoSettingOfTheRoleAltersMessages(t *testing.T) {
	for setting, refused := range map[string]bool{
		"default_transaction_isolation = 'serializable'": true,
		"bytea_output = 'escape'":                        true,
		"extra_float_digits = -15":                       true,
		"extra_float_digits = 3":                         false,
		"datestyle = 'German'":                           false,
		"timezone = 'Asia/Tokyo'":                        false,
		"intervalstyle = 'iso_8601'":                     false,
		"client_encoding = 'LATIN1'":                     false,
		"standard_conforming_strings = off":              false,
	} {
		direct := pgtest.Database(t)
		conn := connect(t, direct)
		exec(t, conn, "ALTER DATABASE "+conn.Config().Database+" SET "+setting)
		for _, url := range []string{direct, pooler(t, direct)} {
			d, err := Open(t.Context(), Options{URL: url})
			if err == nil {
				t.Cleanup(d.Close)
			}
			if url != direct && refused {
				if name, _, _ := strings.Cut(setting, " "); err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("%s behind a pooler: %v, want an error that names it", setting, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", setting, err)
				continue
			}
			sent := bus.Message{Channel: "é", Binary: []byte{0, '\\', 255}, Headers: map[string]string{"h": `é\`}, TTL: time.Hour}
			before := time.Now().Add(-time.Minute)
			results, _ := appendAll(t, d, []bus.Message{sent})
			tail, _ := openTail(t, d, 0)
			rows, _, err := readTail(t, tail, results[0].Receipts[0].ID-1)
			if err != nil || len(rows) != 1 {
				t.Errorf("%s: read %d rows, %v", setting, len(rows), err)
				continue
			}
			got := rows[0]
			left := time.Until(got.Expires)
			if got.Channel != sent.Channel || !bytes.Equal(got.Binary, sent.Binary) || got.Headers["h"] != sent.Headers["h"] ||
				got.SentAt.Before(before) || got.SentAt.After(time.Now().Add(time.Minute)) || left < 59*time.Minute || left > time.Hour+time.Minute {
				t.Errorf("%s: sent %+v, read %+v", setting, sent, got)
			}
		}
	}
}
