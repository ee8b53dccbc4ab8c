package component

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// stage is a mode with rooms that exist in a test only. Who is let in is inside when the test says so.
type stage struct {
	mode
	t     *testing.T
	clock time.Time
	store *cut
	rules []auth.Rule
	c     *Component // the usher that plays on it

	mu      sync.Mutex
	inside  map[string]map[string]bool // by room and person; true for a host
	said    []string
	ended   []string
	asked   int // how often a room was asked for its state
	broken  error
	passive bool // the usher is not the active one
}

const stagedRoom = "standup@conference.meet.example.com"

var stageSecret = []byte("a secret for tests, long enough!")

func newStage(t *testing.T, rules ...auth.Rule) *stage {
	t.Helper()
	s := &stage{t: t, clock: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC), inside: map[string]map[string]bool{}, rules: rules}
	s.store = &cut{Store: store.Memory(store.Options{Now: s.now})}
	s.begins()
	return s
}

func (s *stage) now() time.Time { return s.clock }

func (s *stage) policy() *auth.Authorizer {
	source, err := keys.Secrets(stageSecret)
	if err != nil {
		s.t.Fatal(err)
	}
	return auth.New(auth.Policy{
		Services: []string{"conference.meet.example.com"}, Rules: s.rules,
		VHosts: map[string]auth.VHost{
			"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Member, Issuers: []auth.Issuer{{
				Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"}, Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Keys: source,
			}}},
			"guest.meet.example.com": {Kind: auth.KindGuest},
		},
	})
}

