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
	"github.com/xmpp-usher/usher/pkg/element"
)

// mapperTimeout is how long a room may take to show how it is spelled.
const mapperTimeout = 3 * time.Second

var errUnspelled = errors.New("muc_domain_mapper is loaded, and Jicofo cannot know the room of a tenant with a name that is no part of a domain")

// mapper finds out whether Jitsi's mod_muc_domain_mapper is at work for a service. With it, Jicofo knows a tenant's room as
// room@conference.acme.meet.example.com only: asked for [acme]room@conference.meet.example.com it enters, does not recognise
// its own presence, and never answers. Without it, only the latter is an address at all.
//
// The module says nothing of itself, and it does nothing with what a component sends, nor with what the service answers
// straight away. It rewrites what a room sends of its own accord. So usher makes a tenant's room of its own, looks how its
// presence comes back, and destroys the room: once for each service and connection, when Jicofo is first to be asked for a
// tenant's room. A setting could be wrong: the module can be loaded and do nothing (no muc_mapper_domain_base).
type mapper struct {
	owner muc.Owner
	jid   jid.JID // full; its node and nick are those of a focus, which muc_meeting_id lets in at once
	log   *repeats

	mu    sync.Mutex
	found map[string]*finding // by service
	rooms map[string]chan<- string
}

// finding is what is known of a service once done is closed.
type finding struct {
	done   chan struct{}
	mapped bool
	err    error
}

func newMapper(o muc.Owner, log *repeats) (*mapper, error) {
	full, err := o.JID.WithResource("mapper")
	m := &mapper{owner: o, jid: full, log: log}
	m.reset()
	return m, err
}

// reset forgets what was found because a new stream begins.
func (m *mapper) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found, m.rooms = make(map[string]*finding), make(map[string]chan<- string)
}

// address returns the address by which Jicofo knows the room, for which a client asked as asked. spell returns the address as
// the clients of its tenant spell it. Where it cannot be found out, the client knows best.
func (m *mapper) address(ctx context.Context, room auth.Room, asked string, spell func(auth.Room) (string, bool)) (string, error) {
	its := room.JID.String()
	if room.Tenant == "" {
		return its, nil
	}
	spelled, ok := spell(room)
	mapped, err := m.maps(ctx, room.Service())
	if err != nil {
		m.log.say(zap.WarnLevel, "whether muc_domain_mapper is loaded could not be seen", "", "", room.JID.Domain(),
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

// maps reports whether the rooms of tenants have other addresses than the service knows. Those who ask at once share the
// answer. What failed is tried again by the next request.
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
		f.mapped, f.err = m.look(ctx, service)
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

// look makes a room and destroys it.
func (m *mapper) look(ctx context.Context, service string) (mapped bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, mapperTimeout)
	defer cancel()
	name := "usher-" + strings.ToLower(rand.Text())
	room, err := jid.Parse("[usher]" + name + "@" + service)
	if err != nil {
		return false, err
	}
	nick, err := room.WithResource(muc.Nick)
	if err != nil {
		return false, err
	}
	said := make(chan string, 1)
	m.mu.Lock()
	rooms := m.rooms
	rooms[name] = said
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(rooms, name)
	}()
	if err := m.owner.Session.Send(stanza.Presence{From: m.jid, To: nick}.Wrap(element.New(muc.NS, "x"))); err != nil {
		return false, err
	}
	select {
	case address := <-said:
		if address == "" {
			return false, fmt.Errorf("%s cannot be created", room)
		}
		_ = m.owner.Destroy(room) // fails if the stream is ending
		return !strings.HasPrefix(address, "["), nil
	case <-ctx.Done():
		_ = m.owner.Destroy(room)
		return false, ctx.Err()
	}
}

// hears takes in a presence for us, by its type and by the sender's address as the server wrote it.
func (m *mapper) hears(typ, from string) {
	local, _, _ := strings.Cut(from, "@")
	name := strings.TrimPrefix(local, "[usher]")
	if typ == "error" {
		from = ""
	} else if typ != "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case m.rooms[name] <- from:
	default:
	}
}
