package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// errorDomain marks an ErrorInfo as the server's own; a proxy's errors have none.
	errorDomain = "postbus"

	// maxRetryInfo bounds how long a server may ask to be left alone.
	maxRetryInfo = time.Minute
)

// A delay is the wait before the next try: full jitter below a bound that doubles,
// so that the clients of a server that came back do not come all at once.
type delay struct {
	first, most time.Duration
	bound       time.Duration // of the last wait; 0: none yet
}

// after returns how long to wait after err. What the server asks for by RetryInfo
// is the least; the jitter comes on top.
func (d *delay) after(err error) time.Duration {
	d.bound = min(max(2*d.bound, d.first), d.most)
	return askedDelay(err) + rand.N(d.bound) + 1
}

// reset makes the next wait a first one.
func (d *delay) reset() { d.bound = 0 }

// pause waits for wait or until ctx is done, and reports whether it waited.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// askedDelay returns the RetryInfo of err, bounded; 0: none.
func askedDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay().IsValid() {
			return min(max(info.GetRetryDelay().AsDuration(), 0), maxRetryInfo)
		}
	}
	return 0
}

// fromServer reports whether err carries the server's own ErrorInfo.
func fromServer(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return true
		}
	}
	return false
}

// curable reports whether trying again may help against err. What is not listed
// is: a proxy on the way may answer nearly anything for a while.
func curable(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated,
		codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange:
		return false
	}
	return true
}
