package oidc_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
)

// TestLogin goes all the way with a provider: the group decides who gets rooms.
func TestLogin(t *testing.T) {
	for name, o := range map[string]oidctest.Options{
		"claims in the ID token":          {},
		"claims at the userinfo endpoint": {Roles: oidctest.Userinfo},
		"claims in the access token":      {Roles: oidctest.AccessToken},
		"iss in the answer":               {NamesItself: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, o)
			all := providers(school(p))
			got, err := login(t, p, all, "alice")
			if err != nil {
				t.Fatal(err)
			}
			want := account.Person{
				ID: "school:f3b1-alice", Name: "alice", Display: "Alice A.", Email: "alice@example.com",
				Rooms: []string{"class-*"}, Affiliation: auth.Owner, Groups: []string{"teachers"},
			}
			if !reflect.DeepEqual(got.Person, want) {
				t.Errorf("got  %+v\nwant %+v", got.Person, want)
			}
			if got.Subject != "f3b1-alice" || got.SID == "" || got.IDToken == "" || time.Until(got.Expires) <= 0 {
				t.Errorf("subject %q, sid %q, expires %s", got.Subject, got.SID, got.Expires)
			}
			if asked := p.Asked(oidctest.Userinfo); (asked > 0) != (o.Roles != "") {
				t.Errorf("usher asked the userinfo endpoint %d times", asked)
			}
			none, err := login(t, p, all, "bob")
			if !errors.Is(err, oidc.ErrNoRoom) || none.IDToken == "" {
				t.Errorf("a pupil: %v, ID token %q", err, none.IDToken)
			}
		})
	}
}

// TestAlgorithms logs in at providers with each kind of key, in https.
func TestAlgorithms(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		p := start(t, oidctest.Options{TLS: true, Algorithm: algorithm})
		all := oidc.New(oidc.Options{Providers: []oidc.Provider{school(p)}, PublicURL: public, Client: p.Client})
		if _, err := login(t, p, all, "alice"); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if _, _, err := providers(school(p)).Begin(t.Context(), "school"); !errors.Is(err, oidc.ErrUnavailable) ||
			!strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s, by a certificate that nobody vouches for: %v", algorithm, err)
		}
	}
}

// TestRoles logs in by group, realm role and client role, at the places where providers write them.
func TestRoles(t *testing.T) {
	for _, place := range []oidctest.Part{oidctest.IDToken, oidctest.Userinfo, oidctest.AccessToken} {
		p := start(t, oidctest.Options{Roles: place, Algorithm: "ES256"})
		for claim, values := range map[string][2]string{
			"groups":                      {"staff", "teacher"},
			"realm_access.roles":          {"host", "moderate"},
			"resource_access.usher.roles": {"moderate", "view-profile"},
		} {
			for i, want := range []error{nil, oidc.ErrNoRoom} {
				config := school(p)
				config.Rules = []oidc.Rule{{Claim: claim, Value: values[i], Affiliation: auth.Admin, Rooms: []string{"*"}, Tenant: "school"}}
				got, err := login(t, p, providers(config), "alice")
				if !errors.Is(err, want) || want == nil && (got.Person.Affiliation != auth.Admin || got.Person.Rooms[0] != "[school]*") {
					t.Errorf("%s is %s, in %s: %+v, %v", claim, values[i], place, got.Person, err)
				}
			}
		}
	}
}

// watched is a transport that tells what is asked.
type watched func(*http.Request)

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	w(r)
	return http.DefaultTransport.RoundTrip(r)
}

