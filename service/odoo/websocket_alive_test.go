package odoo

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/dispatch"
)

func TestOdooSocketPingsAQuietClientAndDropsOneThatDoesNotAnswer(t *testing.T) {
	inMemory(t, quietBus{}, func(t *testing.T, _ *Handler, client *websocket.Conn) {
		began, pings := time.Now(), []time.Duration(nil)
		answers := true
		client.SetPingHandler(func(text string) error {
			pings = append(pings, time.Since(began))
			if text != "" {
				t.Errorf("a ping says %q", text)
			}
			began = time.Now()
			if !answers || len(pings) == 4 {
				return nil
			}
			return client.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Minute))
		})
		if code := ended(client); code != 0 {
			t.Errorf("a client that is silent is told %d", code)
		}
		if after := time.Since(began); after != pongTime {
			t.Errorf("dropped %v after the ping, want %v", after, pongTime)
		}
		if len(pings) != 4 {
			t.Fatalf("%d pings", len(pings))
		}
		for _, after := range pings {
			if after < quietTime || after > quietTime+quietSpread {
				t.Errorf("pinged after %v", after)
			}
		}
	})
}

func TestOdooSocketPingsNobodyWhoSpeaks(t *testing.T) {
	inMemory(t, quietBus{}, func(t *testing.T, _ *Handler, client *websocket.Conn) {
		pings := 0
		client.SetPingHandler(func(string) error { pings++; return nil })
		go ended(client)
		for range 20 {
			time.Sleep(30 * time.Second)
			subscribeTo(t, client, `["a"]`)
		}
		synctest.Wait()
		if pings > 0 {
			t.Errorf("%d pings", pings)
		}
	})
}

func TestOdooSocketLivesAnHourOrABitMore(t *testing.T) {
	inMemory(t, quietBus{}, func(t *testing.T, _ *Handler, client *websocket.Conn) {
		began := time.Now()
		subscribeTo(t, client, `["a"]`)
		if code := ended(client); code != 4002 {
			t.Errorf("ended with %d, want 4002", code)
		}
		if lived := time.Since(began); lived < lifeTime || lived > lifeTime+lifeSpread {
			t.Errorf("lived %v", lived)
		}
	})
}

// TestOdooSocketDropsAStalledClient: the ping waits behind what the client does not read.
func TestOdooSocketDropsAStalledClient(t *testing.T) {
	large := dispatch.Batch{Notifications: []*bus.Notification{{ID: 1, JSON: `"` + strings.Repeat("x", 1<<20) + `"`}}, Last: 1}
	inMemory(t, quietBus{give: large}, func(t *testing.T, h *Handler, client *websocket.Conn) {
		began := time.Now()
		subscribeTo(t, client, `["a"]`)
		subscribeTo(t, client, `["b"]`) // its turn never comes
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := time.Since(began); after < quietTime+pongTime || after > quietTime+quietSpread+pongTime {
			t.Errorf("dropped after %v", after)
		}
	})
}

func TestOdooSocketDropsAClientWhoseMessageNeverComesWhole(t *testing.T) {
	inMemory(t, quietBus{}, func(t *testing.T, h *Handler, client *websocket.Conn) {
		began := time.Now()
		// A masked text frame of 100 bytes, of which one comes.
		if _, err := client.NetConn().Write([]byte{0x81, 0x80 | 100, 0, 0, 0, 0, '{'}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(client.NetConn()); err != nil {
			t.Fatal(err)
		}
		if after := time.Since(began); after != messageTime {
			t.Errorf("dropped after %v, want %v", after, messageTime)
		}
	})
}

func TestOdooSocketHoldsClientsToARate(t *testing.T) {
	for name, frame := range map[string]func(client *websocket.Conn) error{
		"text": func(client *websocket.Conn) error { return client.WriteMessage(websocket.TextMessage, []byte("{}")) },
		"ping": func(client *websocket.Conn) error {
			return client.WriteControl(websocket.PingMessage, []byte("x"), time.Time{})
		},
		"pong": func(client *websocket.Conn) error {
			return client.WriteControl(websocket.PongMessage, nil, time.Time{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, quietBus{}, func(t *testing.T, _ *Handler, client *websocket.Conn) {
				codes := make(chan int, 1)
				go func() { codes <- ended(client) }()
				for range 5 { // ten at once, again and again
					for range rateBurst {
						if err := frame(client); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(rateBurst * rateDelay)
				}
				select {
				case code := <-codes:
					t.Fatalf("ended with %d within the rate", code)
				default:
				}
				for range rateBurst {
					if err := frame(client); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(rateBurst*rateDelay - time.Millisecond)
				_ = frame(client)
				if code := <-codes; code != websocket.CloseTryAgainLater {
					t.Errorf("the eleventh frame in 2 s: ended with %d, want 1013", code)
				}
			})
		})
	}
}
