package portal

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/store"
)

// Bounds of what is kept. A token has 35 bytes in the record of its session.
const (
	maxSessions = 200 // of a person; one more ends one by which nobody is in a room, if there is one
	maxTokens   = 64  // of a session that have not ended; one more ends the oldest with its bearer in no room
	maxOpened   = 12  // rooms that a session remembers
	maxIDToken  = 6 << 10
)

// stillTaken is how long after its end a token may be taken: the leeway of an issuer, and what minting took.
const stillTaken = 2 * time.Minute

// idLength is the length of a session's id: 132 bits of a hash.
const idLength = 22

// session is a login of one person in one browser, or through the API. Its record in the store has the id for a key, and JSON. The
// cookie's value is not in it.
type session struct {
	ID     string         `json:"-"`
	Person account.Person `json:"person"`
	// Program says that a program has logged in, by Enter: no browser has the session, and it gets no other token.
	Program bool      `json:"program,omitempty"`
	Begun   time.Time `json:"begun"`
	Ends    time.Time `json:"-"` // the end of the record

	// Of a login at a provider; empty otherwise.
	Provider string    `json:"provider,omitempty"`
	Version  string    `json:"version,omitempty"` // of what the configuration said of it
	Subject  string    `json:"subject,omitempty"`
	SID      string    `json:"sid,omitempty"`
	IDToken  string    `json:"id_token,omitempty"` // a hint for the logout there
	Issued   time.Time `json:"-"`                  // of the ID token, while somebody logs in

	Packed []byte   `json:"rooms,omitempty"`  // the person's rooms, if they are too many to be written as they are
	Tokens []minted `json:"tokens,omitempty"` // that may be live, or have somebody inside; the oldest first
	Opened []string `json:"opened,omitempty"` // rooms, the latest first; spelled as in tokens
	// Entered says that somebody has been in a room by a token of the session. Only with Options.UntilHostLeft.
	Entered bool `json:"entered,omitempty"`
	// Over says that the session has ended, and that its tokens are still to be revoked.
	Over bool `json:"over,omitempty"`

	record store.Record // as it was read
}

// minted is a token of a session: what its jti has behind the session's id, and when it expires, in Unix seconds.
type minted struct {
	Tail string `json:"t"`
	Exp  int64  `json:"e"`
}

// errNoSession means that the browser has no live session.
var errNoSession = errors.New("no live session")

// random returns a text of 32 random bytes, in base64url.
func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // which never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashed is how the store names a secret that a browser has.
func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// idOf returns the id of the session of a cookie.
func idOf(cookie string) string { return hashed(cookie)[:idLength] }

// jti returns the id of a token of a session.
func (s session) jti(m minted) string { return s.ID + "." + m.Tail }

// tokens returns the ids of the session's tokens: those that may be live, and those that have ended.
func (s session) tokens(now time.Time) (live, ended []string) {
	for _, m := range s.Tokens {
		if m.Exp+int64(stillTaken/time.Second) > now.Unix() {
			live = append(live, s.jti(m))
		} else {
			ended = append(ended, s.jti(m))
		}
	}
	return live, ended
}

// counting returns the ids of the session's tokens that may be live, or by which somebody is in a room: who is inside may stay there when
// their token ends (on_expiry: keep). What cannot be said counts.
func (p *Portal) counting(ctx context.Context, s session) []string {
	live, ended := s.tokens(p.Now())
	return append(p.withBearer(ctx, ended), live...)
}

// withBearer returns those of some tokens by which somebody is in a room. If that cannot be said, it is all.
func (p *Portal) withBearer(ctx context.Context, tokens []string) []string {
	if len(tokens) == 0 || p.Inside == nil {
		return nil
	}
	inside, err := p.Inside(ctx, tokens)
	if err != nil {
		return tokens
	}
	return inside
}

// write returns the record of a session. A long list of rooms is packed. What would be too long then is left out: an ID token, without which
// the provider asks before it logs out, and rooms that were opened.
func (s session) write() (store.Record, error) {
	if len(s.IDToken) > maxIDToken {
		s.IDToken = ""
	}
	value, err := json.Marshal(s)
	if len(value) > store.MaxValue && err == nil {
		if s.Packed, err = pack(s.Person.Rooms); err == nil {
			s.Person.Rooms = nil
			value, err = json.Marshal(s)
		}
	}
	for ; len(value) > store.MaxValue && len(s.Opened) > 0 && err == nil; value, err = json.Marshal(s) {
		s.Opened = s.Opened[:len(s.Opened)-1]
	}
	if len(value) > store.MaxValue && s.IDToken != "" {
		s.IDToken = ""
		value, err = json.Marshal(s)
	}
	return store.Record{Kind: store.KindLogin, Key: s.ID, Value: value, End: s.Ends}, err
}

