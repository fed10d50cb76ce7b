package odoo

import "context"

// What the protocol has for users, of whom there are none: every caller is the public one.

// imStatus is /longpolling/im_status, which is for users.
func imStatus(context.Context, params) ([]byte, error) {
	return nil, &exception{kindSessionExpired, "Session expired"}
}

// updatePresence is /websocket/update_bus_presence, which changes nothing.
func updatePresence(context.Context, params) ([]byte, error) { return []byte(`{}`), nil }

// onClosed is /websocket/on_closed: nobody has gone offline.
func onClosed(context.Context, params) ([]byte, error) { return nil, nil }
