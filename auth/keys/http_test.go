package keys_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
)

// By default, keys come over real connections, and none stays open.
func TestTransport(t *testing.T) {
	keys.Unhurried(t)
	set := ecSet(t, "a")
	var cache keys.Cache
	ask := func(address string) error {
		t.Helper()
		source, err := cache.JWKS(address, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.Keys(t.Context(), "a")
		return err
	}
	good := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !r.Close {
			t.Error("the connection is kept")
		}
		_, _ = w.Write(set)
	})
	if err := ask(good.URL); err != nil {
		t.Error(err)
	}
	// 100 MB in 100 kB. Members of a gzip file follow each other (RFC 1952 §2.2), so it takes no time to make.
	var megabyte bytes.Buffer
	z := gzip.NewWriter(&megabyte)
	if _, err := z.Write(make([]byte, 1<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	bomb := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bytes.Repeat(megabyte.Bytes(), 100))
	})
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(set)
	})
	encrypted := httptest.NewUnstartedServer(good.Config.Handler)
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	encrypted.StartTLS()
	t.Cleanup(encrypted.Close)
	closed := newTrap(t)
	closed.close()
	for name, test := range map[string]struct{ address, want string }{
		"bomb":               {bomb.URL, "more than 1024 kB"},
		"cut off":            {cut.URL, "cut off or not HTTP"},
		"unknown authority":  {encrypted.URL, "certificate"},
		"http where https":   {strings.Replace(good.URL, "http:", "https:", 1), "answered in http"},
		"https where http":   {strings.Replace(encrypted.URL, "https:", "http:", 1), "HTTP status 400"},
		"nobody listens":     {"http://" + closed.Addr().String() + "/?key=secret", "connection refused"},
		"not HTTP":           {raw(t, "SSH-2.0-secret\r\n\r\n"), "not HTTP"},
		"status not HTTP":    {raw(t, "HTTP/1.1 secret\r\n\r\n"), "not HTTP"},
		"header not HTTP":    {raw(t, "HTTP/1.1 200 OK\r\nsecret\r\n\r\n"), "not HTTP"},
		"header long":        {raw(t, "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("secret", 1<<15)+"\r\n\r\n"), "not HTTP"},
		"redirect to no URL": {raw(t, "HTTP/1.1 302 OK\r\nLocation: http://%zz.secret\r\n\r\n"), "not HTTP"},
		"redirect nowhere":   {raw(t, "HTTP/1.1 302 OK\r\n\r\n"), "HTTP status 302"},
		"nothing":            {raw(t, ""), "not HTTP"},
		"no content":         {raw(t, "HTTP/1.1 204 No Content\r\n\r\n"), "HTTP status 204"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ask(test.address)
			shown, _, _ := strings.Cut(test.address, "?")
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), shown) {
				t.Fatalf("got %v; want an error with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the answer or the query: %v", err)
			}
		})
	}
}

