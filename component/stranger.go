package component

import (
	"context"
	"fmt"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

var errUnguarded = fmt.Errorf("%w: load mod_usher on the MUC service (usher config prosody --module), "+
	"or set rooms.enforcement: members-only", muc.ErrOpen)

// stranger learns whether the server keeps strangers out. Where rooms are not members-only, a module of the server must do that.
// Nothing but an attempt to enter shows whether it is loaded. So a stranger of our own domain tries to enter before anybody is let
// into the first open room of a service on a connection. Where rooms begin as members-only, the first open room is one that an
// owner has opened.
type stranger struct {
	probe *probe // no room knows it
	owner muc.Owner

	mu      sync.Mutex
	refused map[string]string        // by domain of a service: the boot of its module that answered last until then
	trying  map[string]chan struct{} // by room; closed when the attempt is over
}

func newStranger(o muc.Owner) (*stranger, error) {
	bare, err := o.JID.Domain().WithLocal("stranger")
	if err != nil {
		return nil, err
	}
	p, err := newProbe(o.Session, bare, "usher", "stranger")
	return &stranger{probe: p, owner: o, refused: make(map[string]string), trying: make(map[string]chan struct{})}, err
}

// reset forgets what was found out, because the stream has ended.
func (s *stranger) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refused)
}

// tries returns nil if the room's service refuses the stranger, or has done so before. It also returns nil if the room is
// members-only: then an attempt would show nothing. Where usher's module has answered, nothing is tried: it keeps strangers out
// wherever it is loaded. Simultaneous callers share an attempt that succeeds.
func (s *stranger) tries(ctx context.Context, room jid.JID) error {
	if s.owner.Told.Takes(room.Domainpart()) || s.refuses(room) {
		return nil
	}
	is, err := s.owner.Settings(ctx, room)
	if err != nil || is.MembersOnly {
		return err
	}
	over, err := s.begins(ctx, room)
	if err != nil {
		return err
	}
	defer over()
	if s.refuses(room) { // by an attempt that was under way
		return nil
	}
	boot := s.owner.Told.Boot(room.Domainpart())
	said, done, err := s.probe.enter(room)
	if err != nil {
		return err
	}
	defer done()
	select {
	case h := <-said:
		if h.typ != stanza.ErrorPresence {
			s.probe.leave(room)
			return errUnguarded
		}
		if h.err.Condition != stanza.RegistrationRequired {
			return fmt.Errorf("trying whether strangers are kept out: %w", h.err)
		}
	case <-ctx.Done():
		return fmt.Errorf("trying whether strangers are kept out: %w", ctx.Err())
	}
	// If somebody has just made the room members-only, that is what refused.
	if is, err = s.owner.Settings(ctx, room); err != nil || is.MembersOnly {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[room.Domainpart()] = boot
	return nil
}

// refuses reports whether the room's service has refused the stranger. It does not count if usher's module has come and gone since: that
// may be what refused.
func (s *stranger) refuses(room jid.JID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	boot, has := s.refused[room.Domainpart()]
	return has && boot == s.owner.Told.Boot(room.Domainpart())
}

// begins waits until nobody else tries the room. The caller calls over after its attempt.
func (s *stranger) begins(ctx context.Context, room jid.JID) (over func(), err error) {
	key, mine := room.String(), make(chan struct{})
	for {
		s.mu.Lock()
		other := s.trying[key]
		if other == nil {
			s.trying[key] = mine
		}
		s.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("trying whether strangers are kept out: %w", ctx.Err())
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.trying, key)
		close(mine)
	}, nil
}