// TestClients logs in as a client with a secret and as a public one: PKCE stands in for the secret. The code is used once, in the way
// that the provider names.
func TestClients(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	p := start(t, oidctest.Options{})
	p.Register(oidctest.Client{ID: "public", RedirectURIs: []string{callback}})
	open := school(p)
	open.ClientID, open.ClientSecret = "public", ""
	wrong := school(p)
	wrong.ClientSecret = "another"
	for name, test := range map[string]struct {
		provider oidc.Provider
		methods  []any
		want     error
		header   bool
	}{
		"secret in the header": {school(p), []any{"client_secret_post", "client_secret_basic"}, nil, true},
		"not said":             {school(p), nil, nil, true},
		"another way":          {school(p), []any{"private_key_jwt"}, nil, true},
		"secret in the body":   {school(p), []any{"client_secret_post"}, nil, false},
		"public":               {open, []any{"client_secret_basic"}, nil, false},
		"wrong secret":         {wrong, []any{"client_secret_basic"}, oidc.ErrRefused, true},
	} {
		p.Change(oidctest.Discovery, func(d map[string]any) {
			if delete(d, "token_endpoint_auth_methods_supported"); test.methods != nil {
				d["token_endpoint_auth_methods_supported"] = test.methods
			}
		})
		var asked, inHeader int
		watch := watched(func(r *http.Request) {
			if r.Method == http.MethodPost {
				asked++
			}
			if _, _, has := r.BasicAuth(); has {
				inHeader++
			}
		})
		all := oidc.New(oidc.Options{
			Providers: []oidc.Provider{test.provider}, PublicURL: public, Client: &http.Client{Transport: watch, Timeout: time.Minute},
		})
		if _, err := login(t, p, all, "alice"); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if asked != 1 || (inHeader == 1) != test.header {
			t.Errorf("%s: the code was used %d times, %d times with the secret in the header", name, asked, inHeader)
		}
	}
}

// TestAnswer changes what the browser brings back.
func TestAnswer(t *testing.T) {
	p := start(t, oidctest.Options{})
	named := start(t, oidctest.Options{NamesItself: true})
	for name, test := range map[string]struct {
		at     *oidctest.Provider
		change func(query url.Values, f *oidc.Flow)
		want   error
	}{
		"as it is":              {p, func(url.Values, *oidc.Flow) {}, nil},
		"another state":         {p, func(q url.Values, _ *oidc.Flow) { q.Set("state", "x") }, oidc.ErrRefused},
		"no state":              {p, func(q url.Values, _ *oidc.Flow) { q.Del("state") }, oidc.ErrRefused},
		"two states":            {p, func(q url.Values, _ *oidc.Flow) { q.Add("state", "x") }, oidc.ErrRefused},
		"no code":               {p, func(q url.Values, _ *oidc.Flow) { q.Del("code") }, oidc.ErrRefused},
		"two codes":             {p, func(q url.Values, _ *oidc.Flow) { q.Add("code", "x") }, oidc.ErrRefused},
		"an invented code":      {p, func(q url.Values, _ *oidc.Flow) { q.Set("code", "x") }, oidc.ErrRefused},
		"empty flow and answer": {p, func(q url.Values, f *oidc.Flow) { q.Set("state", ""); *f = oidc.Flow{Provider: "school"} }, oidc.ErrRefused},
		"another verifier":      {p, func(_ url.Values, f *oidc.Flow) { f.Verifier = strings.Repeat("x", 43) }, oidc.ErrRefused},
		"another nonce":         {p, func(_ url.Values, f *oidc.Flow) { f.Nonce = "x" }, oidc.ErrRefused},
		"no provider":           {p, func(_ url.Values, f *oidc.Flow) { f.Provider = "work" }, oidc.ErrNoProvider},
		"our iss":               {p, func(q url.Values, _ *oidc.Flow) { q.Set("iss", p.Issuer) }, nil},
		"another iss":           {p, func(q url.Values, _ *oidc.Flow) { q.Set("iss", "https://evil.example") }, oidc.ErrRefused},
		"empty iss":             {p, func(q url.Values, _ *oidc.Flow) { q.Set("iss", "") }, oidc.ErrRefused},
		"iss as promised":       {named, func(url.Values, *oidc.Flow) {}, nil},
		"no iss, but promised":  {named, func(q url.Values, _ *oidc.Flow) { q.Del("iss") }, oidc.ErrRefused},
		"denied":                {p, func(q url.Values, _ *oidc.Flow) { q.Set("error", "access_denied") }, oidc.ErrRefused},
		"later":                 {p, func(q url.Values, _ *oidc.Flow) { q.Set("error", "temporarily_unavailable") }, oidc.ErrUnavailable},
		"an error of its own":   {p, func(q url.Values, _ *oidc.Flow) { q.Set("error", "<b>") }, oidc.ErrRefused},
		"an error from elsewhere": {p, func(q url.Values, _ *oidc.Flow) {
			q.Set("error", "server_error")
			q.Set("iss", "https://evil.example")
		}, oidc.ErrRefused},
	} {
		all := providers(school(test.at))
		address, flow := begin(t, all)
		query := test.at.Login(t, address, "alice").Query()
		test.change(query, &flow)
		_, err := all.Finish(t.Context(), flow, query)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "<>") {
			t.Errorf("%s: the error quotes the answer: %v", name, err)
		}
		if test.want == nil {
			if _, err := all.Finish(t.Context(), flow, query); !errors.Is(err, oidc.ErrRefused) {
				t.Errorf("%s: the code came again: %v", name, err)
			}
		}
	}
}

