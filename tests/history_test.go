package tests

import (
	"context"
	"fmt"
	neturl "net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	postbusv1 "github.com/postbus/postbus/gen/postbus/v1"
	"github.com/postbus/postbus/internal/postgres"
	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
)

// restored makes a copy of the database at url, as a backup has it, and returns its URL.
// Nobody may be connected.
func restored(t *testing.T, url string) string {
	t.Helper()
	parsed, err := neturl.Parse(url)
	must(t, err)
	name := parsed.Path[1:]
	admin := sql(t, pgtest.Server(t).URL())
	copied := name + "_copy"
	until(t, "everyone has left", func() bool {
		return ask[int64](t, admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name) == 0
	})
	do(t, admin, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", copied, name))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, pgtest.Server(t).URL())
		must(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", copied))
		must(t, err)
	})
	parsed.Path = "/" + copied
	return parsed.String()
}

// G4: what a restore lost is told as HISTORY on every transport, ids are never given
// twice, and reading goes on with what there is.
func TestRestoreTellsWhatItLost(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	var survived, lost int64
	for _, text := range numbered("kept", 7) {
		survived = n.send(t, message("orders", text))[0].GetId()
	}
	n.stop()
	backup := restored(t, url)
	n = startNode(t, url, nodeOptions{})
	for _, text := range numbered("lost", 3) {
		lost = n.send(t, message("orders", text))[0].GetId()
	}
	n.stop()

	n = startNode(t, backup, nodeOptions{})
	fresh := n.send(t, message("orders", "fresh"))[0].GetId()
	const first = int64(1) << 32
	if fresh < first || fresh%first > 32 {
		t.Fatalf("the first id of the new history is %d, want a multiple of 2^32", fresh)
	}
	conn := sql(t, backup)
	until(t, "the floor is recorded", func() bool { return ask[int64](t, conn, "SELECT floor FROM postbus.state") >= fresh })
	bound := fresh/first*first - 1

	for how, a := range map[string]answer{
		"gRPC": n.pollRPC(t, lost, "orders", 100), "JSON": n.pollJSON(t, lost, "orders", "&timeout=50s"), "SQL": pollSQL(t, conn, lost, "orders", 100),
	} {
		if a.Gap == nil || a.Gap.Reason != "REASON_HISTORY" || a.Gap.Until != bound || a.Gap.After > lost {
			t.Errorf("%s: gap %+v, want HISTORY up to %d", how, a.Gap, bound)
		}
		if fmt.Sprint(a.texts()) != "[fresh]" {
			t.Errorf("%s: %q, want what came after the restore", how, a.texts())
		}
	}
	stream := n.subscribe(t, lost, "orders")
	stream.expect("fresh")
	if len(stream.gaps) != 1 || stream.gaps[0].GetReason() != postbusv1.Gap_REASON_HISTORY || stream.gaps[0].GetUntil() != bound {
		t.Errorf("stream: gaps %v, want HISTORY up to %d", stream.gaps, bound)
	}
	// Who had not got that far reads what survived first.
	stream = n.subscribe(t, survived-1, "orders")
	stream.expect("kept6", "fresh")
	if len(stream.gaps) != 1 || stream.gaps[0].GetReason() != postbusv1.Gap_REASON_HISTORY || stream.gaps[0].GetAfter() < survived {
		t.Errorf("stream from before the loss: gaps %v, want HISTORY after %d", stream.gaps, survived)
	}
}

// G4: a live node whose database went back beneath it moves to a new history, and tells
// its open streams.
func TestLiveNodeTellsItsStreamsThatTheDatabaseWentBack(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	reader := n.subscribe(t, -1, "orders")
	conn := sql(t, url)
	for _, text := range numbered("m", 10) {
		n.send(t, message("orders", text))
	}
	ids := reader.expect(numbered("m", 10)...)
	n.asleep(t)
	// What a file-level restore leaves: the table and its sequence of some time ago.
	do(t, conn, fmt.Sprintf("DELETE FROM postbus.bus WHERE id > %d", ids[6]),
		fmt.Sprintf("UPDATE postbus.state SET floor = least(floor, %d)", ids[6]),
		fmt.Sprintf("SELECT setval('postbus.bus_id_seq', %d)", ids[6]),
		fmt.Sprintf("SELECT pg_terminate_backend(%d)", sleepers(t, conn)[0]))
	until(t, "the node has come back", func() bool { return n.dispatcher.State().Reconnects > 0 && n.dispatcher.State().Connected })
	id := n.send(t, message("orders", "fresh"))[0].GetId()
	reader.expect("fresh")
	if len(reader.gaps) != 1 || reader.gaps[0].GetReason() != postbusv1.Gap_REASON_HISTORY || reader.gaps[0].GetUntil() >= id {
		t.Errorf("gaps %v, want one HISTORY below %d", reader.gaps, id)
	}
}

// `postbus migrate --new-history` on a database with cursors above its sequence: AHEAD
// before, HISTORY after.
func TestNewHistoryByHandTurnsAheadIntoHistory(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	n := startNode(t, url, nodeOptions{})
	id := n.send(t, message("orders", "one"))[0].GetId()
	if a := n.pollJSON(t, id+10, "orders", "&timeout=0s"); a.Gap == nil || a.Gap.Reason != "REASON_AHEAD" {
		t.Fatalf("a cursor above the sequence: %+v, want AHEAD", a)
	}
	n.stop()
	first, err := postgres.NewHistory(short(t), url)
	must(t, err)
	n = startNode(t, url, nodeOptions{})
	a := n.pollJSON(t, id+10, "orders", "&timeout=0s")
	if a.Gap == nil || a.Gap.Reason != "REASON_HISTORY" || a.Gap.Until != int64(first)-1 {
		t.Fatalf("after the new history: %+v, gap %+v, want HISTORY up to %d", a, a.Gap, first-1)
	}
}
