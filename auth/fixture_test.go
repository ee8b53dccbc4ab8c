package auth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// checkAll is rapid.Check for a property that shows something only if its cases reach all of these outcomes. It goes on until they do: in
// one run of it, few cases may come to a rare one.
func checkAll(t *testing.T, outcomes map[string]int, reached []string, property func(*rapid.T)) {
	t.Helper()
	missing := func(o string) bool { return outcomes[o] == 0 }
	for range 20 {
		rapid.Check(t, property)
		if t.Failed() || !slices.ContainsFunc(reached, missing) {
			return
		}
	}
	t.Errorf("the cases reach %v, and not all of %v", outcomes, reached)
}

func readAll(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	now    = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	secret = []byte("a secret for tests, long enough!")
)

const service = "conference.meet.example.com"

const (
	machine  = "0123456789abcdef0123456789abcdef"
	breakout = "breakout.meet.example.com"
	sid      = "a0c1-session-id"
)

func issuer(t testing.TB) auth.Issuer {
	t.Helper()
	source, err := keys.Secrets(secret)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Issuer{
		Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"},
		Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Keys: source,
		RequireRoom: true, RequireExp: true, DomainVerification: true, Leeway: 10 * time.Second,
	}
}

// policy returns the policy of the tables' rows; some rows change it.
func policy(t testing.TB) auth.Policy {
	return auth.Policy{
		Services: []string{service},
		VHosts: map[string]auth.VHost{
			"meet.example.com":     {Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{issuer(t)}},
			"guest.example.com":    {Kind: auth.KindGuest},
			"trusted.example.com":  {Kind: auth.KindTrusted},
			"recorder.example.com": {Kind: auth.KindService},
		},
	}
}

// good returns claims with nothing wrong.
func good() token.Claims {
	return token.Claims{
		Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup",
		Expires: now.Add(time.Hour), User: token.User{ID: "u1", Affiliation: "member"},
	}
}

func mint(t testing.TB, change func(*token.Claims)) string {
	t.Helper()
	c := good()
	return tokentest.Mint(t, secret, c, change)
}

func looking(s auth.RoomState) auth.Look {
	return func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) { return s, nil }
}

var (
	noRoom     = auth.RoomState{}
	noHost     = auth.RoomState{Exists: true}
	hostInside = auth.RoomState{Exists: true, HostPresent: true}
)

// decided returns the decision, and checks what is true of all decisions.
func decided(t *testing.T, a *auth.Authorizer, req auth.Request, state auth.RoomState) auth.Decision {
	t.Helper()
	asked := 0
	look := func(_ context.Context, as auth.Request, room auth.Room) (auth.RoomState, error) {
		if asked++; !reflect.DeepEqual(as, req) || room.JID.String() == "" {
			t.Errorf("asked about %v for %v", room, as)
		}
		return state, nil
	}
	d := a.Authorize(t.Context(), req, look)
	if asked > 1 {
		t.Errorf("the room was asked %d times", asked)
	}

	// A second decision may come from memory, and is the same. So is that of an explanation.
	again := a.Authorize(t.Context(), req, look)
	explained, steps := a.Explain(t.Context(), req, look)
	for _, other := range []auth.Decision{again, explained} {
		if other.Err = d.Err; !reflect.DeepEqual(other, d) { // each decision has errors of its own
			t.Errorf("a second time: %+v, first: %+v", other, d)
		}
	}
	if len(steps) == 0 {
		t.Fatal("an explanation without steps")
	}
	if last := steps[len(steps)-1]; last.OK != (d.Verdict == auth.Allow) {
		t.Errorf("the last step is %+v, the verdict %s", last, d.Verdict)
	}
	for _, s := range steps[:len(steps)-1] {
		if !s.OK {
			t.Errorf("a step that is not the last failed: %+v", s)
		}
	}
	// The log gets neither the token nor anything as good as a token.
	for _, confided := range []string{req.Token, req.SessionID, req.MachineUID} {
		if d.Err != nil && confided != "" && strings.Contains(d.Err.Error(), confided) {
			t.Errorf("the error quotes what was confided: %v", d.Err)
		}
	}
	if d.Verdict != auth.Allow && (d.Affiliation != auth.None || d.MayCreate || d.NeedsHost || d.Breakout || d.StartLobby || d.SessionID != "" || d.Session != nil ||
		d.OneTime || d.FirstHost || d.Reuse != "" || d.ReuseOf != "" || !d.Ends.IsZero() || !d.RemoveAt.IsZero()) {
		t.Errorf("a refusal that gives something: %+v", d)
	}
	return d
}

func mapsAffiliation(t *testing.T) func(*auth.Issuer) {
	c := tokentest.Claim(t, "", map[string]string{"chair": "admin"})
	return func(i *auth.Issuer) { i.Claims.Affiliation = c }
}

func ofItsOwn(a auth.Affiliation) func(*auth.Issuer) {
	return func(i *auth.Issuer) { i.DefaultAffiliation = a }
}