// begins has the next usher play, with what the store has of the last one.
func (s *stage) begins() {
	s.t.Helper()
	c, err := New(Options{
		Domain: ours, Services: []jid.JID{theRoom.Domain()}, Log: zap.NewNop(), MembersOnly: true, Store: s.store, Now: s.now, Authorizer: s.policy(),
		Holds: func() bool { return !s.passive },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mode, c.mode, c.conferences.rooms, s.c = c.mode, s, s, c
	if _, err := c.restore(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// reloads has other rules hold.
func (s *stage) reloads(rules ...auth.Rule) {
	s.rules = rules
	s.c.Use(s.policy(), []jid.JID{theRoom.Domain()})
}

func (s *stage) Restore([]*muc.Grant) {}

func (s *stage) State(_ context.Context, room jid.JID) (exists, host bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	for _, is := range s.inside[room.String()] {
		host = host || is
	}
	return s.inside[room.String()] != nil, host, s.broken
}

func (s *stage) End(_ context.Context, room jid.JID, reason string) error {
	s.mu.Lock()
	if s.broken != nil {
		defer s.mu.Unlock()
		return s.broken
	}
	people := s.inside[room.String()]
	delete(s.inside, room.String())
	s.ended = append(s.ended, reason)
	s.mu.Unlock()
	for who := range people {
		s.c.ledger.Ended(room, jid.MustParse(who))
	}
	s.c.roomEnded(room)
	return nil
}

func (s *stage) Say(room, who jid.JID, text string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !who.Equal(jid.JID{}) || len(s.inside[room.String()]) == 0 {
		return false, nil
	}
	s.said = append(s.said, text)
	return true, nil
}

func (s *stage) look(ctx context.Context, req auth.Request, room auth.Room) (r auth.RoomState, err error) {
	r.Exists, r.HostPresent, err = s.State(ctx, room.JID)
	return s.c.conferences.state(req, room, r), err
}

func (s *stage) apply(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	s.mu.Lock()
	broken := s.broken
	if s.inside[d.Room.JID.String()] == nil {
		if !d.MayCreate {
			s.mu.Unlock()
			return d.Waiting(auth.ReasonHostAbsent), nil
		}
		s.inside[d.Room.JID.String()] = map[string]bool{}
	}
	s.mu.Unlock()
	if broken != nil {
		return d.Denied(auth.ReasonRoomUnavailable, broken), nil
	}
	err := s.c.ledger.Granted(ctx, &muc.Grant{Room: d.Room.JID, Who: r.from.Bare(), Affiliation: string(d.Affiliation), At: s.clock, By: r.by}, nil)
	if err != nil {
		return d.Denied(auth.ReasonStoreUnavailable, err), nil
	}
	return d, nil
}

// asks has somebody ask to enter, and returns the affiliation that they get, or the reason why they get none. A token is minted for
// people of meet.example.com.
func (s *stage) asks(who, machine string, change ...func(*token.Claims)) string {
	s.t.Helper()
	r := &request{from: jid.MustParse(who + "/r"), conf: focus.Conference{Room: stagedRoom, MachineUID: machine}}
	if r.from.Domainpart() == "meet.example.com" {
		r.conf.Token = tokentest.Mint(s.t, stageSecret, token.Claims{
			Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "*", Expires: s.clock.Add(24 * time.Hour),
		}, func(c *token.Claims) {
			for _, change := range change {
				change(c)
			}
		})
	}
	d := s.c.decide(s.t.Context(), r)
	if d.Verdict == auth.Allow {
		d, _ = s.c.letIn(s.t.Context(), r, d)
	}
	if d.Verdict == auth.Allow {
		return string(d.Affiliation)
	}
	return string(d.Reason)
}

func asHost(c *token.Claims) { c.User.Affiliation = "owner" }

// joins has somebody enter who was let in.
func (s *stage) joins(who string, host bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside[stagedRoom][who] = host
}

// enters has somebody ask and enter.
func (s *stage) enters(who string, change ...func(*token.Claims)) {
	s.t.Helper()
	got := s.asks(who, "", change...)
	if got != "owner" && got != "member" {
		s.t.Fatalf("%s is told %s", who, got)
	}
	s.joins(who, got == "owner")
}

// leaves has somebody leave, or never come. The room ends with the last one.
func (s *stage) leaves(who string) {
	s.mu.Lock()
	room := s.inside[stagedRoom]
	delete(room, who)
	if len(room) == 0 {
		delete(s.inside, stagedRoom)
	}
	s.mu.Unlock()
	s.c.ledger.Ended(theRoom, jid.MustParse(who))
	if len(room) == 0 {
		s.c.roomEnded(theRoom)
	}
}

// passes has time pass, second by second.
func (s *stage) passes(d time.Duration) {
	for range d / time.Second {
		s.clock = s.clock.Add(time.Second)
		s.c.conferences.tick(s.t.Context())
	}
}

// skips has time pass at once.
func (s *stage) skips(d time.Duration) {
	s.clock = s.clock.Add(d)
	s.c.conferences.tick(s.t.Context())
}

// want fails the test unless that was said, or was read when rooms ended.
func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// records are how many records are left of conferences.
func (s *stage) records() (n int) {
	s.t.Helper()
	for _, err := range s.store.All(s.t.Context(), store.KindRoom) {
		if err != nil {
			s.t.Fatal(err)
		}
		n++
	}
	return n
}

const (
	host1, host2   = "host1@meet.example.com", "host2@meet.example.com"
	mem1, mem2     = "member1@meet.example.com", "member2@meet.example.com"
	guest1, guest2 = "guest1@guest.meet.example.com", "guest2@guest.meet.example.com"

	overText, longestText = "The time of this conference is over.", "This conference has reached its longest duration."
	leftText              = "The host has left, and the conference has ended."
)

// A conference lasts as long as its rule says, from the first admission on. It does not matter who comes and goes, and which usher looks after it.
// People are told five minutes before. Then the next conference may begin.
func TestConferenceDuration(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxDuration: 2 * time.Hour})
	s.enters(host1, asHost)
	s.skips(time.Hour)
	s.enters(host2, asHost)
	s.leaves(host1)
	s.begins()
	s.skips(55*time.Minute - time.Second)
	want(t, "said early", s.said)
	s.passes(3 * time.Second)
	s.begins()
	s.passes(4 * time.Minute)
	want(t, "said", s.said, "This conference ends in 5 minutes.")
	want(t, "ended early", s.ended)
	s.passes(time.Minute)
	want(t, "ended", s.ended, longestText)
	s.passes(time.Second)
	if n := s.records(); n != 0 {
		t.Errorf("%d records are left", n)
	}
	s.enters(host1, asHost)
	s.skips(2*time.Hour - time.Second)
	want(t, "ended too early", s.ended, longestText)
	s.passes(time.Second)
	want(t, "ended again", s.ended, longestText, longestText)
}

// While a room cannot be ended, nobody new comes into a conference that is over, and it is tried again.
func TestConferenceOver(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxDuration: time.Hour})
	s.enters(host1, asHost)
	s.broken = errors.New("no answer")
	s.skips(time.Hour)
	if got := s.asks(host2, "", asHost); got != string(auth.ReasonRoomUnavailable) {
		t.Error(got)
	}
	s.broken = nil
	if got := s.asks(host2, "", asHost); got != string(auth.ReasonRoomUnavailable) {
		t.Error(got)
	}
	s.passes(conferenceAgain)
	want(t, "ended", s.ended, longestText)
	s.enters(host2, asHost)
}

