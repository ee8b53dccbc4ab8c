package keys_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets time pass on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// trap is a server on this machine that nobody may connect to.
type trap struct {
	net.Listener
	connections atomic.Int64
	done        chan struct{}
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &trap{Listener: listener, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			connection, err := l.Accept()
			if err != nil {
				return
			}
			l.connections.Add(1)
			connection.Close()
		}
	}()
	return l
}

// close ends the trap, and returns how often somebody connected.
func (l *trap) close() int64 {
	l.Close()
	<-l.done
	return l.connections.Load()
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// raw serves one answer that net/http would not write, and returns the address.
func raw(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = http.ReadRequest(bufio.NewReader(connection))
		_, _ = io.WriteString(connection, answer)
	}()
	return "http://" + listener.Addr().String()
}

// member is one JWK; nil as a value takes a member away.
type member map[string]any

// jwkOf returns the JWK of a key, with these members changed.
func jwkOf(t testing.TB, key any, change member) member {
	t.Helper()
	made, err := jwk.FromRaw(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var m member
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range change {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

func jwkSet(t testing.TB, members ...member) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func newEd25519(t testing.TB) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func encode(b ...byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// keyFile returns the path of a file of testdata/keys.
var (
	forRSA = []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512}
	es256  = []jwa.SignatureAlgorithm{jwa.ES256}
	es384  = []jwa.SignatureAlgorithm{jwa.ES384}
	es512  = []jwa.SignatureAlgorithm{jwa.ES512}
	eddsa  = []jwa.SignatureAlgorithm{jwa.EdDSA}
)

func keyFile(name string) string {
	return filepath.Join("..", "..", "testdata", "keys", name)
}

func readKey(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(keyFile(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// must returns what an encoder of crypto/x509 made.
func must(t *testing.T) func([]byte, error) []byte {
	return func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
}

func inPEM(name string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: name, Bytes: der})
}

func newEC(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	signer, _, err := keys.ParsePrivate(readKey(t, "rsa2048.key"))
	if err != nil {
		t.Fatal(err)
	}
	return signer.(*rsa.PrivateKey)
}

func certificate(t *testing.T, key crypto.Signer) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)} // long over: no matter
	return inPEM("CERTIFICATE", must(t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}

// server is a key server inside the test's process. It answers at once, so that the clock of synctest runs.
type server struct {
	mu      sync.Mutex
	status  int
	header  http.Header
	body    []byte
	err     error         // instead of an answer
	hang    chan struct{} // before an answer, if not nil
	asked   atomic.Int64
	waiting atomic.Int64
}

// goesOn lets a server answer that hangs, once everybody waits for it, and waits until they have their answers.
func (s *server) goesOn(all *sync.WaitGroup) {
	synctest.Wait()
	close(s.hang)
	all.Wait()
}

// publishes changes the answer of the server.
func (s *server) publishes(status int, body []byte, header ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.err, s.header = status, body, nil, http.Header{}
	for i := 0; i < len(header); i += 2 {
		s.header.Add(header[i], header[i+1])
	}
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang != nil {
		s.waiting.Add(1)
		defer s.waiting.Add(-1)
		select {
		case <-s.hang:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	return &http.Response{
		StatusCode: s.status, Header: s.header, Body: io.NopCloser(strings.NewReader(string(s.body))), Request: r,
	}, nil
}

const address = "https://keys.example.com/set"

func remote(t testing.TB, transport http.RoundTripper, maxStale time.Duration) keys.Remote {
	t.Helper()
	cache := &keys.Cache{Transport: transport}
	source, err := cache.JWKS(address, maxStale)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// published returns a server that publishes a set, and the source that asks it.
func published(t testing.TB, maxStale time.Duration, set []byte, header ...string) (*server, keys.Remote) {
	t.Helper()
	s := &server{}
	s.publishes(200, set, header...)
	return s, remote(t, s, maxStale)
}

// ecSet returns a JWK Set with one key for each kid.
func ecSet(t testing.TB, kids ...string) []byte {
	t.Helper()
	var members []member
	for _, kid := range kids {
		members = append(members, jwkOf(t, newEC(t, elliptic.P256()).Public(), member{"kid": kid}))
	}
	return jwkSet(t, members...)
}

// has asks the source, and fails the test unless it has that many keys for the kid.
func has(t testing.TB, source auth.KeySource, kid string, want int) {
	t.Helper()
	got, err := source.Keys(t.Context(), kid)
	if err != nil || len(got) != want {
		t.Errorf("kid %q: got %d keys, %v; want %d", kid, len(got), err, want)
	}
}

func fails(t testing.TB, source auth.KeySource, kid, want string) {
	t.Helper()
	got, err := source.Keys(t.Context(), kid)
	if err == nil || len(got) != 0 || !strings.Contains(err.Error(), want) {
		t.Errorf("kid %q: got %d keys, %v; want an error with %q", kid, len(got), err, want)
	}
}

func (s *server) wasAsked(t testing.TB, want int64) {
	t.Helper()
	if got := s.asked.Load(); got != want {
		t.Errorf("asked %d times, want %d", got, want)
	}
}

// asap is a key server of Jitsi's kind.
type asap struct {
	server
	keys map[string][]byte // by path
}

func (a *asap) publishes(base, kid string, pem []byte) {
	a.keys[fmt.Sprintf("%s/%x.pem", base, sha256.Sum256([]byte(kid)))] = pem
}

func (a *asap) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	if a.status, a.body = 404, nil; a.keys[r.URL.Path] != nil {
		a.status, a.body = 200, a.keys[r.URL.Path]
	}
	a.mu.Unlock()
	return a.server.RoundTrip(r)
}

func newASAP(t testing.TB) (*asap, keys.Remote) {
	t.Helper()
	a := &asap{keys: map[string][]byte{}}
	a.header = http.Header{}
	cache := &keys.Cache{Transport: a}
	source, err := cache.ASAP("https://keys.example.com/base/", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a, source
}

// flood lets strangers send tokens with invented kids until stop is called, each stranger one token after the other and without a
// pause.
func flood(t *testing.T, source auth.KeySource, strangers int) (stop func() (refused int64)) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var refused atomic.Int64
	for g := range strangers {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				keys, err := source.Keys(ctx, fmt.Sprint("invented ", g, " ", i))
				switch {
				case len(keys) > 0:
					t.Error("got a key")
				case err != nil && ctx.Err() == nil:
					refused.Add(1)
					if !strings.Contains(err.Error(), "too many unknown key ids") {
						t.Errorf("got %v", err)
					}
					pass(time.Second) // a refused client asks again
				}
			}
		})
	}
	return func() int64 { cancel(); all.Wait(); return refused.Load() }
}

type failing struct{}

func (failing) Keys(context.Context, string) ([]auth.Key, error) { return nil, errors.New("failed") }
func (failing) Counts(string) bool                               { return false }

// weak returns an RSA key that is too short, and a key of a type that signs nothing.
func weak(t *testing.T) (*rsa.PrivateKey, *ecdh.PrivateKey) {
	t.Helper()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return small, x25519
}
