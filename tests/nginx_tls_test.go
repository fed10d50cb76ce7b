package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/postgres/embedded/pgtest"
	"github.com/postbus/postbus/tests/process"
)

// TestChromiumBehindNginx has a real browser read through nginx as docs/operations.md shows it,
// with TLS and HTTP/2, while the program is killed and started again: G2, G3.
func TestChromiumBehindNginx(t *testing.T) {
	t.Parallel()
	needs(t, "node", "chromium")
	front, web := vacant(t), vacant(t)
	certificate := selfSigned(t)
	startNginx(t, replaced(t, nginxBlocks(t, "../docs/operations.md", 1)[0],
		"listen 80;", "listen "+front+" ssl http2; ssl_certificate "+certificate+"; ssl_certificate_key "+certificate+";",
		"listen 81 http2;", "listen "+vacant(t)+" http2;",
		"http://127.0.0.1:8072", "http://"+web))
	scripts := exec.Command("node", "--no-warnings", "--test-force-exit", "--test", "tls.test.js")
	scripts.Dir = "browser"
	scripts.Env = append(process.Environment(), "POSTBUS_ORIGIN=https://"+front)
	scripts.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	(&stage{url: pgtest.Database(t), flags: []string{"--http-addr", web}}).play(t, scripts)
}

// selfSigned returns a file with a key and a certificate of its own.
func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	file := filepath.Join(t.TempDir(), "nginx.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})...)
	must(t, os.WriteFile(file, text, 0o600))
	return file
}
