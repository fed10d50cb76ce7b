//go:build unix

package bare

import (
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postbus/postbus/bench/internal/rig"
)

// A webBurst is an encoded response, in each form.
type webBurst struct {
	last    int64
	answer  []byte
	events  []byte
	message *websocket.PreparedMessage
}

// A webPress prepares bursts: copies of one notification, each with the next id.
type webPress struct {
	id     int64
	behind string // of a notification, behind its id
}

func newWebPress() webPress {
	return webPress{
		id: firstID,
		behind: `,"channel":"` + Channel + `","type":"","payload":` + rig.Payload() +
			`,"headers":{},"sent_at":"` + time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00") + `"}`,
	}
}

// burst returns the next count notifications.
func (p *webPress) burst(count int) (b webBurst, err error) {
	text := []byte(`{"notifications":[`)
	for i := range count {
		p.id++
		if i > 0 {
			text = append(text, ',')
		}
		n := fmt.Appendf(nil, `{"id":%d%s`, p.id, p.behind)
		text = append(text, n...)
		b.events = fmt.Appendf(b.events, "id: %d\ndata: %s\n\n", p.id, n)
	}
	b.last = p.id
	text = fmt.Appendf(text, `],"last":%d}`, b.last)
	b.message, err = websocket.NewPreparedMessage(websocket.TextMessage, text)
	b.answer = fmt.Appendf(nil, "%s\n", text)
	return b, err
}