// TestBegin: each login has a state, a nonce and a challenge of its own, and the verifier stays here.
func TestBegin(t *testing.T) {
	p := start(t, oidctest.Options{})
	config := school(p)
	config.Scopes = []string{"groups"}
	all := providers(config)
	seen := make(map[string]bool)
	for range 3 {
		address, flow := begin(t, all)
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		q, sum := u.Query(), sha256.Sum256([]byte(flow.Verifier))
		want := map[string]string{
			"response_type": "code", "client_id": clientID, "redirect_uri": callback, "scope": "openid groups", "state": flow.State,
			"nonce": flow.Nonce, "code_challenge_method": "S256", "code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]),
		}
		for name, value := range want {
			if q.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, q.Get(name), value)
			}
		}
		if len(q) != len(want) || strings.Contains(address, flow.Verifier) {
			t.Errorf("the address is %s", address)
		}
		for _, text := range []string{flow.State, flow.Nonce, flow.Verifier} {
			if len(text) != 43 || seen[text] {
				t.Errorf("%q is short, or came before", text)
			}
			seen[text] = true
		}
	}
	if _, _, err := all.Begin(t.Context(), "work"); !errors.Is(err, oidc.ErrNoProvider) {
		t.Error(err)
	}
}

// TestIDToken changes the claims of a token that is signed as it should be.
func TestIDToken(t *testing.T) {
	now := time.Now().Unix()
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	drop := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	for name, test := range map[string]struct {
		change func(map[string]any)
		good   bool
	}{
		"as it is":              {func(map[string]any) {}, true},
		"another issuer":        {set("iss", "https://evil.example"), false},
		"issuer with a slash":   {set("iss", p.Issuer+"/"), false},
		"no issuer":             {drop("iss"), false},
		"another audience":      {set("aud", "other"), false},
		"empty audience":        {set("aud", []string{}), false},
		"no audience":           {drop("aud"), false},
		"audience as a text":    {set("aud", clientID), true},
		"several audiences":     {set("aud", []string{"other", clientID}), true},
		"several, without azp":  {func(c map[string]any) { c["aud"] = []string{"other", clientID}; delete(c, "azp") }, false},
		"without azp":           {drop("azp"), true},
		"another azp":           {set("azp", "other"), false},
		"azp of a wrong type":   {set("azp", []string{clientID}), false},
		"another nonce":         {set("nonce", "x"), false},
		"no nonce":              {drop("nonce"), false},
		"no sub":                {drop("sub"), false},
		"sub of a wrong type":   {set("sub", 1), false},
		"empty sub":             {set("sub", ""), false},
		"long sub":              {set("sub", strings.Repeat("x", 256)), false},
		"sub in another case":   {set("Sub", "root"), false},
		"another access token":  {set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), false},
		"no at_hash":            {drop("at_hash"), true},
		"no exp":                {drop("exp"), false},
		"exp as a text":         {set("exp", "9999999999"), false},
		"expired":               {set("exp", now-3600), false},
		"no iat":                {drop("iat"), false},
		"of the future":         {set("iat", now+3600), false},
		"good in an hour":       {set("nbf", now+3600), false},
		"good since an hour":    {set("nbf", now-3600), true},
		"nbf of a wrong type":   {set("nbf", true), false},
		"claims are elsewhere":  {set("_claim_names", map[string]string{"groups": "a"}), false},
		"another kind of email": {set("email", []string{"x"}), true},
	} {
		p.Change(oidctest.IDToken, test.change)
		_, err := login(t, p, all, "alice")
		if test.good && err != nil || !test.good && !errors.Is(err, oidc.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClock: clocks may differ by the leeway.
func TestClock(t *testing.T) {
	for name, test := range map[string]struct {
		shift, leeway time.Duration
		good          bool
	}{
		"ahead within the leeway":  {30 * time.Minute, time.Hour, true},
		"behind within the leeway": {-30 * time.Minute, time.Hour, true},
		"ahead":                    {30 * time.Minute, 10 * time.Second, false},
		"behind":                   {-30 * time.Minute, 10 * time.Second, false},
	} {
		p := start(t, oidctest.Options{})
		config := school(p)
		config.Leeway = test.leeway
		p.Shift(test.shift)
		_, err := login(t, p, providers(config), "alice")
		if test.good && err != nil || !test.good && !errors.Is(err, oidc.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// compact returns a token of these parts.
func compact(t *testing.T, header, claims map[string]any, sign func(string) []byte) string {
	t.Helper()
	var parts []string
	for _, part := range []map[string]any{header, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	signed := strings.Join(parts, ".")
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(signed))
}

// TestSignature tries tokens that no key of the provider has signed, or not as it says.
func TestSignature(t *testing.T) {
	t.Parallel()
	p := start(t, oidctest.Options{})
	other := start(t, oidctest.Options{})
	all := providers(school(p))
	if _, err := login(t, p, all, "alice"); err != nil {
		t.Fatal(err)
	}
	claims := p.LogoutClaims(clientID, "alice", "")
	good := p.Sign("logout+jwt", claims)
	if _, err := all.BackChannel(t.Context(), "school", good); err != nil {
		t.Fatal(err)
	}
	byMAC := func(signed string) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(signed))
		return mac.Sum(nil)
	}
	nobody := func(string) []byte { return nil }
	parts := strings.Split(good, ".")
	head := func(change func(map[string]any)) string {
		text, err := base64.RawURLEncoding.DecodeString(parts[0])
		if err != nil {
			t.Fatal(err)
		}
		var h map[string]any
		if err := json.Unmarshal(text, &h); err != nil {
			t.Fatal(err)
		}
		change(h)
		if text, err = json.Marshal(h); err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text) + "." + parts[1] + "." + parts[2]
	}
	for name, token := range map[string]string{
		"empty":            "",
		"dots":             "..",
		"many dots":        strings.Repeat(".", 10<<20),
		"five parts":       good + ".a.b",
		"not base64":       "!." + parts[1] + "." + parts[2],
		"none":             compact(t, map[string]any{"alg": "none"}, claims, nobody),
		"None":             compact(t, map[string]any{"alg": "None"}, claims, nobody),
		"no alg":           compact(t, map[string]any{"typ": "JWT"}, claims, nobody),
		"alg of a number":  compact(t, map[string]any{"alg": 1}, claims, nobody),
		"client secret":    compact(t, map[string]any{"alg": "HS256"}, claims, byMAC),
		"no signature":     parts[0] + "." + parts[1] + ".",
		"other claims":     parts[0] + "." + strings.Split(p.Sign("", p.LogoutClaims(clientID, "bob", "")), ".")[1] + "." + parts[2],
		"another provider": other.Sign("logout+jwt", claims),
		"another header":   head(func(h map[string]any) { h["x"] = 1 }),
		"crit":             head(func(h map[string]any) { h["crit"] = []string{"exp"} }),
		"kid of a number":  head(func(h map[string]any) { h["kid"] = 1 }),
		"alg twice":        base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","Alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		"long":             parts[0] + "." + strings.Repeat("x", 200<<10) + "." + parts[2],
	} {
		out, err := all.BackChannel(t.Context(), "school", token)
		if err == nil || !errors.Is(err, oidc.ErrRefused) && !(name == "another provider" && errors.Is(err, oidc.ErrUnavailable)) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

// TestPinned: the discovery document says by which algorithms the provider signs, and never by one with a shared secret.
func TestPinned(t *testing.T) {
	for name, test := range map[string]struct {
		algorithms any
		want       error
	}{
		"RS256":            {[]string{"ES256", "RS256", "HS256", "none"}, nil},
		"not said":         {nil, nil},
		"another":          {[]string{"ES256"}, oidc.ErrRefused},
		"shared secrets":   {[]string{"HS256", "none"}, oidc.ErrUnavailable},
		"of a wrong type":  {"RS256", oidc.ErrUnavailable},
		"empty":            {[]string{}, oidc.ErrUnavailable},
		"numbers and ours": {[]any{1, "RS256"}, nil},
	} {
		p := start(t, oidctest.Options{})
		p.Change(oidctest.Discovery, func(d map[string]any) {
			if delete(d, "id_token_signing_alg_values_supported"); test.algorithms != nil {
				d["id_token_signing_alg_values_supported"] = test.algorithms
			}
		})
		all := providers(school(p))
		address, flow, err := all.Begin(t.Context(), "school")
		if err == nil {
			_, err = all.Finish(t.Context(), flow, p.Login(t, address, "alice").Query())
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

// TestRotation: a login right after the provider has a new key waits for it.
func TestRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("5 s lie between two fetches of keys")
	}
	t.Parallel()
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	for round := range 2 {
		if _, err := login(t, p, all, "alice"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p.Rotate()
	}
	if asked := p.Asked(oidctest.Keys); asked != 2 {
		t.Errorf("usher asked for the keys %d times", asked)
	}
}

// TestInventedKeys: tokens with invented key ids are no reason to ask for the keys each time.
func TestInventedKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("5 s lie between two fetches of keys")
	}
	t.Parallel()
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			other := oidctest.Start(t, oidctest.Options{}) // each has keys of its own
			if _, err := all.BackChannel(t.Context(), "school", other.Sign("", p.LogoutClaims(clientID, "alice", ""))); err == nil {
				t.Error("the key of another provider counts")
			}
		})
	}
	wait.Wait()
	if asked := p.Asked(oidctest.Keys); asked > 10 { // 5 s lie between two, and a token waits 10 s
		t.Errorf("usher asked for the keys %d times", asked)
	}
}

// TestCrowd sends many logout tokens with invented keys at once. Not all of them wait.
func TestCrowd(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	if _, err := all.BackChannel(t.Context(), "school", p.Sign("", p.LogoutClaims(clientID, "alice", ""))); err != nil {
		t.Fatal(err) // and the keys are just fetched
	}
	const many = 400
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said := make(chan error, many)
	for range many {
		header := map[string]any{"alg": "RS256", "kid": rand.Text()}
		token := compact(t, header, p.LogoutClaims(clientID, "alice", ""), func(string) []byte { return make([]byte, 256) })
		go func() {
			_, err := all.BackChannel(ctx, "school", token)
			said <- err
		}()
	}
	crowded := 0
	for n := range many {
		err := <-said
		if err == nil {
			t.Error("an invented key counts")
		} else if strings.Contains(err.Error(), "too many tokens wait") {
			crowded++
		}
		if n+1 == many-256 {
			stop() // the others wait, or are about to
		}
	}
	if crowded == 0 {
		t.Errorf("%d tokens wait at once", many)
	}
}

// TestUserinfo changes the answer of the userinfo endpoint.
func TestUserinfo(t *testing.T) {
	p := start(t, oidctest.Options{Roles: oidctest.Userinfo})
	all := providers(school(p))
	good := map[string]any{"sub": "f3b1-alice", "groups": []string{"teachers"}}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(good)
		c[name] = value
		return c
	}
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	plain := func(claims map[string]any) http.HandlerFunc {
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return answer(200, "application/json", string(text))
	}
	signed := func(claims map[string]any) http.HandlerFunc {
		return answer(200, "application/jwt; charset=utf-8", p.Sign("", claims))
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"as it is":              {nil, nil},
		"good":                  {plain(good), nil},
		"another person":        {plain(with("sub", "root")), oidc.ErrRefused},
		"nobody":                {plain(map[string]any{"groups": []string{"teachers"}}), oidc.ErrRefused},
		"sub twice":             {answer(200, "application/json", `{"sub":"root","sub":"f3b1-alice","groups":["teachers"]}`), oidc.ErrUnavailable},
		"signed":                {signed(map[string]any{"iss": p.Issuer, "aud": clientID, "sub": "f3b1-alice", "groups": "teachers"}), nil},
		"signed, for another":   {signed(map[string]any{"iss": p.Issuer, "aud": "x", "sub": "f3b1-alice", "groups": "teachers"}), oidc.ErrRefused},
		"signed, of another":    {signed(map[string]any{"iss": p.Issuer, "aud": clientID, "sub": "root", "groups": "teachers"}), oidc.ErrRefused},
		"signature is missing":  {answer(200, "application/jwt", `{"sub":"f3b1-alice","groups":"teachers"}`), oidc.ErrRefused},
		"status":                {answer(500, "application/json", "{}"), oidc.ErrUnavailable},
		"no JSON":               {answer(200, "application/json", "<html>"), oidc.ErrUnavailable},
		"more than usher reads": {answer(200, "application/json", strings.Repeat(" ", 2<<20)), oidc.ErrUnavailable},
	} {
		p.Instead(oidctest.Userinfo, test.answer)
		if _, err := login(t, p, all, "alice"); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	p.Instead(oidctest.Userinfo, nil)
	p.Change(oidctest.Discovery, func(d map[string]any) { delete(d, "userinfo_endpoint") })
	if _, err := login(t, p, providers(school(p)), "alice"); !errors.Is(err, oidc.ErrNoRoom) {
		t.Errorf("without the endpoint: %v", err)
	}
}

// TestAccessToken: claims of access tokens that are somebody else's do not count.
func TestAccessToken(t *testing.T) {
	p := start(t, oidctest.Options{Roles: oidctest.Userinfo})
	p.Change(oidctest.Discovery, func(d map[string]any) { delete(d, "userinfo_endpoint") })
	p.Change(oidctest.IDToken, func(c map[string]any) { delete(c, "at_hash") })
	all := providers(school(p))
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": p.Issuer, "aud": "account", "azp": clientID, "sub": "f3b1-alice", "iat": now, "exp": now + 300, "groups": []string{"/teachers"},
	}
	for name, test := range map[string]struct {
		change func(map[string]any)
		want   error
	}{
		"good":            {func(map[string]any) {}, nil},
		"client_id":       {func(c map[string]any) { delete(c, "azp"); c["client_id"] = clientID }, nil},
		"another client":  {func(c map[string]any) { c["azp"] = "other"; c["client_id"] = clientID }, oidc.ErrNoRoom},
		"no client":       {func(c map[string]any) { delete(c, "azp") }, oidc.ErrNoRoom},
		"another person":  {func(c map[string]any) { c["sub"] = "root" }, oidc.ErrNoRoom},
		"another issuer":  {func(c map[string]any) { c["iss"] = "https://evil.example" }, oidc.ErrNoRoom},
		"expired":         {func(c map[string]any) { c["exp"] = now - 300 }, oidc.ErrNoRoom},
		"not to be read":  {nil, oidc.ErrNoRoom},
		"other groups":    {func(c map[string]any) { c["groups"] = "pupils" }, oidc.ErrNoRoom},
		"at+jwt in typ":   {func(map[string]any) {}, nil},
		"without purpose": {func(c map[string]any) { delete(c, "aud") }, nil},
	} {
		token := "opaque"
		if test.change != nil {
			c := maps.Clone(claims)
			test.change(c)
			token = p.Sign(map[bool]string{true: "at+jwt", false: "JWT"}[name == "at+jwt in typ"], c)
		}
		p.Change(oidctest.Tokens, func(answer map[string]any) { answer["access_token"] = token })
		if _, err := login(t, p, all, "alice"); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

// TestTokenEndpoint changes the answer to the code.
func TestTokenEndpoint(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"refused":      {400, `{"error":"invalid_grant"}`, oidc.ErrRefused},
		"unknown":      {401, `{"error":"<b>"}`, oidc.ErrRefused},
		"too often":    {429, `{}`, oidc.ErrUnavailable},
		"broken":       {500, `{"error":"server_error"}`, oidc.ErrUnavailable},
		"no JSON":      {200, `<html>`, oidc.ErrUnavailable},
		"no ID token":  {200, `{"access_token":"x","token_type":"Bearer"}`, oidc.ErrRefused},
		"of a number":  {200, `{"access_token":"x","token_type":"Bearer","id_token":1}`, oidc.ErrRefused},
		"no access":    {200, `{"id_token":"x"}`, oidc.ErrUnavailable},
		"very long":    {200, `{"x":"` + strings.Repeat("x", 2<<20), oidc.ErrUnavailable},
		"sent on":      {307, ``, oidc.ErrUnavailable},
		"sent on by 2": {302, ``, oidc.ErrUnavailable},
	} {
		var asked sync.Map
		elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.URL.Path, true) }))
		p.Instead(oidctest.Tokens, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if test.status/100 == 3 {
				w.Header().Set("Location", elsewhere.URL+"/stolen")
			}
			w.WriteHeader(test.status)
			_, _ = w.Write([]byte(test.body))
		})
		_, err := login(t, p, all, "alice")
		elsewhere.Close()
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), "<") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if _, was := asked.Load("/stolen"); was {
			t.Errorf("%s: usher sent the code elsewhere", name)
		}
	}
}

// TestManyAtOnce: many log in at the same moment. The provider is discovered once.
func TestManyAtOnce(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			if _, err := login(t, p, all, "alice"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if discovered, keys := p.Asked(oidctest.Discovery), p.Asked(oidctest.Keys); discovered != 1 || keys != 1 {
		t.Errorf("usher asked for the document %d times, and for the keys %d times", discovered, keys)
	}
}
