//go:build !unix

package service

// A readiness is for systems where a connection can be asked for readiness.
type readiness struct{}