// What a conference depends on is written down when usher stops.
func TestConferenceSaved(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", OnHostLeft: auth.LeftEnd, HostGrace: time.Minute})
	s.enters(host1, asHost)
	s.enters(mem1)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	s.c.conferences.run(stopped) // sees the host
	s.leaves(host1)
	s.clock = s.clock.Add(10 * time.Second)
	s.c.conferences.run(stopped) // misses the host
	s.begins()
	s.skips(50 * time.Second)
	want(t, "ended early", s.ended)
	s.skips(10 * time.Second)
	want(t, "ended", s.ended, leftText)
}

// An usher that is not the active one ends nothing.
func TestConferencePassive(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxDuration: time.Hour})
	s.enters(host1, asHost)
	s.passive = true
	s.skips(2 * time.Hour)
	want(t, "said", s.said)
	want(t, "ended", s.ended)
	s.passive = false
	s.passes(time.Second)
	want(t, "ended", s.ended, longestText)
}

// A conference to which nobody was admitted in the end has not begun.
func TestConferenceNotBegun(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxDuration: time.Hour})
	s.broken = errors.New("no answer")
	if got := s.asks(host1, "", asHost); got != string(auth.ReasonRoomUnavailable) {
		t.Fatal(got)
	}
	s.broken = nil
	s.inside = map[string]map[string]bool{}
	s.skips(30 * time.Minute)
	if n := s.records(); n != 0 {
		t.Errorf("%d records are left", n)
	}
	s.enters(host1, asHost)
	s.skips(59 * time.Minute)
	want(t, "ended", s.ended)
}

// What is written down of a room that ended while no usher was there is not about the next conference.
func TestConferenceOfBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxDuration: time.Hour, FirstIsHost: auth.FirstToken})
	s.enters(mem1)
	if err := s.store.Delete(t.Context(), store.KindGrant, grantKey(theRoom, jid.MustParse(mem1))); err != nil {
		t.Fatal(err)
	}
	s.inside = map[string]map[string]bool{}
	s.begins()
	s.skips(59 * time.Minute)
	s.enters(mem2)
	s.skips(59 * time.Minute)
	want(t, "ended", s.ended)
	s.passes(time.Minute)
	want(t, "ended", s.ended, longestText)
}

// A host's token says when the conference ends, also without a rule; it never lengthens it. Others' tokens do not.
func TestConferenceEndsByToken(t *testing.T) {
	t.Parallel()
	ends := func(at time.Time) func(*token.Claims) {
		return func(c *token.Claims) { c.RoomEnds = at }
	}
	for name, rules := range map[string][]auth.Rule{"without a rule": nil, "of two hours": {{Match: "*", MaxDuration: 2 * time.Hour}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, rules...)
			began := s.clock
			s.enters(host1, asHost, ends(began.Add(time.Hour)))
			s.enters(host2, asHost, ends(began.Add(3*time.Hour)))
			s.enters(mem1, ends(began.Add(time.Minute)))
			s.begins()
			s.skips(56 * time.Minute)
			want(t, "said", s.said, "This conference ends in 4 minutes.")
			want(t, "ended early", s.ended)
			s.skips(4 * time.Minute)
			want(t, "ended", s.ended, overText)
		})
	}
}

