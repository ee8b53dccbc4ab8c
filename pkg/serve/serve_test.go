package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time that a loaded machine may take for something that takes none.
const patience = time.Minute

// running is Run in a goroutine. The test ends it.
type running struct {
	log  *observer.ObservedLogs
	stop func()
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	core, log := observer.New(zapcore.InfoLevel)
	o.Log = zap.New(core)
	if o.Name == "" {
		o.Name = "the test"
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx, o) }()
	r := &running{log, sync.OnceFunc(func() { cancel(); <-done })}
	t.Cleanup(r.stop)
	return r
}

// eventually waits until f reports true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("within %s: %s does not happen", patience, what)
		}
	}
}

// address returns where the server is, once it says so.
func (r *running) address(t *testing.T) (address string) {
	t.Helper()
	eventually(t, "a line with the address", func() bool {
		for _, line := range r.log.FilterMessageSnippet("usher answers the test at ").All() {
			address = line.ContextMap()["listen"].(string)
		}
		return address != ""
	})
	return address
}

func (r *running) warned(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the warning "+want, func() bool {
		for _, line := range r.log.FilterMessageSnippet("; usher tries again").All() {
			if err, _ := line.ContextMap()["error"].(string); strings.Contains(err, want) {
				return true
			}
		}
		return false
	})
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address[strings.LastIndex(address, "/")+1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// A port that is taken is told of once, and taken when it is free. A stream ends with the server, an answer under way is given.
func TestTakenPort(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	here, answers := make(chan struct{}), make(chan struct{})
	r := run(t, Options{Listen: other.Addr().String(), Key: "api.listen", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here <- struct{}{}
		if r.URL.Path == "/stream" {
			<-r.Context().Done()
			return
		}
		<-answers
		_, _ = io.WriteString(w, "the answer")
	})})
	r.warned(t, "address already in use")
	said := r.log.All()[0].ContextMap()
	if hint, _ := said["hint"].(string); said["key"] != "api.listen" || !strings.Contains(hint, "another program listens there") {
		t.Errorf("the warning names the key %v, and what to do: %v", said["key"], said["hint"])
	}
	other.Close()
	at := r.address(t)
	if n := r.log.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
	stream, call := dial(t, at), dial(t, at)
	send(t, stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	<-here
	send(t, call, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-here
	go r.stop()
	eventually(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp", call.RemoteAddr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(answers)
	if got, err := io.ReadAll(call); err != nil || !bytes.Contains(got, []byte("the answer")) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := io.ReadAll(stream); err != nil {
		t.Error(err)
	}
}

// Clients that send nothing, half of their headers or half of a body are hung up on, and so are those who do not read.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("waits as long as slow clients may take")
	}
	t.Parallel()
	at := run(t, Options{Listen: "127.0.0.1:0", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			r.Body.Close() // as huma does
			w.WriteHeader(http.StatusRequestTimeout)
		}
	})}).address(t)
	var all sync.WaitGroup
	for _, sends := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"} {
		c := dial(t, at)
		send(t, c, sends)
		all.Go(func() {
			if got, err := io.ReadAll(c); err != nil || bytes.Contains(got, []byte(" 200 ")) {
				t.Errorf("%q: %s, %v", sends, got, err)
			}
		})
	}
	all.Wait()
}

// A client that does not read holds an answer up for a while only, unless its handler has set a deadline of its own.
func TestUnreadAnswer(t *testing.T) {
	near, far := net.Pipe() // nothing is written until somebody reads
	defer far.Close()
	defer near.Close()
	c := &conn{Conn: near, closed: func() {}}
	_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	spy := &deadlines{Conn: near}
	c.Conn = spy
	go func() { _, _ = io.Copy(io.Discard, far) }()
	if _, err := c.Write([]byte("x")); err != nil || len(spy.set) != 1 || time.Until(spy.set[0]) > takenWithin {
		t.Errorf("%v, deadlines %v", err, spy.set)
	}
}

// deadlines notes the deadlines that are set.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return d.Conn.SetWriteDeadline(t)
}

// A request with a body may last longer than its body may take: net/http does not take its client for gone.
func TestBodyHasBeenRead(t *testing.T) {
	const within = 20 * time.Millisecond
	lasted := make(chan error)
	h := timed(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(10 * within):
		}
		lasted <- r.Context().Err()
	}), within)
	c := dial(t, run(t, Options{Listen: "127.0.0.1:0", Handler: h}).address(t))
	send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if err := <-lasted; err != nil {
		t.Error(err)
	}
}

// Clients that ask once and stay connected keep nobody out.
func TestIdleClients(t *testing.T) {
	const most = 16
	at := run(t, Options{Listen: "127.0.0.1:0", Handler: says("hello"), MaxConnections: most}).address(t)
	began := time.Now()
	for range most + 1 {
		c := dial(t, at)
		_ = c.SetDeadline(began.Add(idleFor * 3 / 4))
		send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
	}
}

