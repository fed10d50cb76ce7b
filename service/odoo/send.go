package odoo

import (
	"context"
	"errors"
	"strings"

	"github.com/postbus/postbus/internal/bus"
	"github.com/postbus/postbus/internal/jsonform"
)

// send is /longpolling/send of 13 and 14: message, any JSON, becomes the payload of a
// message without a type. The request is counted until it is stored.
func (h *Handler) send(ctx context.Context, p params) ([]byte, error) {
	if !h.opts.Send {
		return nil, &exception{kindNotFound, "404 Not Found: /longpolling/send is not served here"}
	}
	if err := p.require("send", "channel", "message"); err != nil {
		return nil, err
	}
	channel := p["channel"]
	if channel[0] != '"' {
		return nil, raise("Exception", "bus.Bus only string channels are allowed.")
	}
	if jsonform.HasLoneSurrogate(channel) {
		return nil, raise("ValueError", "channel: the escape of a lone surrogate")
	}
	_, err := h.core.Send(ctx, []bus.Message{{Channel: text(channel), JSON: string(p["message"])}})
	if invalid := (*bus.InvalidError)(nil); errors.As(err, &invalid) {
		return nil, inSendNames(invalid)
	}
	return nil, err
}

// inSendNames returns e with the names that the parameters have here.
func inSendNames(e *bus.InvalidError) *bus.InvalidError {
	renamed := &bus.InvalidError{Reason: e.Reason}
	for _, v := range e.Violations {
		switch v.Field = strings.TrimPrefix(v.Field, "messages[0]."); v.Field {
		case "json", "messages":
			v.Field = "message"
		}
		renamed.Violations = append(renamed.Violations, v)
	}
	return renamed
}