// What becomes of a room when its last host has left: of newcomers, and of the room.
func TestConferenceHostLeft(t *testing.T) {
	t.Parallel()
	const grace = 5 * time.Minute
	in, waits := "member", string(auth.ReasonHostAbsent)
	for name, test := range map[string]struct {
		then          auth.OnHostLeft
		grace         time.Duration
		within, after string // what a guest is told within the grace and after it
		ends          time.Duration
	}{
		"lock":              {then: auth.LeftLock, within: waits, after: waits},
		"lock, after grace": {then: auth.LeftLock, grace: grace, within: in, after: waits},
		"keep":              {then: auth.LeftKeep, within: in, after: in},
		"end":               {then: auth.LeftEnd, within: waits, after: waits, ends: reloadTakes},
		"end, after grace":  {then: auth.LeftEnd, grace: grace, within: waits, after: waits, ends: grace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, auth.Rule{Match: "*", OnHostLeft: test.then, HostGrace: test.grace})
			if got := s.asks(guest1, ""); got != waits {
				t.Errorf("before a host: %s", got)
			}
			s.enters(host1, asHost)
			s.enters(guest1)
			s.passes(3 * time.Second)
			if got := s.asks(guest2, ""); got != in {
				t.Errorf("beside a host: %s", got)
			}
			s.leaves(host1)
			s.passes(2 * time.Second)
			s.begins()
			if got := s.asks(guest2, ""); got != test.within {
				t.Errorf("within the grace: %s, want %s", got, test.within)
			}
			want(t, "ended early", s.ended)
			// The host comes back, and leaves again.
			s.enters(host1, asHost)
			s.passes(time.Minute)
			want(t, "ended beside a host", s.ended)
			s.leaves(host1)
			if test.ends > 0 {
				s.passes(test.ends)
				want(t, "ended early", s.ended)
				s.passes(3 * time.Second)
				want(t, "ended", s.ended, leftText)
			} else {
				s.passes(grace + 3*time.Second)
				want(t, "ended", s.ended)
			}
			if got := s.asks(guest2, ""); got != test.after {
				t.Errorf("after the grace: %s, want %s", got, test.after)
			}
		})
	}
}

// A room does not end while a host is on the way back.
func TestConferenceHostComes(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", OnHostLeft: auth.LeftEnd, HostGrace: time.Minute})
	s.enters(host1, asHost)
	s.enters(guest1)
	s.passes(2 * time.Second)
	s.leaves(host1)
	s.passes(59 * time.Second)
	if got := s.asks(host2, "", asHost); got != "owner" {
		t.Fatal(got)
	}
	s.passes(20 * time.Second)
	want(t, "ended", s.ended)
	s.joins(host2, true)
	s.passes(2 * time.Minute)
	want(t, "ended", s.ended)
}

// Of equals who come at once, one is host. They are it when they come back, and if they are gone the next one is.
func TestConferenceFirstIsHost(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", FirstIsHost: auth.FirstToken})
	var all sync.WaitGroup
	got := make([]string, 20)
	for n := range got {
		all.Go(func() { got[n] = s.asks(fmt.Sprintf("p%d@meet.example.com", n), fmt.Sprint("machine", n)) })
	}
	all.Wait()
	first := slices.Index(got, "owner")
	slices.Sort(got)
	if got[0] != "member" || got[18] != "member" || got[19] != "owner" {
		t.Fatalf("they are %v", got)
	}
	who := fmt.Sprintf("p%d@meet.example.com", first)
	s.joins(who, true)
	if got := s.asks(mem1, "machine"); got != "member" {
		t.Errorf("beside the first: %s", got)
	}
	s.joins(mem1, false)
	if got := s.asks(who, ""); got != "owner" {
		t.Errorf("the first, inside, asks again: %s", got)
	}
	if got := s.asks("anew@meet.example.com", fmt.Sprint("machine", first)); got != "owner" {
		t.Errorf("the first, with a page loaded anew: %s", got)
	}
	// Neither comes, or both have left.
	s.leaves(who)
	s.leaves("anew@meet.example.com")
	if got := s.asks(guest1, ""); got != string(auth.ReasonHostAbsent) {
		t.Errorf("a guest, without a host: %s", got)
	}
	if got := s.asks(mem2, "other"); got != "owner" {
		t.Errorf("the next one: %s", got)
	}
	s.joins(mem2, true)
	s.begins()
	if got := s.asks(mem1, "machine"); got != "member" {
		t.Errorf("beside the next one, after a restart: %s", got)
	}
	// A host by token leaves the first what they are.
	s.enters(host1, asHost)
	s.leaves(mem2)
	if got := s.asks("last@meet.example.com", ""); got != "member" {
		t.Errorf("beside a host by token: %s", got)
	}
}