// A server that sends a byte now and then keeps nobody waiting longer than 5 s.
func TestDrip(t *testing.T) {
	for name, begin := range map[string]string{
		"header": "HTTP/1.1 200 OK\r\nA: ", "body": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dripping sync.WaitGroup
				defer dripping.Wait()
				transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					dripping.Go(func() {
						defer theirs.Close()
						_, _ = http.ReadRequest(bufio.NewReader(theirs))
						_, err := io.WriteString(theirs, begin)
						for err == nil {
							pass(time.Second)
							_, err = io.WriteString(theirs, " ")
						}
					})
					return ours, nil
				}}
				cache := &keys.Cache{Transport: transport}
				source, err := cache.JWKS("http://127.0.0.1/", 0)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				fails(t, source, "a", "no whole answer within 5s")
				if waited := time.Since(start); waited != 5*time.Second {
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

func TestRedirects(t *testing.T) {
	keys.Unhurried(t)
	set := ecSet(t, "a")
	forbidden := newTrap(t)
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) { redirectTo(w, r, set) })
	encrypted := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { redirectTo(w, r, set) }))
	defer encrypted.Close()
	self := encrypted.URL
	through := func(addresses ...string) string {
		to := ""
		for i := len(addresses) - 1; i >= 0; i-- {
			if to != "" {
				to = "/?to=" + url.QueryEscape(to)
			}
			to = addresses[i] + to
		}
		return to
	}
	for name, test := range map[string]struct{ address, want string }{
		"none":                       {through(self), ""},
		"three":                      {through(self, self, self, self), ""},
		"four":                       {through(self, self, self, self, self), "more than 3 times"},
		"http to http":               {through(plain.URL, plain.URL), ""},
		"http to https":              {through(plain.URL, self), ""},
		"https to this machine":      {through(self, "http://"+forbidden.Addr().String()), "from https to http"},
		"by way of https":            {through(plain.URL, self, "http://"+forbidden.Addr().String()), "from https to http"},
		"https to link-local":        {through(self, "http://169.254.169.254/file"), `redirected to "http://169.254.169.254": want https`},
		"http to link-local":         {through(plain.URL, "http://169.254.169.254/file"), "want https://"},
		"http elsewhere":             {through(plain.URL, "http://keys.example.com"), "want https://"},
		"file":                       {through(self, "file:///etc/passwd"), "want https://"},
		"password":                   {through(self, "https://me:pw@"+forbidden.Addr().String()), "user name or password"},
		"long":                       {through(self, "http://"+strings.Repeat("secret", 1000)), "want https://"},
		"the same again and again":   {self + "/?loop=1", "more than 3 times"},
		"this machine by other name": {through(self, "http://localhost.:1/"), "want https://"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &keys.Cache{Transport: encrypted.Client().Transport}
			source, err := cache.JWKS(test.address, 0)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				has(t, source, "a", 1)
				return
			}
			fails(t, source, "a", test.want)
			if _, err := source.Keys(t.Context(), "a"); len(err.Error()) > 500 || strings.Contains(err.Error(), "pw") {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := forbidden.close(); n > 0 {
		t.Errorf("%d connections to where nobody may go", n)
	}
}

// redirectTo answers with the set, or goes to where the query says.
func redirectTo(w http.ResponseWriter, r *http.Request, set []byte) {
	switch to := r.URL.Query().Get("to"); {
	case r.Header.Get("Referer") != "":
		http.Error(w, "the query went along", http.StatusTeapot)
	case r.URL.Query().Get("loop") != "":
		http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
	case to != "":
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	default:
		_, _ = w.Write(set)
	}
}

// usher ignores what a token says about the place of its key (RFC 7515 §4.1.2 to §4.1.6), whatever kind of keys the issuer has.
func TestTokensNameNoKeys(t *testing.T) {
	keys.Unhurried(t)
	const kid = "k1"
	forbidden := newTrap(t)
	trapped := "http://" + forbidden.Addr().String() + "/keys"
	public := readKey(t, "rsa2048.pem")
	set := jwkSet(t, jwkOf(t, rsaKey(t).Public(), member{"kid": kid}))
	var asked atomic.Int64
	published := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case r.URL.Path == "/set":
			_, _ = w.Write(set)
		case r.URL.Path == "/map":
			text, _ := json.Marshal(map[string]string{kid: string(public)})
			_, _ = w.Write(text)
		case strings.HasPrefix(r.URL.Path, "/asap/"):
			_, _ = w.Write(public)
		default:
			http.NotFound(w, r)
		}
	})
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}

	mine, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certified := strings.Split(string(certificate(t, mine)), "\n")
	secret := []byte(strings.Repeat("s", 32))
	sign := func(alg jwa.SignatureAlgorithm, key any, header map[string]any) string {
		t.Helper()
		header["alg"] = alg
		head, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		payload := fmt.Sprintf(`{"iss":"my_app","aud":"a","sub":"*","room":"*","exp":%d}`, time.Now().Add(time.Hour).Unix())
		signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		signer, err := jws.NewSigner(alg)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := signer.Sign([]byte(signed), key)
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	headers := map[string]map[string]any{
		"jku": {"jku": trapped},
		"x5u": {"x5u": trapped},
		"jwk": {"jwk": jwkOf(t, mine.Public(), member{"kid": kid, "x5u": trapped})},
		"x5c": {"x5c": []string{strings.Join(certified[1:len(certified)-2], "")}},
		"kid": {"kid": trapped},
	}

	var cache keys.Cache
	source := func(s auth.KeySource, err error) auth.KeySource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	remote := func(s keys.Remote, err error) auth.KeySource {
		t.Helper()
		return source(s, err)
	}
	for name, issuer := range map[string]struct {
		keys  auth.KeySource
		alg   jwa.SignatureAlgorithm
		right any // the key that the issuer signs with
		wrong any
	}{
		"secret":         {source(keys.Secrets(secret)), jwa.HS256, secret, []byte(strings.Repeat("w", 32))},
		"PEM file":       {source(keys.PEMFiles(keyFile("rsa2048.pem"))), jwa.RS256, rsaKey(t), mine},
		"JWKS file":      {source(keys.JWKSFile(file)), jwa.RS256, rsaKey(t), mine},
		"JWKS URL":       {remote(cache.JWKS(published.URL+"/set", 0)), jwa.RS256, rsaKey(t), mine},
		"cache_keys_url": {remote(cache.KeyMap(published.URL+"/map", 0)), jwa.RS256, rsaKey(t), mine},
		"ASAP server":    {remote(cache.ASAP(published.URL+"/asap", 0)), jwa.RS256, rsaKey(t), mine},
	} {
		t.Run(name, func(t *testing.T) {
			a := auth.New(auth.Policy{
				Services: []string{"conference.meet.example.com"},
				VHosts: map[string]auth.VHost{"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{{
					Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"}, Keys: issuer.keys,
					Algorithms: []jwa.SignatureAlgorithm{jwa.HS256, jwa.RS256}, // a careless operator
				}}}},
			})
			decide := func(compact string) auth.Decision {
				return a.Authorize(t.Context(), auth.Request{
					At: time.Now(), From: jid.MustParse("u@meet.example.com/x"), Room: "standup@conference.meet.example.com", Token: compact,
				}, nil)
			}
			refused := func(what, compact string) {
				t.Helper()
				d := decide(compact)
				// A kid that is not in a document fetched just now may be a new one.
				soon := what == "kid" && (name == "JWKS URL" || name == "cache_keys_url") && d.Reason == auth.ReasonKeysUnavailable
				if d.Verdict != auth.Deny || d.Reason != auth.ReasonTokenSignature && !soon {
					t.Errorf("%s: %s %s, %v", what, d.Verdict, d.Reason, d.Err)
				}
			}
			if d := decide(sign(issuer.alg, issuer.right, map[string]any{"kid": kid, "jku": trapped})); d.Verdict != auth.Allow {
				t.Fatalf("the issuer's own token: %s, %v", d.Reason, d.Err)
			}
			for field, header := range headers {
				if header["kid"] == nil {
					header["kid"] = kid
				}
				refused(field, sign(issuer.alg, issuer.wrong, header))
			}
			// A public key is no secret: HS256 comes from Secrets alone.
			der, _ := issuer.right.(crypto.Signer)
			if der == nil {
				return
			}
			for what, known := range map[string][]byte{"PEM": public, "JWK Set": set, "modulus": rsaKey(t).N.Bytes()} {
				refused("HS256 by "+what, sign(jwa.HS256, known, map[string]any{"kid": kid}))
			}
		})
	}
	if n := forbidden.close(); n > 0 {
		t.Errorf("%d connections to where tokens point", n)
	}
	// The set and the map once each, the ASAP server once for each kid.
	if n := asked.Load(); n != 4 {
		t.Errorf("the issuers' servers were asked %d times, want 4", n)
	}
}