func readSession(r store.Record) (session, error) {
	s := session{}
	if err := json.Unmarshal(r.Value, &s); err != nil {
		return session{}, errors.New("the record of a session of the portal cannot be read") // err may quote it
	}
	if len(s.Packed) > 0 {
		var err error
		if s.Person.Rooms, err = unpack(s.Packed); err != nil {
			return session{}, errors.New("the rooms in the record of a session of the portal cannot be read")
		}
		s.Packed = nil
	}
	s.ID, s.Ends, s.record = r.Key, r.End, r
	return s, nil
}

// pack makes a list short, and unpack reads it. Names of many rooms are like each other.
func pack(list []string) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		err = errors.Join(json.NewEncoder(w).Encode(list), w.Close())
	}
	return b.Bytes(), err
}

func unpack(packed []byte) (list []string, err error) {
	err = json.NewDecoder(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxPacked)).Decode(&list)
	return list, err
}

// maxPacked is how long a list may be that is unpacked, in bytes. Deflate makes nothing shorter than a thousandth of it.
const maxPacked = 1024 * store.MaxValue

// sessions are the sessions in a store. Several ushers may have it.
type sessions struct {
	store.Store
	now func() time.Time
}

// get returns the session of an id. The error is errNoSession if there is none that is live.
func (a sessions) get(ctx context.Context, id string) (session, error) {
	r, err := a.Get(ctx, store.KindLogin, id)
	if errors.Is(err, store.ErrNotFound) {
		return session{}, errNoSession
	}
	if err != nil {
		return session{}, err
	}
	s, err := readSession(r)
	if err != nil || s.Over {
		return session{}, errors.Join(errNoSession, err)
	}
	return s, nil
}

// add begins a session.
func (a sessions) add(ctx context.Context, s session) error {
	r, err := s.write()
	if err != nil {
		return err
	}
	_, added, err := a.Add(ctx, r)
	if err == nil && !added {
		err = errors.New("a session has this id already") // by chance: never
	}
	return err
}

// change changes the session of an id as do says, and returns it as it is then. Others may change it meanwhile: then do is asked again.
// The error is errNoSession if it has ended.
func (a sessions) change(ctx context.Context, id string, do func(*session)) (session, error) {
	for {
		s, err := a.get(ctx, id)
		if err != nil {
			return session{}, err
		}
		do(&s)
		r, err := s.write()
		if err != nil {
			return session{}, err
		}
		if swapped, err := a.Swap(ctx, s.record, r); err != nil || swapped {
			s.record = r
			return s, err
		}
	}
}

// all returns the sessions that some reports, also those that are over and have tokens to be revoked. With texts, these are only those that
// have one of them, or are over: to look for a text takes less time than to read a record.
func (a sessions) all(ctx context.Context, some func(session) bool, texts ...string) (found []session, err error) {
	marks := [][]byte{[]byte(`"over":true`)}
	for _, text := range texts {
		if text != "" {
			marks = append(marks, []byte(quoted(text)))
		}
	}
	for r, err := range a.All(ctx, store.KindLogin) {
		if err != nil {
			return found, err
		}
		if len(texts) > 0 && !slices.ContainsFunc(marks, func(mark []byte) bool { return bytes.Contains(r.Value, mark) }) {
			continue
		}
		if s, err := readSession(r); err == nil && some(s) {
			found = append(found, s)
		}
	}
	return found, nil
}

// promise writes down a token before it is minted, so that no token is live that its session does not know of. It returns the id of the
// token, and those of tokens that must be revoked because there are too many.
func (p *Portal) promise(ctx context.Context, at sessions, id, room string, ends time.Time) (jti string, err error) {
	var tail [12]byte
	_, _ = rand.Read(tail[:])
	m := minted{Tail: base64.RawURLEncoding.EncodeToString(tail[:]), Exp: ends.Unix()}
	s, err := at.get(ctx, id)
	if err != nil {
		return "", err
	}
	_, gone := s.tokens(p.Now())
	counting := p.counting(ctx, s)
	gone = slices.DeleteFunc(gone, func(jti string) bool { return slices.Contains(counting, jti) })
	if len(counting) >= maxTokens {
		dropped := p.oldest(ctx, counting)
		if err := p.Revoke(ctx, []string{dropped}, "one token too many"); err != nil {
			return "", err
		}
		gone = append(gone, dropped)
	}
	s, err = at.change(ctx, id, func(s *session) {
		s.Tokens = append(slices.DeleteFunc(s.Tokens, func(m minted) bool { return slices.Contains(gone, s.jti(m)) }), m)
		if room != "" {
			s.Opened = append([]string{room}, slices.DeleteFunc(s.Opened, func(r string) bool { return r == room })...)
			s.Opened = s.Opened[:min(len(s.Opened), maxOpened)]
		}
	})
	return s.jti(m), err
}