// from is a listener of which the test names the clients' addresses.
type from struct {
	net.Listener
	next chan string
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return at{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(<-f.next), 1))}, nil
}

type at struct {
	net.Conn
	remote net.Addr
}

func (a at) RemoteAddr() net.Addr { return a.remote }

// Half-sent headers of one network do not fill the server: others, proxies and this machine are served meanwhile, and the network itself
// when one of its connections has ended.
func TestOneNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 32
	f := from{l, make(chan string, 1)}
	b := newBound(f, Options{MaxConnections: most, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	s := &http.Server{Handler: b.brief(says("hello"))}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(b) }()
	t.Cleanup(func() { s.Close(); <-ended })
	connect := func(remote string) net.Conn {
		f.next <- remote
		return dial(t, l.Addr().String())
	}
	served := func(c net.Conn) bool {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return false
		}
		got, _ := io.ReadAll(c)
		return bytes.Contains(got, []byte(" 200 "))
	}
	var half []net.Conn
	for n := range most / perNetwork {
		c := connect("2001:db8::" + string(rune('1'+n)))
		send(t, c, "GET / HTTP/1.1\r\nX-Half: ")
		half = append(half, c)
	}
	for remote, want := range map[string]bool{
		"2001:db8::ffff": false, "2001:db8:0:1::1": true, "198.51.100.1": true, "127.0.0.1": true, "::1": true, "192.0.2.7": true, "::ffff:192.0.2.7": true,
	} {
		if got := served(connect(remote)); got != want {
			t.Errorf("%s is served: %t", remote, got)
		}
	}
	for range most / 2 { // a proxy has more than the share of a network
		send(t, connect("192.0.2.7"), "GET / HTTP/1.1\r\nX-Half: ")
	}
	if !served(connect("192.0.2.7")) {
		t.Error("a proxy is not served")
	}
	half[0].Close()
	eventually(t, "the network is served again", func() bool { return served(connect("2001:db8::ffff")) })
	s.Close()
	eventually(t, "all connections are forgotten", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.all == 0 && len(b.of) == 0 })
}

// A socket that is removed is made again, and one of a killed process is replaced; one that somebody listens on is theirs, unless Others
// says otherwise.
func TestSocket(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "x.sock")
	first := run(t, Options{Listen: "unix:" + path, Handler: says("one")})
	if at := first.address(t); at != "unix:"+path {
		t.Errorf("the log says %q", at)
	}
	second := run(t, Options{Listen: "unix:" + path, Handler: says("two")})
	second.warned(t, "address already in use")
	if got := ask(t, path); got != "one" {
		t.Errorf("answered by %q", got)
	}
	expected := errors.New("as it should be")
	third := run(t, Options{Listen: "unix:" + path, Handler: says("three"), Others: func(context.Context) error { return expected },
		Expected: func(err error) bool { return errors.Is(err, expected) }})
	third.warned(t, expected.Error())
	if n := third.log.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("%d warnings", n)
	}
	third.stop()
	second.stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is made again", func() bool { _, err := os.Lstat(path); return err == nil })
	if got := ask(t, path); got != "one" {
		t.Errorf("answered by %q", got)
	}
	taker := run(t, Options{Listen: "unix:" + path, Handler: says("taker"), Others: func(context.Context) error { return nil }})
	taker.address(t)
	if got := ask(t, path); got != "taker" {
		t.Errorf("answered by %q", got)
	}
	first.warned(t, errPlace.Error())
	first.stop()
	if got := ask(t, path); got != "taker" { // the first one removes no socket that is another's
		t.Errorf("answered by %q", got)
	}
	taker.stop()
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// ask asks on a socket.
func ask(t *testing.T, path string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, "GET / HTTP/1.0\r\n\r\n")
	got, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, _ := io.ReadAll(got.Body)
	return string(body)
}

// certify makes the files of a certificate for a name.
func certify(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if file == "" {
			continue
		}
		made := file + ".new"
		if err := os.WriteFile(made, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(made, file); err != nil {
			t.Fatal(err)
		}
	}
}