func nothing(*token.Claims)       {}
func owner(c *token.Claims)       { c.User.Affiliation = "owner" }
func jitsi(i *auth.Issuer)        { i.Audiences = []string{"jitsi"} }
func noDomain(i *auth.Issuer)     { i.DomainVerification = false }
func allowEmpty(v *auth.VHost)    { v.AllowEmptyToken = true }
func defaultMember(v *auth.VHost) { v.DefaultAffiliation = auth.Member }
func membersWait(p *auth.Policy)  { p.WaitForHost = auth.MembersWait }
func nobodyWaits(p *auth.Policy)  { p.WaitForHost = auth.NobodyWaits }
func guestRooms(p *auth.Policy)   { p.GuestRooms = []string{"open-*"} }
func or(s, byDefault string) string {
	if s == "" {
		return byDefault
	}
	return s
}

func affiliation(a string) func(*token.Claims) {
	return func(c *token.Claims) { c.User.Affiliation = a }
}

// origin is the origin of secret.
var origin = func() string {
	source, _ := keys.Secrets(secret)
	all, _ := source.Keys(context.Background(), "")
	return all[0].Origin
}()

// source is a key source that a test controls.
type source struct {
	keys  []auth.Key
	err   error
	asked *int
}

func (s source) Counts(origin string) bool {
	return slices.ContainsFunc(s.keys, func(k auth.Key) bool { return k.Origin == origin })
}

func (s source) Keys(context.Context, string) ([]auth.Key, error) {
	if s.asked != nil {
		*s.asked++
	}
	return slices.Clone(s.keys), s.err
}

func asking(vhost, compact string) auth.Request {
	return auth.Request{
		At: now, From: jid.MustParse("someone@" + vhost + "/phone"), Room: "standup@" + service,
		Token: compact, MachineUID: "0123456789abcdef0123456789abcdef",
	}
}

// signed returns a token of any payload: "EXP" becomes an end in an hour.
func signed(t testing.TB, alg jwa.SignatureAlgorithm, key []byte, payload string) string {
	t.Helper()
	payload = strings.Replace(payload, "EXP", fmt.Sprintf(`"aud":"jitsi","exp":%d`, now.Add(time.Hour).Unix()), 1)
	signer, err := jws.NewSigner(alg)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(part []byte) string { return base64.RawURLEncoding.EncodeToString(part) }
	text := encode([]byte(`{"alg":"`+alg.String()+`"}`)) + "." + encode([]byte(payload))
	signature, err := signer.Sign([]byte(text), key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

func outcome(d auth.Decision) string {
	if d.Verdict == auth.Allow {
		return "allow " + string(d.Affiliation)
	}
	return d.Verdict.String() + " " + string(d.Reason)
}

// explained returns the decision about a token on meet.example.com, and its steps.
func explained(t *testing.T, p auth.Policy, token string) (auth.Decision, []auth.Step) {
	t.Helper()
	return auth.New(p).Explain(t.Context(), asking("meet.example.com", token), looking(noRoom))
}

// store has sessions by their ids, or an error.
type store struct {
	live map[string]auth.Session
	err  error
}

func (s store) Session(_ context.Context, id string) (auth.Session, error) {
	if live, ok := s.live[id]; ok || s.err != nil {
		return live, s.err
	}
	return auth.Session{}, auth.ErrNoSession
}

// kept returns the session of good claims.
func kept() auth.Session {
	return auth.Session{
		Machine: machine, VHost: "meet.example.com", Issuer: "my_app",
		Room: "standup", Subject: "meet.example.com", Affiliation: auth.Owner, Identity: "u1",
		Token: auth.TokenRef{Issuer: "my_app", ID: "j1", Key: origin}, Expires: now.Add(time.Hour),
		Proof: auth.Proof{VHost: "meet.example.com", Issuer: "my_app", ID: "j1", Subject: "meet.example.com", User: "u1", Token: "fingerprint"},
	}
}

// proofOf returns the proof of a token of my_app on meet.example.com.
func proofOf(c token.Claims, compact string) auth.Proof {
	sum := sha256.Sum256([]byte(compact))
	return auth.Proof{
		VHost: "meet.example.com", Issuer: "my_app", ID: c.ID, Subject: c.Subject, User: c.User.ID,
		Token: base64.RawURLEncoding.EncodeToString(sum[:]),
	}
}

// password turns a session into that of a trusted user.
func password(s *auth.Session) {
	*s = auth.Session{
		Machine: machine, VHost: "trusted.example.com", Room: "standup", Subject: service,
		Affiliation: auth.Owner, Identity: "t@trusted.example.com", Expires: now.Add(time.Hour),
		Proof: auth.Proof{VHost: "trusted.example.com", Account: "t@trusted.example.com"},
	}
}

func member(s *auth.Session) { s.Affiliation = auth.Member }

func with(d auth.Decision, change func(*auth.Decision)) auth.Decision {
	change(&d)
	return d
}

func tomorrow(s *auth.Session) { s.Expires = now.Add(24 * time.Hour) }

func noLobby(p *auth.Policy) { p.Lobby = false }
