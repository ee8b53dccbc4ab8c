package component

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
)

// mapperTimeout is how long a room may take to show how it is spelled.
const mapperTimeout = 3 * time.Second

var errUnspelled = errors.New("muc_domain_mapper is loaded, and Jicofo cannot know the room of a tenant with a name that is no part of a domain")

// mapper learns whether Jitsi's mod_muc_domain_mapper is at work for a service. With it, Jicofo knows a tenant's room as
// room@conference.acme.meet.example.com only: asked for [acme]room@conference.meet.example.com it enters, does not recognise
// its own presence, and never answers. Without it, only the latter is an address at all.
//
// The module tells nobody that it is loaded. It does nothing with what a component sends, nor with what the service answers
// immediately; it rewrites what a room sends on its own account. So usher makes a tenant's room of its own, looks at how its
// presence comes back, and destroys the room: once for each service and connection, before Jicofo is first asked for a tenant's
// room. A setting instead could be wrong: the module can be loaded and do nothing (no muc_mapper_domain_base).
type mapper struct {
	probe *probe // its node and nick are those of a focus, which muc_meeting_id lets in at once
	owner muc.Owner
	log   *repeats

	mu    sync.Mutex
	found map[string]*finding // by service
}

// finding is what is known of a service once done is closed.
type finding struct {
	done   chan struct{}
	mapped bool
	err    error
}

func newMapper(o muc.Owner, log *repeats) (*mapper, error) {
	p, err := newProbe(o.Session, o.JID, "mapper", muc.Nick)
	return &mapper{probe: p, owner: o, log: log, found: make(map[string]*finding)}, err
}

// reset forgets what was found, because the stream has ended.
func (m *mapper) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = make(map[string]*finding)
}

// address returns the address by which Jicofo knows the room. asked is how the client spells it, and spell returns how the clients
// of its tenant do. If mapper cannot learn which of the two it is, the client's spelling decides.
func (m *mapper) address(ctx context.Context, room auth.Room, asked string, spell func(auth.Room) (string, bool)) (string, error) {
	its := room.JID.String()
	if room.Tenant == "" {
		return its, nil
	}
	spelled, ok := spell(room)
	mapped, err := m.maps(ctx, room.Service())
	if err != nil {
		m.log.say(zap.WarnLevel, "could not find out whether muc_domain_mapper is loaded", "", "", room.JID.Domain(),
			zap.String("service", room.Service()), zap.Error(err))
		mapped = !strings.HasPrefix(asked, "[")
	}
	switch {
	case !mapped:
		return its, nil
	case !ok:
		return "", errUnspelled
	}
	return spelled, nil
}

// maps reports whether the rooms of tenants have other addresses than the service knows. Simultaneous callers share the answer.
// After a failure the next request tries again.
func (m *mapper) maps(ctx context.Context, service string) (bool, error) {
	m.mu.Lock()
	f := m.found[service]
	mine := f == nil
	if mine {
		f = &finding{done: make(chan struct{})}
		m.found[service] = f
	}
	m.mu.Unlock()
	if mine {
		f.mapped, f.err = m.tries(ctx, service)
		m.mu.Lock()
		if f.err != nil && m.found[service] == f {
			delete(m.found, service)
		}
		m.mu.Unlock()
		close(f.done)
	}
	select {
	case <-f.done:
		return f.mapped, f.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// tries makes a room and destroys it.
func (m *mapper) tries(ctx context.Context, service string) (mapped bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, mapperTimeout)
	defer cancel()
	room, err := jid.Parse("[usher]usher-" + strings.ToLower(rand.Text()) + "@" + service)
	if err != nil {
		return false, err
	}
	said, done, err := m.probe.enter(room)
	if err != nil {
		return false, err
	}
	defer done()
	select {
	case h := <-said:
		if h.typ == stanza.ErrorPresence {
			return false, fmt.Errorf("%s cannot be created", room)
		}
		_ = m.owner.Destroy(room) // fails if the stream is ending
		return !strings.HasPrefix(h.from, "["), nil
	case <-ctx.Done():
		_ = m.owner.Destroy(room)
		return false, ctx.Err()
	}
}