// TLS begins when the files are there, takes a renewed certificate without a restart, keeps the old one while the files do not fit, and
// speaks no version before 1.2.
func TestTLS(t *testing.T) {
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	r := run(t, Options{Listen: "127.0.0.1:0", Handler: says("hello"), CertFile: cert, KeyFile: key})
	r.warned(t, "cert.pem")
	certify(t, cert, key, "one")
	address := r.address(t)
	if !strings.HasPrefix(address, "https://") {
		t.Errorf("the log says %s", address)
	}
	name := func(version uint16) (string, error) {
		c, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	is := func(want string) {
		t.Helper()
		if got, err := name(0); err != nil || got != want {
			t.Errorf("the certificate is that of %q, %v; want %q", got, err, want)
		}
	}
	is("one")
	if _, err := name(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if got, err := name(tls.VersionTLS12); err != nil || got != "one" {
		t.Errorf("TLS 1.2: %q, %v", got, err)
	}
	certify(t, cert, "", "half") // its key is not there yet
	is("one")
	is("one")
	if n := r.log.FilterMessage("the certificate that was read before stays in use").Len(); n != 1 {
		t.Errorf("it is said %d times that the certificate does not fit", n)
	}
	certify(t, cert, key, "two")
	is("two")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	is("two")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	got, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if body, err := io.ReadAll(got.Body); err != nil || string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
	if n := r.log.FilterMessageSnippet("TLS handshake").Len(); n != 0 {
		t.Errorf("%d lines about handshakes of strangers", n)
	}
}

// TestStreams: one connection has not more than maxStreams requests under way, so that the bound of connections is one of requests, too.
func TestStreams(t *testing.T) {
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	certify(t, cert, key, "one")
	const many = maxStreams + 8
	came, on := make(chan string, many), make(chan struct{})
	r := run(t, Options{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			came <- r.RemoteAddr
			<-on
		}
	})})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	get := func(path string) {
		got, err := client.Get(r.address(t) + path)
		if err != nil || got.ProtoMajor != 2 {
			t.Errorf("%v, %v", got, err)
			return
		}
		got.Body.Close()
	}
	get("/") // the connection is there, and what the server says of it is known
	var all sync.WaitGroup
	for range many {
		all.Go(func() { get("/wait") })
	}
	of := make(map[string]int)
	for range many {
		of[<-came]++
	}
	close(on)
	all.Wait()
	for from, n := range of {
		if n > maxStreams {
			t.Errorf("%d requests at once on the connection of %s", n, from)
		}
	}
}

func TestRemote(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:5::/48")}
	for _, tt := range []struct {
		connection string
		proxies    []netip.Prefix
		forwarded  []string
		want       string
	}{
		{"192.0.2.1:4711", proxies, nil, "192.0.2.1"},
		{"192.0.2.1:4711", proxies, []string{"203.0.113.9"}, "192.0.2.1"},                  // no proxy: it may say what it likes
		{"127.0.0.1:4711", nil, []string{"203.0.113.9"}, "127.0.0.1"},                      // nobody is trusted
		{"127.0.0.1:4711", proxies, []string{"203.0.113.9"}, "203.0.113.9"},                //
		{"127.0.0.1:4711", proxies, nil, "127.0.0.1"},                                      //
		{"127.0.0.1:4711", proxies, []string{"198.51.100.66, 203.0.113.9"}, "203.0.113.9"}, // the client wrote the first one
		{"127.0.0.1:4711", proxies, []string{"198.51.100.66", "203.0.113.9,10.1.1.1"}, "203.0.113.9"},
		{"127.0.0.1:4711", proxies, []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"}, // all are proxies: somebody on one of them
		{"127.0.0.1:4711", proxies, []string{"203.0.113.9, unknown"}, "127.0.0.1"},
		{"127.0.0.1:4711", proxies, []string{"203.0.113.9, unknown, 10.2.2.2"}, "10.2.2.2"},
		{"127.0.0.1:4711", proxies, []string{""}, "127.0.0.1"},
		{"127.0.0.1:4711", proxies, []string{"203.0.113.9:5123"}, "203.0.113.9"},
		{"127.0.0.1:4711", proxies, []string{"[2001:db8::7]:5123"}, "2001:db8::7"},
		{"127.0.0.1:4711", proxies, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"[::ffff:127.0.0.1]:4711", proxies, []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"[2001:db8:5::1]:4711", proxies, []string{"fe80::1%eth0"}, "fe80::1"},
		{"@", nil, []string{"203.0.113.9"}, "invalid IP"},
		{"@", proxies, []string{"203.0.113.9"}, "203.0.113.9"},
		{"@", proxies, nil, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: tt.connection, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
		if got := Remote(r, tt.proxies).String(); got != tt.want {
			t.Errorf("%s, forwarded %q: %s, want %s", tt.connection, tt.forwarded, got, tt.want)
		}
	}
}

// However much a client writes before it, the address that the first trusted proxy saw counts.
func TestRemoteIsNotForged(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	rapid.Check(t, func(t *rapid.T) {
		forged := rapid.SliceOf(rapid.OneOf(rapid.String(), rapid.Just("10.1.2.3"), rapid.Just("203.0.113.9"), rapid.Just(","))).Draw(t, "forged")
		hops := rapid.SliceOf(rapid.SampledFrom([]string{"10.1.1.1", "10.9.9.9"})).Draw(t, "hops")
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": append(forged, append([]string{"192.0.2.1"}, hops...)...)}}
		if got := Remote(r, proxies).String(); got != "192.0.2.1" {
			t.Fatalf("%s", got)
		}
	})
}

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "invalid Prefix",
	} {
		a, _ := netip.ParseAddr(remote)
		if got := Network(a).String(); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