// oldest returns the oldest of a session's tokens by which nobody is in a room; the oldest of all if there is none.
func (p *Portal) oldest(ctx context.Context, tokens []string) string {
	inside := p.withBearer(ctx, tokens)
	for _, jti := range tokens {
		if !slices.Contains(inside, jti) {
			return jti
		}
	}
	return tokens[0]
}

// end ends a session: it counts no more, then its tokens are revoked, then it is gone. After an error its tokens may be live. Then the
// record stays, and the next end, login or reload tries again.
func (p *Portal) end(ctx context.Context, at sessions, id, why string) error {
	s, err := at.change(ctx, id, func(s *session) { s.Over = true })
	if errors.Is(err, errNoSession) {
		var r store.Record
		if r, err = at.Get(ctx, store.KindLogin, id); err == nil {
			s, err = readSession(r)
		}
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("end a session of the portal: %w", err)
	}
	return p.settle(ctx, at, s, why)
}

// settle revokes the tokens of a session that is over.
func (p *Portal) settle(ctx context.Context, at sessions, s session, why string) error {
	if tokens := p.counting(ctx, s); len(tokens) > 0 {
		slices.Reverse(tokens) // somebody is more likely to be in a room by the latest
		if err := p.Revoke(ctx, tokens, why); err != nil {
			return fmt.Errorf("revoke the tokens of a session that has ended: %w", err)
		}
	}
	return at.Delete(ctx, store.KindLogin, s.ID)
}

// endAll ends the sessions that which reports, and settles those that are over. Texts are as for sessions.all.
func (p *Portal) endAll(ctx context.Context, at sessions, why string, which func(session) bool, texts ...string) error {
	found, err := at.all(ctx, func(s session) bool { return s.Over || which(s) }, texts...)
	errs := make([]error, len(found))
	var ending errgroup.Group
	ending.SetLimit(8)
	for i, s := range found {
		ending.Go(func() error {
			if s.Over {
				errs[i] = p.settle(ctx, at, s, why)
			} else {
				errs[i] = p.end(ctx, at, s.ID, why)
			}
			return nil
		})
	}
	_ = ending.Wait()
	return errors.Join(append(errs, err)...)
}

// begin begins a session, and ends another one of the person if there are too many.
func (p *Portal) begin(ctx context.Context, at sessions, s session) error {
	others, err := at.all(ctx, func(o session) bool { return o.Over || o.Person.ID == s.Person.ID }, s.Person.ID)
	if err != nil {
		return err
	}
	live := slices.DeleteFunc(slices.Clone(others), func(o session) bool { return o.Over })
	for _, o := range others {
		if !o.Over {
			continue
		}
		if err := p.settle(ctx, at, o, "its session has ended"); err != nil {
			p.Log.Warn("the tokens of a session that has ended are still to be revoked", zap.Error(err))
		}
	}
	if many := len(live) - maxSessions + 1; many > 0 {
		p.sparable(ctx, live)
		for _, o := range live[:many] {
			if err := p.end(ctx, at, o.ID, "one login too many"); err != nil {
				return err
			}
		}
	}
	return at.add(ctx, s)
}

// sparable sorts sessions of a person by how little is lost with them: first those of programs with a token that has ended, then those by which
// nobody is in a room, the oldest first. Many people may log in as one: a school with one account, or a program that does so for each host.
func (p *Portal) sparable(ctx context.Context, all []session) {
	used, err := p.inUse(ctx, all)
	if err != nil {
		used = nil // the oldest go
	}
	rank := func(s session) int {
		live, _ := s.tokens(p.Now())
		switch {
		case used[s.ID]:
			return 2
		case !s.Program || len(live) > 0:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b session) int { return cmp.Or(rank(a)-rank(b), a.Begun.Compare(b.Begun)) })
}

// inUse returns the ids of those sessions by the tokens of which somebody is in a room.
func (p *Portal) inUse(ctx context.Context, all []session) (map[string]bool, error) {
	used := make(map[string]bool)
	if p.Inside == nil {
		return used, nil
	}
	var tokens []string
	for _, s := range all {
		live, ended := s.tokens(p.Now())
		tokens = append(append(tokens, ended...), live...)
	}
	inside, err := p.Inside(ctx, tokens)
	for _, jti := range inside {
		id, _ := ofToken(jti)
		used[id] = true
	}
	return used, err
}

// ofToken returns the id of the session that a token is of, by its jti.
func ofToken(jti string) (id string, ok bool) {
	id, tail, ok := strings.Cut(jti, ".")
	return id, ok && len(id) == idLength && tail != ""
}
