//go:build unix

package embedded

import (
	"errors"
	"io"
	"os"
	"sync"
)

// logLimit is where the log file is set aside and a new one begun. One predecessor is
// kept, so that the log takes at most twice this.
const logLimit = 8 << 20

// A logFile is a file that never grows past logLimit bytes.
type logFile struct {
	path string
	file *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.open()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size = file, info.Size()
	return nil
}

// Write appends to the log. It is called by one goroutine, the server's log reader.
func (l *logFile) Write(text []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(text)) > logLimit {
		if err := l.turn(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(text)
	l.size += int64(n)
	return n, err
}

func (l *logFile) turn() error {
	if err := l.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return err
	}
	return l.open()
}

// Close closes the file.
func (l *logFile) Close() error { return l.file.Close() }

// A tail remembers the end of what passes through it, for the error of a server that
// does not start, and passes it on.
type tail struct {
	next io.Writer

	mu  sync.Mutex // guards end
	end []byte
}

const tailLimit = 2 << 10

// Write never fails: a full disk must not keep the server from writing its log, which
// would stop it.
func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	t.end = append(t.end, text...)
	t.end = t.end[max(0, len(t.end)-tailLimit):]
	t.mu.Unlock()
	_, _ = t.next.Write(text)
	return len(text), nil
}

func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.end...)
}