// A first host who leaves has the grace to come back in.
func TestConferenceFirstHasGrace(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", FirstIsHost: auth.FirstToken, HostGrace: time.Minute})
	if got := s.asks(mem1, "machine"); got != "owner" {
		t.Fatal(got)
	}
	s.joins(mem1, true)
	s.enters(guest1)
	s.passes(2 * time.Second)
	s.leaves(mem1)
	s.passes(30 * time.Second)
	if got := s.asks(mem2, ""); got != "member" {
		t.Errorf("within the grace: %s", got)
	}
	if got := s.asks("anew@meet.example.com", "machine"); got != "owner" {
		t.Errorf("the first comes back: %s", got)
	}
	s.leaves("anew@meet.example.com") // they never come
	s.passes(32 * time.Second)
	if got := s.asks("next@meet.example.com", ""); got != "owner" {
		t.Errorf("after the grace: %s", got)
	}
}

// Somebody who was host by coming first is nobody special in the next conference, also if usher was killed and the room ended meanwhile.
func TestConferenceFirstOfBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", FirstIsHost: auth.FirstToken})
	if got := s.asks(mem1, "machine"); got != "owner" {
		t.Fatal(got)
	}
	s.joins(mem1, true)
	if err := s.store.Delete(t.Context(), store.KindGrant, grantKey(theRoom, jid.MustParse(mem1))); err != nil {
		t.Fatal(err)
	}
	s.inside = map[string]map[string]bool{}
	s.begins()
	s.skips(time.Hour)
	s.enters(host1, asHost)
	if got := s.asks("anew@meet.example.com", "machine"); got != "member" {
		t.Errorf("beside the host of the next conference: %s", got)
	}
}

// A first host that the room does not take is none.
func TestConferenceFirstFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", FirstIsHost: auth.FirstToken})
	s.broken = errors.New("no answer")
	if got := s.asks(mem1, ""); got == "owner" {
		t.Fatal(got)
	}
	s.broken = nil
	if got := s.asks(mem2, ""); got != "owner" {
		t.Error(got)
	}
}

// Two ushers with one store make one of many the first host.
func TestConferenceFirstOfTwo(t *testing.T) {
	t.Parallel()
	eachShared(t, func(t *testing.T, open func() store.Store) {
		var ushers []*stage
		for range 2 {
			s := newStage(t, auth.Rule{Match: "*", FirstIsHost: auth.FirstToken})
			s.store.Store, s.clock = open(), time.Now()
			s.begins()
			ushers = append(ushers, s)
		}
		var all sync.WaitGroup
		var hosts atomic.Int64
		for n := range 20 {
			all.Go(func() {
				switch got := ushers[n%2].asks(fmt.Sprintf("p%d@meet.example.com", n), fmt.Sprint("machine", n)); got {
				case "owner":
					hosts.Add(1)
				case "member":
				default:
					t.Error(got)
				}
			})
		}
		if all.Wait(); hosts.Load() != 1 {
			t.Errorf("%d are host", hosts.Load())
		}
	})
}

