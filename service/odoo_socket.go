package service

import "context"

// TakeRoom implements odoo.Core.
func (c odooCore) TakeRoom(bytes int64) bool { return c.requestBytes.take(bytes) }

// GiveRoom implements odoo.Core.
func (c odooCore) GiveRoom(bytes int64) { c.requestBytes.give(bytes) }

// WaitSockets waits until every socket has ended, behind Drain: a server that shuts down
// does not know their connections. Error: ctx's.
func (s *Service) WaitSockets(ctx context.Context) error { return s.odoo.Wait(ctx) }