// New rules hold at once, also for conferences that are under way.
func TestConferenceReload(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.enters(host1, asHost)
	s.skips(30 * time.Minute)
	s.enters(mem1)
	s.enters(mem2)
	if n := s.records(); n != 0 {
		t.Errorf("%d records without a rule", n)
	}
	s.reloads(auth.Rule{Match: "*", MaxDuration: time.Hour, MaxOccupants: 2})
	if got := s.asks(guest1, ""); got != string(auth.ReasonRoomFull) {
		t.Errorf("with two inside: %s", got)
	}
	if got := s.asks(host2, "", asHost); got != "owner" {
		t.Errorf("a host: %s", got)
	}
	s.leaves(mem2)
	if got := s.asks(guest1, ""); got != string(auth.ReasonRoomFull) {
		t.Errorf("with two hosts and a member inside: %s", got)
	}
	s.leaves(host2)
	s.leaves(mem1)
	if got := s.asks(guest1, ""); got != "member" {
		t.Errorf("after three have left: %s", got)
	}
	s.skips(26 * time.Minute)
	want(t, "said", s.said, "This conference ends in 4 minutes.")
	s.reloads(auth.Rule{Match: "*", MaxDuration: 2 * time.Hour})
	s.skips(10 * time.Minute)
	want(t, "ended", s.ended)
	s.reloads()
	s.passes(30 * time.Second)
	if n := s.records(); n != 0 {
		t.Errorf("%d records without a rule", n)
	}
}

// Rooms without a rule cost no call of the store and no question.
func TestConferenceCostsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "other", MaxDuration: time.Hour, MaxOccupants: 1})
	s.enters(host1, asHost)
	s.passes(time.Minute)
	if n := s.records(); n != 0 || s.asked != 0 {
		t.Errorf("%d records, asked %d times", n, s.asked)
	}
}

// Nobody is let in without the store where a rule needs it, and nothing is left of the attempt.
func TestConferenceWithoutStore(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]auth.Rule{
		"duration": {Match: "*", MaxDuration: time.Hour},
		"seats":    {Match: "*", MaxOccupants: 1},
		"first":    {Match: "*", FirstIsHost: auth.FirstToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, rule)
			for _, lost := range []cut{{before: errors.New("cut")}, {after: errors.New("cut")}} {
				s.store.before, s.store.after = lost.before, lost.after
				if got := s.asks(mem1, ""); got != string(auth.ReasonStoreUnavailable) {
					t.Error(got)
				}
			}
			s.store.before, s.store.after = nil, nil
			want := "member"
			if rule.FirstIsHost != "" {
				want = "owner"
			}
			if got := s.asks(mem2, ""); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			s.leaves(mem2)
			s.c.ledger.cross(t.Context())
			s.passes(time.Second)
			if n, seats := s.records(), count(t, s.store, store.KindSeat); n != 0 || seats != 0 {
				t.Errorf("%d records and %d seats are left", n, seats)
			}
		})
	}
}

// Seats: as many as the rule says, or the token if that says less, and again after a restart. Who was here before asks again.
func TestConferenceSeats(t *testing.T) {
	t.Parallel()
	s := newStage(t, auth.Rule{Match: "*", MaxOccupants: 3, WaitForHost: auth.NobodyWaits})
	s.enters(host1, asHost)
	if got := s.asks(mem1, "", func(c *token.Claims) { c.MaxOccupants = 1 }); got != string(auth.ReasonRoomFull) {
		t.Errorf("a token for one: %s", got)
	}
	if got := s.asks(mem1, "machine", func(c *token.Claims) { c.MaxOccupants = 30 }); got != "member" {
		t.Errorf("a token for thirty: %s", got)
	}
	s.joins(mem1, false)
	s.enters(guest1)
	full := string(auth.ReasonRoomFull)
	check := func(when string) {
		t.Helper()
		if got := s.asks(guest2, "other"); got != full {
			t.Errorf("%s: %s", when, got)
		}
		if got := s.asks(guest1, ""); got != "member" {
			t.Errorf("%s, who is inside: %s", when, got)
		}
		if got := s.asks("anew@meet.example.com", "machine"); got != string(auth.ReasonRoomUnavailable) {
			t.Errorf("%s, a page loaded anew: %s", when, got)
		}
	}
	check("in a full room")
	s.begins()
	check("after a restart")
	s.clock = s.clock.Add(time.Hour)
	check("later")
	s.leaves(mem1)
	if got := s.asks(guest2, "other"); got != "member" {
		t.Errorf("when one has left: %s", got)
	}
	check2 := s.asks(host2, "", asHost)
	if check2 != "owner" {
		t.Errorf("a host: %s", check2)
	}
}
